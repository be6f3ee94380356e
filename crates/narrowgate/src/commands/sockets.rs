//! `narrowgate status --sockets`: every socket of the tunnels' processes and of the resolvers, with the mark that the kernel
//! has for it, and whether that is right.
//!
//! It needs the config and the kernel, but no daemon. It goes from the processes (`processes`) by their descriptors to the
//! kernel's list of sockets; what that list leaves out is looked at through a copy of the descriptor (`unlisted`). Then
//! `verdict` says of each where it sends.

mod processes;
mod unlisted;
mod verdict;

use crate::cli::{Globals, USAGE, print_out};
use crate::config_file;
use crate::report::{SocketReport, SocketsReport, json};
use crate::runtime::RuntimeDir;
use narrowgate_kernel::sockets::{self, InetSocket, Transport};
use narrowgate_kernel::{Kernel, Real, Scope};
use narrowgate_model::Gather;
use narrowgate_model::{Config, Time};
use std::fmt::Write as _;
use std::process::ExitCode;
use verdict::{Place, Seen, Verdict};

/// Runs the command. Exit 1 if there is an unmarked socket that sends to the uplink.
pub fn main(globals: &Globals, as_json: bool) -> ExitCode {
    let config = match config_file::load(&globals.config) {
        Ok(config) => config,
        Err(problems) => {
            problems.iter().for_each(|p| eprintln!("narrowgate: {p}"));
            return ExitCode::from(USAGE);
        }
    };
    match examine(&config, &RuntimeDir::new(&globals.runtime_dir)) {
        Ok(report) => {
            let unmarked = report.unmarked > 0;
            print_out(&if as_json { json::write(report) + "\n" } else { table(&report) });
            ExitCode::from(u8::from(unmarked))
        }
        Err(message) => {
            eprintln!("narrowgate: status: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Looks at all of them, in this network namespace.
///
/// # Errors
/// A sentence: the kernel does not list its sockets, or does not tell us their marks.
pub fn examine(config: &Config, runtime: &RuntimeDir) -> Result<SocketsReport, String> {
    // The processes first: a socket that is made in between is in the list, and one that is closed in between is no
    // process's any more.
    let mut notes = Vec::new();
    let (owners, processes) = processes::find(config, runtime, &mut notes);
    let listed = sockets::all().map_err(|e| e.to_string())?;
    let needs_root = |what: &str| format!("{what}; run as root (CAP_NET_ADMIN)");
    let mut kernel = Real::open().map_err(|e| needs_root(&e.to_string()))?;
    let devices = kernel.links().map_err(|e| e.to_string())?.into_iter().map(|link| link.name).gather();
    let scope = Scope { table: config.table, devices, sysctls: Vec::new() };
    let observed = kernel.observe(&scope, Time(narrowgate_sys::link::now_ms())).map_err(|e| e.to_string())?;
    let place = Place::new(config, &observed);

    let mut report = SocketsReport { mark: config.mark.to_string(), sockets: Vec::new(), unmarked: 0, notes };
    let mut shown: Vec<(usize, u64)> = Vec::new();
    for process in &processes {
        for (number, inode) in &process.sockets {
            if shown.contains(&(process.owner, *inode)) {
                continue;
            }
            let seen = match listed.iter().find(|socket| socket.inode == *inode) {
                Some(socket) => {
                    let mark = socket
                        .mark
                        .ok_or_else(|| needs_root("the kernel does not tell the marks of sockets"))?;
                    Some(from_list(socket, mark))
                }
                None if process.here => unlisted::look(process.pid, *number, *inode),
                None => None,
            };
            let (Some(seen), Some(owner)) = (seen, owners.get(process.owner)) else { continue };
            shown.push((process.owner, *inode));
            let (verdict, why) = place.judge(&seen, owner.want);
            report.unmarked += u32::from(verdict == Verdict::Unmarked);
            report.sockets.push(SocketReport {
                owner: owner.name.clone(),
                process: process.pid,
                program: process.program.clone(),
                protocol: seen.protocol.to_owned(),
                local: seen.local.map(|addr| addr.to_string()),
                remote: seen.remote.map(|addr| addr.to_string()),
                device: seen.device.map(|index| place.name(index)),
                mark: seen.mark,
                verdict: verdict.as_str().to_owned(),
                why,
            });
        }
    }
    Ok(report)
}

fn from_list(socket: &InetSocket, mark: u32) -> Seen {
    Seen {
        protocol: match socket.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Raw => "raw",
        },
        local: Some(socket.local),
        remote: socket.remote,
        listens: socket.listens,
        device: socket.device,
        mark,
        unused: false,
    }
}

fn table(report: &SocketsReport) -> String {
    let mut out = String::new();
    let mut rows = vec![["PROCESS", "PROTOCOL", "LOCAL", "REMOTE", "MARK", "VERDICT"].map(str::to_owned)];
    // A resolver has a hundred spare sockets that are all alike.
    let mut alike: Vec<(&str, u32)> = vec![("", 1)];
    for socket in &report.sockets {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let device = socket.device.as_ref().map_or(String::new(), |name| format!(" on {name}"));
        let why = if socket.why.is_empty() { String::new() } else { format!(": {}", socket.why) };
        let row = [
            format!("{} ({})", socket.program, socket.process),
            socket.protocol.clone(),
            or_none(&socket.local) + &device,
            or_none(&socket.remote),
            format!("{:#x}", socket.mark),
            format!("{}{why}", if socket.verdict == "unmarked" { "UNMARKED" } else { &socket.verdict }),
        ];
        if let Some((owner, count)) = alike.last_mut()
            && *owner == socket.owner
            && rows.last() == Some(&row)
        {
            *count += 1;
            continue;
        }
        rows.push(row);
        alike.push((&socket.owner, 1));
    }
    for (row, (_, count)) in rows.iter_mut().zip(&alike).filter(|(_, (_, count))| *count > 1) {
        let _ = write!(row[5], " ({count} of them)");
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |out: &mut String, row: &[String; 6]| {
        for (cell, width) in row.iter().zip(widths).take(5) {
            let _ = write!(out, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", row[5]);
    };
    let mut owner = "";
    for (row, (of, _)) in rows.iter().zip(&alike).skip(1) {
        if *of != owner {
            let _ = writeln!(out, "{}{of}", if owner.is_empty() { "" } else { "\n" });
            line(&mut out, &rows[0]);
            owner = of;
        }
        line(&mut out, row);
    }
    let _ = writeln!(
        out,
        "{}{} sockets, mark {}, {}",
        if owner.is_empty() { "" } else { "\n" },
        report.sockets.len(),
        report.mark,
        match report.unmarked {
            0 => "none sends to the uplink unmarked".to_owned(),
            count => format!("{count} UNMARKED to the uplink"),
        }
    );
    for note in &report.notes {
        let _ = writeln!(out, "! {note}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one looks for is not to be sought among a hundred spare sockets.
    #[test]
    fn sockets_that_are_alike_are_one_row_with_their_number() {
        let spare = |owner: &str, process, protocol: &str| SocketReport {
            owner: owner.to_owned(),
            process,
            program: "narrowgate-dns".to_owned(),
            protocol: protocol.to_owned(),
            local: Some("0.0.0.0:0".to_owned()),
            remote: None,
            device: None,
            mark: 1,
            verdict: "marked".to_owned(),
            why: String::new(),
        };
        let sockets = vec![
            spare("resolver wan", 7, "udp"),
            spare("resolver wan", 7, "udp"),
            spare("resolver wan", 7, "udp"),
            spare("resolver wan", 7, "tcp"),
            spare("resolver mesh", 7, "tcp"),
        ];
        let report = SocketsReport { mark: "0x1/0x1".to_owned(), sockets, unmarked: 0, notes: Vec::new() };
        let text = table(&report);
        let counts: Vec<bool> = text
            .lines()
            .filter(|line| line.contains("(7)"))
            .map(|line| line.ends_with("marked (3 of them)"))
            .collect();
        assert_eq!(counts, [true, false, false], "{text}");
        assert!(text.contains("5 sockets"), "{text}");
    }
}
