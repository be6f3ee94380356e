//! The one room with unsafe code: what only a system call can do, behind functions that cannot be misused.
//! Each file is one kind of kernel object; each `unsafe` block says why it is sound.

pub mod bpf;
pub mod cgroup;
pub mod channel;
pub mod datagrams;
pub mod file;
pub mod link;
pub mod memory;
pub mod netlink;
pub mod packet;
pub mod process;
pub mod sandbox;
pub mod signal;
pub mod socket;
pub mod spawn;
