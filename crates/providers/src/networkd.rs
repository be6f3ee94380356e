//! The `networkd` provider: what systemd-networkd knows of an uplink. DNS servers come from its state files, routes from the
//! kernel, where it has put them: the files do not have the IPv6 ones.

use crate::auto::Claim;
use crate::foreign::{Foreign, Source, Told};
use alloc::{
    borrow::ToOwned,
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};
use narrowgate_model::Time;
use narrowgate_model::config::{ProviderKind, Uplink};
use narrowgate_model::facts::Origin;
use narrowgate_model::net::Link;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_wire::networkd::{Lease, LinkState, lease, link_state};

/// The provider of one uplink. Watches the state files in `dir`, which need not be there yet.
pub fn open(uplink: &Uplink, dir: &Path, now: Time) -> Foreign {
    let networkd =
        Networkd { device: uplink.device.clone(), dir: dir.to_owned(), state: None, lease: Lease::default() };
    Foreign::new(uplink, Box::new(networkd), now)
}

struct Networkd {
    device: String,
    dir: PathBuf,
    state: Option<LinkState>,
    lease: Lease,
}

impl Source for Networkd {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Networkd
    }

    fn origin(&self) -> Origin {
        Origin::Networkd
    }

    fn dirs(&self) -> Vec<PathBuf> {
        [LINKS, LEASES].iter().map(|part| self.dir.join(part)).collect()
    }

    fn ask(&mut self, link: Option<&Link>, _: bool, _: Time) {
        let index = link.map(|link| link.index.to_string());
        let file = |part: &str| narrowgate_sys::fs::read(self.dir.join(part).join(index.as_ref()?)).ok();
        self.state = file(LINKS).map(|text| link_state(&text));
        self.lease = file(LEASES).map(|text| lease(&text)).unwrap_or_default();
    }

    fn told(&self) -> Result<Told, String> {
        match &self.state {
            None => Err(format!("systemd-networkd tells nothing about {}", self.device)),
            Some(state) if !state.managed() => Err(format!(
                "systemd-networkd does not manage {} ({}): write a .network file",
                self.device, state.admin
            )),
            Some(state) => Ok(Told {
                dns: state.dns.iter().chain(&self.lease.dns).cloned().collect(),
                search: state.search.iter().chain(&self.lease.search).cloned().collect(),
                ..Told::default()
            }),
        }
    }

    fn claim(&self) -> Claim {
        let Some(state) = self.state.as_ref().filter(|state| state.managed()) else { return Claim::None };
        let file = state.network_file.as_deref().unwrap_or("a file of its own");
        Claim::Managed(format!("systemd-networkd manages {} by {file}", self.device))
    }

    fn done(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.admin == "configured")
    }

    fn describe(&self, out: &mut Vec<(String, String)>) {
        if let Some(state) = &self.state {
            let file = state.network_file.as_deref().unwrap_or("no .network file");
            out.push(("networkd".to_owned(), format!("{}, {} ({file})", state.admin, state.oper)));
        }
    }

    fn mend(&self) -> (String, String) {
        ("systemd-networkd".to_owned(), "set RouteTable=1 in its .network file".to_owned())
    }

    fn stop(&mut self) {
        self.state = None;
    }
}

const LINKS: &str = "links";
const LEASES: &str = "leases";
