//! Sources of facts about an uplink: one file a source, behind one trait, in one table.
//!
//! Each but `static` is a Cargo feature, so that a router's program need not hold what only a host needs.
//! Providers only gather facts. They set neither addresses nor routes; that is policy's and the kernel layer's work.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[macro_use]
extern crate alloc;

pub mod auto;
#[cfg(feature = "builtin")]
pub mod builtin;
mod fixed;
#[cfg(any(feature = "networkd", feature = "networkmanager", feature = "hook"))]
mod foreign;
#[cfg(feature = "hook")]
pub mod hook;
#[cfg(feature = "netifd")]
pub mod netifd;
#[cfg(feature = "networkd")]
pub mod networkd;
#[cfg(feature = "networkmanager")]
pub mod networkmanager;

use alloc::{borrow::ToOwned, boxed::Box, string::String, vec::Vec};
use narrowgate_model::config::{ProviderKind, Uplink};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Mark, Time};
use narrowgate_sys::io;
use narrowgate_sys::path::{Path, PathBuf};
use rustix::fd::BorrowedFd;

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

/// Where the managers are found. Others than the system's are for tests.
#[derive(Debug, Clone)]
pub struct Places {
    /// ubusd's sockets, the first that is there: since OpenWrt 21.02, and before.
    pub ubus: Vec<PathBuf>,
    /// networkd's state files.
    pub networkd: PathBuf,
    /// Gluon's files with the names of uplinks, one a line.
    pub gluon: PathBuf,
    /// NetworkManager's state files.
    pub networkmanager: PathBuf,
    /// NetworkManager's program.
    pub nmcli: PathBuf,
    /// What hooks hand over: the directory `uplink` in the runtime directory.
    pub handed: PathBuf,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            ubus: vec!["/var/run/ubus/ubus.sock".into(), "/var/run/ubus.sock".into()],
            networkd: NETWORKD.into(),
            gluon: "/lib/gluon/wan-dnsmasq/interface.d".into(),
            networkmanager: NETWORKMANAGER.into(),
            nmcli: "nmcli".into(),
            handed: "/run/narrowgate/uplink".into(),
        }
    }
}

/// The provider for an uplink, by its kind. Sockets of its own carry `mark`; what must outlive a reboot is kept in
/// `state_dir`, what hooks hand over is looked for in `runtime_dir`. Nothing is sent before [`Provider::on_link`] has told of a carrier.
///
/// Errors: the build is without this kind, which the config's reader has refused before. A provider that cannot work says so in
/// [`Provider::describe`] and goes on trying.
pub fn open(
    uplink: &Uplink,
    mark: Mark,
    state_dir: &Path,
    runtime_dir: &Path,
    now: Time,
) -> io::Result<Box<dyn Provider>> {
    let places = Places { handed: runtime_dir.join("uplink"), ..Places::default() };
    Ok(match uplink.provider {
        ProviderKind::Auto => Box::new(auto::Auto::new(uplink, mark, state_dir, places, now)),
        ProviderKind::Static => Box::new(fixed::Fixed::new(uplink)),
        #[cfg(feature = "builtin")]
        ProviderKind::Builtin => Box::new(builtin::Builtin::new(uplink, mark, state_dir, now)),
        #[cfg(feature = "netifd")]
        ProviderKind::Netifd => Box::new(netifd::Netifd::new(uplink, &places, now)),
        #[cfg(feature = "networkd")]
        ProviderKind::Networkd => Box::new(networkd::open(uplink, &places.networkd, now)),
        #[cfg(feature = "networkmanager")]
        ProviderKind::NetworkManager => {
            Box::new(networkmanager::open(uplink, &places.networkmanager, &places.nmcli, now))
        }
        #[cfg(feature = "hook")]
        ProviderKind::Hook => Box::new(hook::open(uplink, &places.handed, now)),
        #[cfg(not(all(
            feature = "builtin",
            feature = "netifd",
            feature = "networkd",
            feature = "networkmanager",
            feature = "hook"
        )))]
        _ => return Err(io::Error::other("this build is without its provider")),
    })
}

/// One more for [`Provider::describe`].
#[inline(never)]
pub(crate) fn tell(out: &mut Vec<(String, String)>, name: &str, text: String) {
    out.push((name.to_owned(), text));
}

const NETWORKD: &str = "/run/systemd/netif";
const NETWORKMANAGER: &str = "/run/NetworkManager/devices";
