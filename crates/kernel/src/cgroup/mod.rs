//! Programs attached to a cgroup: every socket that its processes make is marked, and their DNS goes to the WAN resolver.
//! They reach static programs, raw system calls and io_uring alike, and the processes need no privilege.
//!
//! They stay attached when the process that attached them ends, so a tunnel's sockets are marked although the daemon has
//! crashed; the next [`attach`] replaces them.

pub(crate) mod asm;
mod dns;
mod mark;
mod service;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{SocketAddrV4, SocketAddrV6};
use dns::Resolvers;
use narrowgate_model::{Gather, Mark};
use narrowgate_sys::bpf::{self, Hook, LoadError};
use narrowgate_sys::io;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub use service::{Seen, Service};

/// What the programs shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Programs {
    /// What sockets of AF_INET and AF_INET6 are marked with when they are made.
    pub mark: Option<Mark>,
    /// Where DNS over IPv4 goes. Where one family has a resolver and the other has none, the other's DNS is refused,
    /// unless it can be sent to the one there is.
    pub resolver4: Option<SocketAddrV4>,
    /// Where DNS over IPv6 goes.
    pub resolver6: Option<SocketAddrV6>,
}

/// What [`attach`] attached. Dropping it leaves the programs where they are.
#[derive(Debug)]
pub struct Attached {
    programs: Vec<(Hook, OwnedFd)>,
}

/// Attaches the programs to a cgroup, in place of those that an earlier call attached there; other people's stay. Sockets
/// that exist already keep their mark, or their want of one.
///
/// # Errors
/// Without CAP_BPF and CAP_NET_ADMIN, or on a kernel without CONFIG_CGROUP_BPF. Nothing is attached then.
#[inline(never)]
pub fn attach(cgroup: BorrowedFd<'_>, programs: &Programs) -> Result<Attached, AttachError> {
    // All are loaded before the first is attached, so that a refusal changes nothing.
    let programs = load(programs)?;
    let mut attached = Attached { programs: Vec::new() };
    let old = ours(cgroup)?;
    for (hook, program) in programs {
        if let Err(error) = bpf::attach(cgroup, program.as_fd(), hook) {
            attached.detach(cgroup);
            return Err(AttachError { what: "attach to the cgroup", error, log: String::new() });
        }
        attached.programs.push((hook, program));
    }
    // Old and new together do what the new ones do, so the order leaves no gap.
    Attached { programs: old }.detach(cgroup);
    Ok(attached)
}

/// Takes our programs off a cgroup, whoever attached them. Returns how many there were.
///
/// # Errors
/// Without CAP_NET_ADMIN.
pub fn detach(cgroup: BorrowedFd<'_>) -> Result<usize, AttachError> {
    let programs = ours(cgroup)?;
    let count = programs.len();
    Attached { programs }.detach(cgroup);
    Ok(count)
}

impl Attached {
    /// Takes the programs off again. One that is gone already is no error.
    pub fn detach(self, cgroup: BorrowedFd<'_>) {
        for (hook, program) in self.programs {
            if let Err(error) = bpf::detach(cgroup, program.as_fd(), hook)
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("cgroup: a program at {hook:?} stays attached: {error}");
            }
        }
    }
}

/// Why nothing was attached.
#[derive(Debug)]
pub struct AttachError {
    /// What was tried, as `cannot …` continues.
    what: &'static str,
    /// The kernel's refusal.
    pub error: io::Error,
    /// The verifier's words, which are for this program's developers.
    pub log: String,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.error)?;
        match self.log.trim_end().lines().last() {
            Some(line) => write!(f, " ({line})"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for AttachError {}

#[inline(never)]
fn load(programs: &Programs) -> Result<Vec<(Hook, OwnedFd)>, AttachError> {
    let _unlimited = bpf::Unlimited::new();
    let mut loaded = Vec::new();
    if let Some(mark) = programs.mark {
        let hook = Hook::SocketCreate;
        loaded.push((hook, bpf::load(hook, NAME, &mark::program(mark)).map_err(refused)?));
        for hook in mark::LATE_HOOKS {
            match bpf::load(hook, NAME, &mark::late(mark)) {
                Ok(program) => loaded.push((hook, program)),
                // Before Linux 5.12 bpf_setsockopt was not for all of these hooks.
                Err(LoadError { error, .. }) => {
                    log::info!("cgroup: Multipath TCP sockets stay unmarked, {hook:?}: {error}");
                }
            }
        }
    }
    let resolvers = Resolvers { v4: programs.resolver4, v6: programs.resolver6 };
    if resolvers.v4.is_some() || resolvers.v6.is_some() {
        // The programs keep the map when this descriptor is closed.
        let map = bpf::lru_hash(NAME, dns::KEY_SIZE, dns::VALUE_SIZE, dns::SOCKETS)
            .map_err(|error| AttachError { what: "make a BPF map", error, log: String::new() })?;
        for hook in dns::HOOKS {
            let program = dns::program(hook, resolvers, map.as_raw_fd());
            loaded.push((hook, bpf::load(hook, NAME, &program).map_err(refused)?));
        }
    }
    Ok(loaded)
}

fn refused(LoadError { error, log }: LoadError) -> AttachError {
    AttachError { what: "load a BPF program", error, log }
}

/// The programs of that name attached to this cgroup itself.
fn ours(cgroup: BorrowedFd<'_>) -> Result<Vec<(Hook, OwnedFd)>, AttachError> {
    let mut found = Vec::new();
    for hook in [Hook::SocketCreate, Hook::Bind4, Hook::Bind6].into_iter().chain(dns::HOOKS) {
        let programs = bpf::attached(cgroup, hook).map_err(|error| AttachError {
            what: "ask for the cgroup's programs",
            error,
            log: String::new(),
        })?;
        let ours = programs.into_iter().filter(|fd| bpf::name_of(fd.as_fd()).is_ok_and(|name| name == NAME));
        ours.map(|program| (hook, program)).add_to(&mut found);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

/// Of every program of ours.
const NAME: &str = "narrowgate";
