//! The `hook` provider: what hooks of other managers (dhcpcd, ifupdown, a DHCP client's script) hand over in files. Routes come
//! from the files and from the kernel, where the manager may have put some.
//!
//! The files are `DEVICE.conf` and `DEVICE:WORD.conf`, in the order of their names: one for each part of the manager that speaks for
//! itself. They come by rename(2).

use crate::auto::Claim;
use crate::foreign::{Foreign, Source, Told};
use alloc::{borrow::ToOwned, boxed::Box, string::String, vec::Vec};
use narrowgate_model::Time;
use narrowgate_model::config::{ProviderKind, Uplink};
use narrowgate_model::facts::Origin;
use narrowgate_model::net::Link;
use narrowgate_model::sort::sort;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_wire::handed::{Handed, parse};

/// The provider of one uplink. `dir` is made if it is not there, so that it can be watched.
pub fn open(uplink: &Uplink, dir: &Path, now: Time) -> Foreign {
    let _ = narrowgate_sys::fs::create_dir_all(dir);
    let hook = Hook { device: uplink.device.clone(), dir: dir.to_owned(), files: Vec::new() };
    Foreign::new(uplink, Box::new(hook), now)
}

struct Hook {
    device: String,
    dir: PathBuf,
    files: Vec<(String, Handed)>,
}

impl Hook {
    fn manager(&self) -> &str {
        self.files.iter().find_map(|(_, handed)| handed.manager.as_deref()).unwrap_or("a hook")
    }

    /// Whether a file is about our device.
    fn is_about_us(&self, name: &str) -> bool {
        let rest = name.strip_suffix(".conf").and_then(|name| name.strip_prefix(self.device.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }
}

impl Source for Hook {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Hook
    }

    fn origin(&self) -> Origin {
        Origin::Hook
    }

    fn dirs(&self) -> Vec<PathBuf> {
        vec![self.dir.clone()]
    }

    fn ask(&mut self, _: Option<&Link>, _: bool, _: Time) {
        let entries = narrowgate_sys::fs::names_in(&self.dir).unwrap_or_default();
        let mut names: Vec<String> =
            entries.into_iter().filter_map(|name| String::from_utf8(name.into_vec()).ok()).collect();
        names.retain(|name| self.is_about_us(name));
        sort(&mut names);
        names.truncate(MAX_FILES);
        let read = |name: String| {
            let mut text = narrowgate_sys::file::read(self.dir.join(&name)).ok()?;
            text.truncate(MAX);
            Some((name, parse(&text)))
        };
        self.files = names.into_iter().filter_map(read).collect();
    }

    fn told(&self) -> Result<Told, String> {
        let (dir, device) = (self.dir.display(), &self.device);
        if self.files.is_empty() {
            return Err(format!("nobody has handed over {dir}/{device}.conf: is the hook installed?"));
        }
        let mut told = Told::default();
        for (name, handed) in &self.files {
            told.dns.extend_from_slice(&handed.dns);
            told.search.extend_from_slice(&handed.search);
            told.routes.extend_from_slice(&handed.routes);
            told.portal = told.portal.or_else(|| handed.portal.clone());
            if handed.garbage > 0 {
                told.problem = Some(format!("{dir}/{name}: {} lines mean nothing", handed.garbage));
            }
        }
        Ok(told)
    }

    fn claim(&self) -> Claim {
        match self.files.first() {
            None => Claim::None,
            Some((name, _)) => Claim::Managed(format!(
                "{} manages {} and has handed over {}/{name}",
                self.manager(),
                self.device,
                self.dir.display()
            )),
        }
    }

    fn done(&self) -> bool {
        self.files.iter().any(|(_, handed)| !handed.dns.is_empty())
    }

    fn describe(&self, out: &mut Vec<(String, String)>) {
        let names: Vec<&str> = self.files.iter().map(|(name, _)| name.as_str()).collect();
        if !names.is_empty() {
            out.push((
                "handed".to_owned(),
                format!("{} by {}", narrowgate_model::join(&names, " "), self.manager()),
            ));
        }
    }

    fn mend(&self) -> (String, String) {
        let mend = "tell it not to (dhcpcd: `nogateway`; ifupdown: `narrowgate-gateway` in the place of `gateway`; dhclient cannot)";
        (self.manager().to_owned(), mend.to_owned())
    }

    fn stop(&mut self) {
        self.files.clear();
    }
}

/// How many files are read, and how many bytes of each.
const MAX_FILES: usize = 8;
const MAX: usize = 65536;
