//! What a daemon before us has left running: resolver processes that hold our listening sockets.

use crate::runtime::RuntimeDir;
use narrowgate_forwarder::child;
use narrowgate_forwarder::parent::Listener;
use narrowgate_model::Gather;
use std::net::SocketAddr;

/// The files in the runtime directory that name a resolver's process.
pub const FILE: &str = "resolver.";

/// Processes that the runtime directory knows, that live, and that are not among `ours`.
pub fn known(runtime: &RuntimeDir, ours: &[u32]) -> Vec<u32> {
    let Ok(files) = std::fs::read_dir(runtime.file("")) else { return Vec::new() };
    let named = files.flatten().filter(|f| f.file_name().as_encoded_bytes().starts_with(FILE.as_bytes()));
    let mut pids: Vec<u32> = named
        .filter_map(|f| narrowgate_sys::file::text(f.path()).trim().parse().ok())
        .filter(|pid| !ours.contains(pid) && is_resolver(*pid))
        .gather();
    narrowgate_model::sort::sort(&mut pids);
    pids.dedup();
    pids
}

/// A process that nobody wrote down, since its parent was killed at that very moment, and that listens on `addr`. Looked for
/// only when the address is taken.
pub fn stray(addr: SocketAddr) -> Option<(u32, Vec<Listener>)> {
    let ours = std::fs::read_link("/proc/self/ns/net").ok()?;
    let pids =
        std::fs::read_dir("/proc").ok()?.flatten().filter_map(|f| f.file_name().to_str()?.parse().ok());
    let orphans = pids.filter(|pid| {
        is_resolver(*pid)
            && !has_living_parent(*pid)
            && std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|net| net == ours)
    });
    orphans
        .filter_map(|pid| Some((pid, Listener::take_from(pid).ok()?)))
        .find(|(_, listeners)| listeners.iter().any(|l| l.addr == addr))
}

/// The process may have died and its number be somebody else's.
pub fn is_resolver(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).nth(1) == Some(child::ARGUMENT.as_bytes())
}

/// Whether its parent is a narrowgate too, and not who adopts orphans.
fn has_living_parent(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok());
    let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    parent.is_some_and(|parent| program(parent).is_some() && program(parent) == program(pid))
}
