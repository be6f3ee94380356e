//! The kernel as the rest of the program sees it: something to [observe](Kernel::observe), and to [apply](Kernel::apply)
//! steps to. [`Real`] is Linux, over rtnetlink, nftables' own netlink socket and `/proc/sys`; [`Fake`] is a model of it in
//! memory, for the tests of whoever makes the steps.
//!
//! Nothing here decides anything, and nothing here remembers what it did: what is there is what the kernel says.
#![forbid(unsafe_code)]

pub mod cgroup;
mod error;
mod fake;
mod nft;
mod real;
mod rtnl;
mod sysctl;
pub mod text;

pub use error::Error;
pub use fake::Fake;
pub use nft::{Capabilities, Counter};
pub use real::{Events, Real};

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
