//! The kernel as the rest of the program sees it: something to [observe](Kernel::observe), and to [apply](Kernel::apply)
//! steps to. [`Real`] is Linux, over rtnetlink, nftables' own netlink socket and `/proc/sys`; [`Fake`] is a model of it in
//! memory, for the tests of whoever makes the steps.
//!
//! Nothing here decides anything, and nothing here remembers what it did: what is there is what the kernel says.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std)]

#[macro_use]
extern crate alloc;

pub mod cgroup;
pub mod conntrack;
mod error;
mod events;
mod fake;
mod nft;
mod real;
mod renamed;
mod rtnl;
pub mod sockets;
mod sysctl;
pub mod text;

pub use error::Error;
pub use events::Events;
pub use fake::Fake;
pub use nft::{Capabilities, Counter, SetSize};
pub use real::Real;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use narrowgate_model::Time;
use narrowgate_model::state::{Observed, Step};

/// What to look at. Links, rules and our tables in nftables are always looked at, and whatever has our protocol number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// The WAN table: all its routes.
    pub table: u32,
    /// The uplinks' devices: their addresses, and the routes over them in any table but `local`.
    pub devices: Vec<String>,
    /// Paths below `/proc/sys/`, with slashes.
    pub sysctls: Vec<String>,
}

/// A kernel.
pub trait Kernel {
    /// What is there. Lifetimes, which the kernel counts down, are turned into moments by `now`, to the second. Sysctls and
    /// devices that do not exist are left out.
    fn observe(&mut self, scope: &Scope, now: Time) -> Result<Observed, Error>;

    /// Makes one change. What is so already, or gone already, is no error. A failed step has changed nothing.
    fn apply(&mut self, step: &Step, now: Time) -> Result<(), Error>;
}

/// What a step does, for an error.
struct Described<'a>(&'a Step);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if matches!(self.0, Step::AddRoute(_) | Step::AddRule(_)) { "adding" } else { "removing" };
        match self.0 {
            Step::SetLink { name, up } => write!(f, "switching {name} {}", if *up { "on" } else { "off" }),
            Step::AddAddress(a) => write!(f, "adding address {} to device {}", a.prefix, a.link),
            Step::RemoveAddress(a) => write!(f, "removing address {} from device {}", a.prefix, a.link),
            Step::AddRoute(r) | Step::RemoveRoute(r) => {
                write!(f, "{verb} route {} metric {} in table {}", r.dst, r.metric, r.table)
            }
            Step::AddRule(r) | Step::RemoveRule(r) => {
                write!(f, "{verb} IPv{} rule {}", if r.ipv6 { 6 } else { 4 }, r.priority)
            }
            Step::SetGuard(_) => f.write_str("loading the guard"),
            Step::RemoveGuard => f.write_str("removing the guard"),
            Step::SetSysctl { path, .. } => write!(f, "setting sysctl {path}"),
        }
    }
}
