//! What the config says where the command line says nothing: the mark, and where the WAN resolver listens.

use super::options::Options;
use super::{Refusal, refuse};
use crate::cli::Globals;
use crate::config_file;
use narrowgate_sys::fs;
use narrowgate_sys::io::ErrorKind;
use rustix::fs::OFlags;

/// Fills in what the options leave open. A config is not needed: where none is, or this user may not read it, the defaults stay.
///
/// # Errors
/// A config that is wrong, or that was named and cannot be read: to guess the mark would send the command's packets to the guard.
pub(super) fn fill(options: &mut Options, globals: &Globals) -> Result<(), Refusal> {
    let dns_is_known = options.no_dns || !options.resolvers.is_empty();
    if options.mark.is_some() && dns_is_known {
        return Ok(());
    }
    let path = &globals.config;
    if *path == Globals::default().config
        && let Err(error) = fs::open(path, OFlags::RDONLY, 0)
        && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
    {
        return Ok(());
    }
    let config = config_file::load(path).map_err(|problems| {
        let first = problems.into_iter().next().unwrap_or_default();
        refuse(format_args!("config: {first}; or say --mark, and --resolver or --no-dns, and it is not read"))
    })?;
    options.mark.get_or_insert(config.mark);
    if !dns_is_known && let Some(resolver) = config.uplink_resolvers().next() {
        for v6 in [false, true] {
            let first = resolver.listen.iter().find(|addr| addr.is_ipv6() == v6);
            options.resolvers.extend(first);
        }
    }
    Ok(())
}
