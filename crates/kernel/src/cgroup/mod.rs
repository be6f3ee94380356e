//! Programs attached to a cgroup: every socket that its processes make is marked, and their DNS goes to the WAN resolver.
//! They reach static programs, raw system calls and io_uring alike, and the processes need no privilege.
//!
//! They stay attached when the process that attached them ends, so a tunnel's sockets are marked although the daemon has
//! crashed; the next [`attach`] replaces them.

pub(crate) mod asm;
mod dns;
mod mark;
mod service;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{SocketAddrV4, SocketAddrV6};
use narrowgate_model::Mark;
use narrowgate_sys::bpf::{self, Hook, Insn, LoadError};
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
pub fn attach(cgroup: BorrowedFd<'_>, programs: &Programs) -> Result<Attached, Box<AttachError>> {
    // All are loaded before the first is attached, so that a refusal changes nothing.
    let mut new = Attached { programs: Vec::new() };
    load(programs, &mut new.programs)?;
    let old = ours(cgroup)?;
    for (count, (hook, program)) in new.programs.iter().enumerate() {
        if let Err(error) = bpf::attach(cgroup, program.as_fd(), *hook) {
            new.programs.truncate(count);
            new.detach(cgroup);
            return Err(failed("attach to the cgroup", error));
        }
    }
    // Old and new together do what the new ones do, so the order leaves no gap.
    old.detach(cgroup);
    Ok(new)
}

/// Takes our programs off a cgroup, whoever attached them. Returns how many there were.
///
/// # Errors
/// Without CAP_NET_ADMIN.
pub fn detach(cgroup: BorrowedFd<'_>) -> Result<usize, Box<AttachError>> {
    let ours = ours(cgroup)?;
    let count = ours.programs.len();
    ours.detach(cgroup);
    Ok(count)
}

impl Attached {
    /// Takes the programs off again. One that is gone already is no error.
    pub fn detach(self, cgroup: BorrowedFd<'_>) {
        for (hook, program) in &self.programs {
            if let Err(error) = bpf::detach(cgroup, program.as_fd(), *hook)
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
        match self.log.trim_end().rsplit('\n').next() {
            Some(line) if !line.is_empty() => write!(f, " ({line})"),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for AttachError {}

#[cold]
fn failed(what: &'static str, error: io::Error) -> Box<AttachError> {
    Box::new(AttachError { what, error, log: String::new() })
}

#[inline(never)]
fn load(programs: &Programs, loaded: &mut Vec<(Hook, OwnedFd)>) -> Result<(), Box<AttachError>> {
    let _unlimited = bpf::Unlimited::new();
    if let Some(mark) = programs.mark {
        load_one(Hook::SocketCreate, &mark::program(mark), loaded)?;
        for hook in &mark::LATE_HOOKS {
            // Before Linux 5.12 bpf_setsockopt was not for all of these hooks.
            if let Err(refused) = load_one(*hook, &mark::late(mark), loaded) {
                log::info!("cgroup: Multipath TCP sockets stay unmarked, {hook:?}: {}", refused.error);
            }
        }
    }
    if programs.resolver4.is_some() || programs.resolver6.is_some() {
        // The programs keep the map when this descriptor is closed.
        let map = bpf::lru_hash(NAME, dns::KEY_SIZE, dns::VALUE_SIZE, dns::SOCKETS)
            .map_err(|error| failed("make a BPF map", error))?;
        for hook in &dns::HOOKS {
            load_one(*hook, &dns::program(*hook, programs, map.as_raw_fd()), loaded)?;
        }
    }
    Ok(())
}

fn load_one(hook: Hook, program: &[Insn], loaded: &mut Vec<(Hook, OwnedFd)>) -> Result<(), Box<AttachError>> {
    match bpf::load(hook, NAME, program) {
        Ok(program) => {
            loaded.push((hook, program));
            Ok(())
        }
        Err(LoadError { error, log }) => {
            Err(Box::new(AttachError { what: "load a BPF program", error, log }))
        }
    }
}

/// The programs of that name attached to this cgroup itself.
fn ours(cgroup: BorrowedFd<'_>) -> Result<Attached, Box<AttachError>> {
    let mut programs = Vec::new();
    for hooks in [&[Hook::SocketCreate, Hook::Bind4, Hook::Bind6][..], &dns::HOOKS] {
        for hook in hooks {
            let attached = bpf::attached(cgroup, *hook);
            for program in attached.map_err(|error| failed("ask for the cgroup's programs", error))? {
                if bpf::is_called(program.as_fd(), NAME) {
                    programs.push((*hook, program));
                }
            }
        }
    }
    Ok(Attached { programs })
}

#[cfg(test)]
mod tests;

/// Of every program of ours.
const NAME: &str = "narrowgate";
