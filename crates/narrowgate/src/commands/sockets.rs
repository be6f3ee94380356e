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
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::net::SocketAddr;
use narrowgate_kernel::sockets::{self, InetSocket, Transport};
use narrowgate_kernel::{Kernel, Real, Scope};
use narrowgate_model::state::Observed;
use narrowgate_model::{Config, Gather, Time};
use narrowgate_sys::eprintln;
use narrowgate_sys::process::ExitCode;
use verdict::{Place, Seen, Verdict};

/// Runs the command. Exit 1 if there is an unmarked socket that sends to the uplink.
#[inline(never)]
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
#[inline(never)]
pub fn examine(config: &Config, runtime: &RuntimeDir) -> Result<SocketsReport, String> {
    // The processes first: a socket that is made in between is in the list, and one that is closed in between is no
    // process's any more.
    let mut notes = Vec::new();
    let (owners, processes) = processes::find(config, runtime, &mut notes);
    let (listed, observed) = look(config)?;
    let place = Place::new(config, &observed);

    let mut report = SocketsReport { mark: config.mark.to_string(), sockets: Vec::new(), unmarked: 0, notes };
    let mut shown: Vec<(usize, u64)> = Vec::new();
    for process in &processes {
        for (number, inode) in &process.sockets {
            if shown.contains(&(process.owner, *inode)) {
                continue;
            }
            let seen = match listed.iter().find(|socket| socket.inode == *inode) {
                Some(socket) => match socket.mark {
                    Some(mark) => Some(from_list(socket, mark)),
                    None => return Err(needs_root(&"the kernel does not tell the marks of sockets")),
                },
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
                local: written(seen.local),
                remote: written(seen.remote),
                device: seen.device.map(|index| place.name(index)),
                mark: seen.mark,
                verdict: verdict.as_str().to_owned(),
                why,
            });
        }
    }
    Ok(report)
}

/// What the kernel has: its list of sockets, and the network as far as it says where they send.
#[inline(never)]
fn look(config: &Config) -> Result<(Vec<InetSocket>, Observed), String> {
    let listed = sockets::all().map_err(text)?;
    let mut kernel = Real::open().map_err(|e| needs_root(&e))?;
    let mut scope = Scope { table: config.table, devices: Vec::new(), sysctls: Vec::new() };
    kernel.links().map_err(text)?.into_iter().map(|link| link.name).add_to(&mut scope.devices);
    let observed = kernel.observe(&scope, Time(narrowgate_sys::link::now_ms())).map_err(text)?;
    Ok((listed, observed))
}

fn text(error: narrowgate_kernel::Error) -> String {
    error.to_string()
}

fn needs_root(what: &dyn fmt::Display) -> String {
    format!("{what}; run as root (CAP_NET_ADMIN)")
}

#[inline(never)]
fn written(addr: Option<SocketAddr>) -> Option<String> {
    Some(addr?.to_string())
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

/// A line of the table.
struct Row<'a> {
    owner: &'a str,
    cells: [String; COLUMNS],
    /// How many sockets are alike.
    count: u32,
}

const COLUMNS: usize = 6;

#[inline(never)]
fn rows(report: &SocketsReport) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for socket in &report.sockets {
        let (on, device) = socket.device.as_ref().map_or(("", ""), |name| (" on ", name));
        let colon = if socket.why.is_empty() { "" } else { ": " };
        let verdict = if socket.verdict == "unmarked" { "UNMARKED" } else { &socket.verdict };
        let cells = [
            format!("{} ({})", socket.program, socket.process),
            socket.protocol.clone(),
            [socket.local.as_deref().unwrap_or("-"), on, device].concat(),
            socket.remote.as_deref().unwrap_or("-").to_owned(),
            format!("{:#x}", socket.mark),
            [verdict, colon, &socket.why].concat(),
        ];
        match rows.last_mut() {
            // A resolver has a hundred spare sockets that are all alike.
            Some(row) if row.owner == socket.owner && row.cells == cells => row.count += 1,
            _ => rows.push(Row { owner: &socket.owner, cells, count: 1 }),
        }
    }
    rows
}

#[inline(never)]
fn table(report: &SocketsReport) -> String {
    const HEAD: [&str; COLUMNS] = ["PROCESS", "PROTOCOL", "LOCAL", "REMOTE", "MARK", "VERDICT"];
    let rows = rows(report);
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = cell.len().max(*width);
        }
    }
    widths[COLUMNS - 1] = 0;
    let mut out = String::new();
    let mut owner = "";
    for row in &rows {
        if row.owner != owner {
            let between = if owner.is_empty() { "" } else { "\n" };
            owner = row.owner;
            let _ = writeln!(out, "{between}{owner}");
            line(&mut out, &HEAD, &widths);
        }
        line(&mut out, &row.cells.each_ref().map(String::as_str), &widths);
        if row.count > 1 {
            out.pop();
            let _ = writeln!(out, " ({} of them)", row.count);
        }
    }
    let between = if owner.is_empty() { "" } else { "\n" };
    let _ = write!(out, "{between}{} sockets, mark {}, ", report.sockets.len(), report.mark);
    let _ = match report.unmarked {
        0 => writeln!(out, "none sends to the uplink unmarked"),
        count => writeln!(out, "{count} UNMARKED to the uplink"),
    };
    for note in &report.notes {
        let _ = writeln!(out, "! {note}");
    }
    out
}

fn line(out: &mut String, cells: &[&str; COLUMNS], widths: &[usize; COLUMNS]) {
    let mut between = "";
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(out, "{between}{cell:<width$}");
        between = "  ";
    }
    out.push('\n');
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
