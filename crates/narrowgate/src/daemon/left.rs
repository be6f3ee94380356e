//! What a daemon before us has left running: resolver processes that hold our listening sockets.

use crate::runtime::RuntimeDir;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use narrowgate_forwarder::child;
use narrowgate_forwarder::parent::Listener;
use narrowgate_sys::path::PathBuf;
use narrowgate_sys::{file, fs, process};

/// The files in the runtime directory that name a resolver's process.
pub const FILE: &str = "resolver.";

/// Their names.
pub fn files(runtime: &RuntimeDir) -> Vec<PathBuf> {
    let mut names = fs::names_in(runtime.file("")).unwrap_or_default();
    names.retain(|name| name.as_bytes().starts_with(FILE.as_bytes()));
    names
}

/// Processes that the runtime directory knows, that live, and that are not among `ours`.
#[inline(never)]
pub fn known(runtime: &RuntimeDir, ours: &[u32]) -> Vec<u32> {
    let mut pids = Vec::new();
    for name in files(runtime) {
        if let Ok(pid) = file::text(runtime.file("").join(&name)).trim().parse()
            && !ours.contains(&pid)
            && !pids.contains(&pid)
            && is_resolver(pid)
        {
            pids.push(pid);
        }
    }
    narrowgate_model::sort::sort(&mut pids);
    pids
}

/// A process that nobody wrote down, since its parent was killed at that very moment, and that listens on `addr`. Looked for
/// only when the address is taken.
#[inline(never)]
pub fn stray(addr: SocketAddr) -> Option<(u32, Vec<Listener>)> {
    let ours = link(process::id(), "ns/net")?;
    for name in fs::names_in("/proc").ok()? {
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if is_resolver(pid)
            && !has_living_parent(pid)
            && link(pid, "ns/net").as_ref() == Some(&ours)
            && let Ok(listeners) = Listener::take_from(pid)
            && listeners.iter().any(|l| l.addr == addr)
        {
            return Some((pid, listeners));
        }
    }
    None
}

/// The process may have died and its number be somebody else's.
pub fn is_resolver(pid: u32) -> bool {
    let line = fs::read(place(pid, "cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).nth(1) == Some(child::ARGUMENT.as_bytes())
}

/// Whether its parent is a narrowgate too, and not who adopts orphans.
fn has_living_parent(pid: u32) -> bool {
    let status = fs::read(place(pid, "status")).unwrap_or_default();
    let parent = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"PPid:"));
    let parent = parent.and_then(|number| str::from_utf8(number).ok()?.trim().parse().ok());
    let program = parent.and_then(|parent| link(parent, "exe"));
    program.is_some() && program == link(pid, "exe")
}

/// Where a link of a process in /proc leads.
fn link(pid: u32, name: &str) -> Option<PathBuf> {
    fs::read_link(place(pid, name)).ok()
}

fn place(pid: u32, name: &str) -> String {
    format!("/proc/{pid}/{name}")
}
