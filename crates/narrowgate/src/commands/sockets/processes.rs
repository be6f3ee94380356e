//! Whose sockets are looked at: the tunnels' processes, by group and by cgroup, and the resolvers, which the runtime
//! directory names.

use super::verdict::Want;
use crate::runtime::RuntimeDir;
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_forwarder::child;
use narrowgate_model::config::{Group, Via};
use narrowgate_model::sort::sort;
use narrowgate_model::{Config, cut, decimal};
use narrowgate_sys::fs;
use narrowgate_sys::io::{self, ErrorKind};
use narrowgate_sys::path::PathBuf;

/// A tunnel or a resolver.
pub struct Owner<'a> {
    /// `tunnel NAME`, `resolver NAME`.
    pub name: String,
    /// What its sockets have to be.
    pub want: Want,
    /// How its processes are known.
    gid: Option<u32>,
    cgroup: Option<&'a str>,
    pid: Option<u32>,
}

/// A process of one of them.
pub struct Process {
    /// Which owner's.
    pub owner: usize,
    /// Its number.
    pub pid: u32,
    /// Its name, as the kernel has it.
    pub program: String,
    /// It is in our network namespace.
    pub here: bool,
    /// Its sockets: descriptor and inode.
    pub sockets: Vec<(i32, u64)>,
}

/// Owners and processes, the owners in the config's order. Notes tell what was not to be found.
#[inline(never)]
pub fn find<'a>(
    config: &'a Config,
    runtime: &RuntimeDir,
    notes: &mut Vec<String>,
) -> (Vec<Owner<'a>>, Vec<Process>) {
    let mut owners = Vec::new();
    for tunnel in &config.tunnels {
        let gid = match &tunnel.group {
            Some(Group::Name(name)) => {
                let gid = narrowgate_sys::process::group(name).ok();
                if gid.is_none() {
                    let tunnel = &tunnel.name;
                    notes
                        .push(format!("tunnel {tunnel}: there is no group '{name}', so no process is in it"));
                }
                gid
            }
            Some(Group::Id(id)) => Some(*id),
            None => None,
        };
        let name = format!("tunnel {}", tunnel.name);
        let want = Want { mark: true, redirected: gid.is_some() };
        owners.push(Owner { name, want, gid, cgroup: tunnel.cgroup.as_deref(), pid: None });
    }
    for resolver in &config.resolvers {
        let want = Want { mark: resolver.via == Via::Uplink, redirected: false };
        let file = runtime.file(&format!("resolver.{}", resolver.name));
        let pid = fs::read_to_string(file).ok().and_then(|text| decimal(text.trim()));
        let pid = pid.filter(|pid| is_resolver(*pid));
        owners.push(Owner {
            name: format!("resolver {}", resolver.name),
            want,
            gid: None,
            cgroup: None,
            pid,
        });
    }
    let mut processes = Vec::new();
    let all = numbers("/proc").unwrap_or_default();
    let ours = network(narrowgate_sys::process::id());
    for (index, owner) in owners.iter().enumerate() {
        let before = processes.len();
        for pid in all.iter().copied().filter(|pid| owner.has(*pid)) {
            match sockets(pid) {
                Ok(sockets) => processes.push(Process {
                    owner: index,
                    pid,
                    program: printable(&text(pid, "comm")),
                    here: ours == network(pid),
                    sockets,
                }),
                // It has ended meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    notes
                        .push(format!("process {pid}: its descriptors cannot be read: {error}; run as root"));
                }
            }
        }
        if processes.len() == before {
            notes.push(format!("{}: no process of it runs", owner.name));
        }
    }
    (owners, processes)
}

impl Owner<'_> {
    #[inline(never)]
    fn has(&self, pid: u32) -> bool {
        self.pid == Some(pid)
            || self.gid.is_some_and(|gid| has_group(&text(pid, "status"), gid))
            || self.cgroup.is_some_and(|cgroup| is_below(&text(pid, "cgroup"), cgroup))
    }
}

/// The sockets among its descriptors: links that read `socket:[INODE]`.
#[inline(never)]
fn sockets(pid: u32) -> io::Result<Vec<(i32, u64)>> {
    let mut found = Vec::new();
    for number in numbers(&format!("/proc/{pid}/fd"))? {
        let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap_or_default();
        let inode =
            link.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        if let Some(inode) = inode {
            found.push((number.cast_signed(), inode));
        }
    }
    Ok(found)
}

/// The names in a directory that are numbers, in their order.
fn numbers(directory: &str) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for name in fs::names_in(directory)? {
        if let Some(number) = name.to_str().and_then(decimal) {
            found.push(number);
        }
    }
    sort(&mut found);
    Ok(found)
}

/// A file of /proc/PID; empty if the process has ended.
fn text(pid: u32, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The network namespace of a process, if we may know it.
fn network(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// A program gives itself its name, so it could be anything: it must not reach the terminal as it is.
fn printable(name: &str) -> String {
    let mut shown = String::new();
    for c in name.trim_end().chars() {
        shown.push(if c.is_control() { '?' } else { c });
    }
    shown
}

/// Whether a process with this /proc/PID/status is in the group: real, effective, saved, for files, or supplementary.
fn has_group(status: &str, gid: u32) -> bool {
    status.lines().any(|line| {
        let groups = line.strip_prefix("Gid:").or_else(|| line.strip_prefix("Groups:"));
        groups.is_some_and(|groups| groups.split_whitespace().any(|word| decimal(word) == Some(gid)))
    })
}

/// Whether a process with this /proc/PID/cgroup is in the cgroup (version 2), or in one below it.
fn is_below(text: &str, cgroup: &str) -> bool {
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    let rest = own.and_then(|own| own.strip_prefix(cgroup.trim_end_matches('/')));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The process may have died and its number be somebody else's.
fn is_resolver(pid: u32) -> bool {
    let text = text(pid, "cmdline");
    let second = cut(&text, 0).and_then(|(_, rest)| cut(rest, 0));
    second.is_some_and(|(word, _)| word == child::ARGUMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_its_groups_makes_a_process_a_tunnels() {
        let status = "Name:\tfastd\nPid:\t800\nUid:\t0\t0\t0\t0\nGid:\t0\t7\t0\t0\nFDSize:\t801\nGroups:\t4 1800 \nNgid:\t802\n";
        for gid in [0, 7, 4, 1800] {
            assert!(has_group(status, gid), "{gid}");
        }
        for gid in [800, 801, 802, 180, 1] {
            assert!(!has_group(status, gid), "{gid}");
        }
    }

    #[test]
    fn a_name_that_would_speak_to_the_terminal_does_not() {
        assert_eq!(printable("\x1b[2Jfa\nstd\n"), "?[2Jfa?std");
    }

    #[test]
    fn a_cgroup_is_its_whole_path_and_what_is_below() {
        let text = "4:memory:/other\n0::/system.slice/fastd@mesh.service/sub\n";
        for cgroup in
            ["/system.slice/fastd@mesh.service", "/system.slice/fastd@mesh.service/sub", "/system.slice/"]
        {
            assert!(is_below(text, cgroup), "{cgroup}");
        }
        for cgroup in ["/system.slice/fastd", "/other", "/system.slice/fastd@mesh.service/sub/x"] {
            assert!(!is_below(text, cgroup), "{cgroup}");
        }
    }

    #[test]
    fn this_process_has_the_sockets_that_it_has_made() {
        use std::os::fd::AsRawFd;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
        assert!(sockets(std::process::id()).unwrap().contains(&(socket.as_raw_fd(), inode)));
    }
}
