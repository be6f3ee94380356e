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

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::Time;
use narrowgate_model::net::{Route, Rule};
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
fn describe(step: &Step) -> String {
    let route = |r: &Route| format!("route {} metric {} in table {}", r.dst, r.metric, r.table);
    let rule = |r: &Rule| format!("IPv{} rule {}", if r.ipv6 { 6 } else { 4 }, r.priority);
    match step {
        Step::SetLink { name, up } => format!("switching {name} {}", if *up { "on" } else { "off" }),
        Step::AddAddress(a) => format!("adding address {} to device {}", a.prefix, a.link),
        Step::RemoveAddress(a) => format!("removing address {} from device {}", a.prefix, a.link),
        Step::AddRoute(r) => format!("adding {}", route(r)),
        Step::RemoveRoute(r) => format!("removing {}", route(r)),
        Step::AddRule(r) => format!("adding {}", rule(r)),
        Step::RemoveRule(r) => format!("removing {}", rule(r)),
        Step::SetGuard(_) => "loading the guard".to_owned(),
        Step::RemoveGuard => "removing the guard".to_owned(),
        Step::SetSysctl { path, .. } => format!("setting sysctl {path}"),
    }
}
