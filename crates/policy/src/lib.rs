//! Config and facts become the desired state; its difference to the observed one becomes an ordered plan. No I/O, no clock.
//!
//! Read in the order of the flow: `desired` (with `routes`, `rules`, `guard`, `strict`, `egress`, whose rules are tables of `rows`), `diff`, `teardown`; `upstreams` is what
//! the forwarder gets. [`lookup`] and [`verdict`] are models of what the kernel then does with a packet: the tests prove the
//! policy by them, and `explain` tells people by them. What every rule of the guard is for: docs/policy.md.
//!
//! What has a hundred values at hand is `inline(never)`: in a frame of its own offsets are short, and the program is smaller.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[macro_use]
extern crate alloc;

mod describe;
mod desired;
mod diff;
mod egress;
mod guard;
mod housekeeping;
pub mod lookup;
mod routes;
mod rows;
mod rules;
mod strict;
mod teardown;
mod upstreams;
pub mod verdict;

pub use describe::describe;
pub use desired::{Capabilities, Inputs, desired, scope_devices, sysctl_paths};
pub use diff::diff;
pub use teardown::{give_back, remember, teardown};
pub use upstreams::{ip_versions, resolver_state, upstreams};
