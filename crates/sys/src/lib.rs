//! The one room with unsafe code: what only a system call can do, behind functions that cannot be misused.
//! Each file is one kind of kernel object; each `unsafe` block says why it is sound.
//!
//! Also what the program has in place of the standard library: `io`, `fs`, `path`, `env`, `time`, `process`, `runtime`, called as there.
#![cfg_attr(not(test), no_std)]

#[macro_use]
extern crate alloc;

pub mod bpf;
pub mod cgroup;
pub mod channel;
pub mod datagrams;
pub mod env;
pub mod file;
pub mod fs;
pub mod io;
pub mod link;
pub mod memory;
pub mod netlink;
pub mod packet;
pub mod path;
pub mod process;
pub mod runtime;
pub mod sandbox;
pub mod signal;
pub mod socket;
pub mod spawn;
#[cfg(feature = "std")]
mod std_bridge;
pub mod time;
