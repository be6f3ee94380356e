//! `narrowgate forward`: the DNS forwarder alone, without a config and without a daemon.

mod arguments;
mod resolv_file;

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arguments::{Arguments, Source};
use core::fmt::Display;
use narrowgate_forwarder::engine::{Limits, Set, UplinkState, Upstreams};
use narrowgate_forwarder::parent::{Event, Listener, Resolver, resolve};
use narrowgate_model::{Gather, Mark, Server, join};
use narrowgate_sys::eprintln;
use narrowgate_sys::path::PathBuf;
use narrowgate_sys::process::ExitCode;
use narrowgate_sys::signal::{Signal, Signals};
use narrowgate_sys::socket;
use resolv_file::ResolvFile;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;

/// Runs until SIGTERM or SIGINT. `args` are those after the word `forward`.
pub fn main(args: &[PathBuf]) -> ExitCode {
    let (error, code) = match Arguments::parse(args) {
        Ok(arguments) => match run(&arguments) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (error, 1),
        },
        Err(error) => (error, 2),
    };
    eprintln!("narrowgate: forward: {error}");
    ExitCode::from(code)
}

#[inline(never)]
fn run(arguments: &Arguments) -> Result<(), String> {
    let signals = Signals::new(&[Signal::Term, Signal::Int]).map_err(|e| said(&"signals", &e))?;
    let mut file = match &arguments.source {
        Source::File(path) => Some(ResolvFile::watch(path)?),
        Source::Servers(_) => None,
    };
    let mut resolver = start(arguments)?;
    let mut told: Option<Upstreams> = None;
    loop {
        let servers = match (&arguments.source, &mut file) {
            (Source::Servers(servers), _) => servers,
            (Source::File(_), Some(file)) => file.servers(),
            (Source::File(_), None) => [].as_slice(),
        };
        let (upstreams, complete) = upstreams(servers, arguments);
        if told.as_ref() != Some(&upstreams) {
            say_servers(&upstreams);
            resolver.update(upstreams.clone()).map_err(|e| said(&PROCESS, &e))?;
            told = Some(upstreams);
        }
        let watched = file.as_ref().map_or(signals.as_fd(), AsFd::as_fd);
        let mut ready =
            [resolver.fd(), signals.as_fd(), watched].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        // A device that a server is reached by may come later, and nobody tells us.
        let timeout = (!complete).then_some(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut ready, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(said(&"poll", &error)),
        }
        let spoke = !ready[0].revents().is_empty();
        if signals.read().is_some() {
            resolver.stop();
            return Ok(());
        }
        if spoke {
            for event in resolver.on_readable() {
                say_event(event)?;
            }
        }
    }
}

/// What something is about, and what is to be said of it.
#[cold]
#[inline(never)]
fn said(thing: &dyn Display, what: &dyn Display) -> String {
    format!("{thing}: {what}")
}

/// Where a program was started with libpacketmark, we may be started in its place: the library does not reach our system calls.
#[inline(never)]
fn mark_from_environment() -> Result<Option<Mark>, String> {
    const NAME: &str = "LIBPACKETMARK_MARK";
    match narrowgate_sys::env::var(NAME) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(mark) => Ok(Some(mark)),
            Err(error) => Err(said(&format_args!("{NAME}={text}"), &error)),
        },
    }
}

#[inline(never)]
fn start(arguments: &Arguments) -> Result<Resolver, String> {
    let mark = match arguments.mark {
        None => mark_from_environment()?,
        given => given,
    };
    let mut listeners = Vec::new();
    for addr in &arguments.listen {
        let listener = Listener::bind(*addr, mark).map_err(|error| match mark {
            Some(mark) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                format!("mark {mark} cannot be set: {error}. Run it as root or with CAP_NET_ADMIN. Nothing is sent unmarked")
            }
            _ => said(&format_args!("--listen {addr}"), &error),
        })?;
        log::info!("forward: listening on {}", listener.addr);
        listeners.push(listener);
    }
    let limits = Limits { cache: arguments.cache, ..Limits::default() };
    let pair = mark.map(|mark| (mark.value, mark.mask));
    Resolver::spawn_bound("forward", limits, listeners, move |kind| socket::unbound(kind, pair))
        .map_err(|e| said(&format_args!("{PROCESS} cannot be started"), &e))
}

/// The servers as the resolver wants them, and whether the devices of all of them are there.
#[inline(never)]
fn upstreams(servers: &[Server], arguments: &Arguments) -> (Upstreams, bool) {
    let (found, lost) = resolve(servers);
    let state = if found.is_empty() { UplinkState::Waiting } else { UplinkState::Up };
    let detail = match (lost.first(), &arguments.source) {
        _ if state == UplinkState::Up => String::new(),
        (Some(server), _) => format!("server {server}: no such device"),
        (None, Source::File(path)) => format!("no servers in {}", path.display()),
        (None, Source::Servers(_)) => String::new(),
    };
    let complete = lost.is_empty();
    (Upstreams::single(Set { servers: found, state, detail }), complete)
}

fn say_servers(upstreams: &Upstreams) {
    for set in &upstreams.sets {
        if set.servers.is_empty() {
            log::warn!("forward: {}; queries wait", set.detail);
        } else {
            let servers: Vec<String> = set.servers.iter().map(ToString::to_string).gather();
            log::info!("forward: servers {}", join(&servers, ", "));
        }
    }
}

#[inline(never)]
fn say_event(event: Event) -> Result<(), String> {
    match event {
        Event::Stats(_) | Event::Found(_) | Event::Peer { .. } => {}
        Event::Ready(sandbox) => {
            if let Some(lacks) = sandbox.lacks() {
                log::info!("forward: {PROCESS} is not as shut in as it could be: no {lacks} in this kernel");
            }
        }
        Event::Restarted { status, times } => {
            let how = status.map_or("unseen".to_owned(), |status| status.to_string());
            log::warn!("forward: {PROCESS} died ({how}) and was started again, {times} times by now");
        }
        Event::Down(error) => return Err(said(&PROCESS, &error)),
    }
    Ok(())
}

const PROCESS: &str = "the resolver's process";
