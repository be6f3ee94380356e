//! Sources of facts about an uplink: one file a source, behind one trait, in one table.
//!
//! Providers only gather facts. They set neither addresses nor routes; that is policy's and the kernel layer's work.
#![forbid(unsafe_code)]

pub mod builtin;
mod fixed;

use narrowgate_model::config::{ProviderKind, Uplink};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Mark, Time};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Somebody who knows about an uplink. The caller owns clock and event loop; nothing here blocks.
///
/// After every call but the pure look-ups, [`facts`](Self::facts) and [`next_timeout`](Self::next_timeout) may have changed, and
/// so may the set of descriptors.
pub trait Provider {
    /// What is known now.
    fn facts(&self) -> &Facts;
    /// To be called when the device appears, changes (flags, carrier, address, MTU) or vanishes (`None`), and once at the
    /// start. True: the facts have changed.
    fn on_link(&mut self, link: Option<&Link>, now: Time) -> bool;
    /// To be called with all addresses of the device when one of them has changed: a link-local one to ask from, the
    /// outcome of duplicate address detection. True: the facts have changed.
    fn on_addresses(&mut self, addresses: &[Address], now: Time) -> bool;
    /// Adds the descriptors to poll(2) for reading. Errors and hang-ups count as readable.
    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>);
    /// Reads whatever there is. True: the facts have changed.
    fn on_readable(&mut self, now: Time) -> bool;
    /// To be called at [`next_timeout`](Self::next_timeout) or later; earlier does no harm. True: the facts have changed.
    fn on_timer(&mut self, now: Time) -> bool;
    /// When [`on_timer`](Self::on_timer) wants to be called next.
    fn next_timeout(&self) -> Option<Time>;
    /// Whether there has been time enough, since the start, to learn what there is: until then what an earlier run has
    /// left on the device may still be true, though the facts do not say so.
    fn settled(&self, now: Time) -> bool;
    /// Gives back what is lent, while the addresses are still set. The facts are empty afterwards.
    fn stop(&mut self, now: Time);
    /// Its name in the config.
    fn kind(&self) -> &'static str;
    /// More for `status`: pairs of a name and a text.
    fn describe(&self, now: Time) -> Vec<(String, String)>;
}

/// The provider for an uplink, by its kind. Sockets of its own carry `mark`; what must outlive a reboot is kept in
/// `state_dir`. Nothing is sent before [`Provider::on_link`] has told of a carrier.
///
/// Errors: `Unsupported` for kinds that are not there yet.
pub fn open(uplink: &Uplink, mark: Mark, state_dir: &Path, now: Time) -> io::Result<Box<dyn Provider>> {
    match uplink.provider {
        ProviderKind::Auto | ProviderKind::Builtin => {
            Ok(Box::new(builtin::Builtin::new(uplink, mark, state_dir, now)))
        }
        ProviderKind::Static => Ok(Box::new(fixed::Fixed::new(uplink))),
        ProviderKind::Netifd => Err(not_yet(uplink, "netifd")),
        ProviderKind::Networkd => Err(not_yet(uplink, "networkd")),
    }
}

fn not_yet(uplink: &Uplink, kind: &str) -> io::Error {
    let text = format!(
        "uplink '{}': provider '{kind}' is not built yet; use 'builtin', and take {} away from {kind}",
        uplink.name, uplink.device
    );
    io::Error::new(io::ErrorKind::Unsupported, text)
}
