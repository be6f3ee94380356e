//! `narrowgate forward`: the DNS forwarder alone, without a config and without a daemon.

mod arguments;
mod resolv_file;

use arguments::{Arguments, Source};
use narrowgate_forwarder::engine::{Limits, Set, UplinkState, Upstreams};
use narrowgate_forwarder::parent::{Event, Listener, Resolver, resolve};
use narrowgate_model::Gather;
use narrowgate_model::{Mark, Server};
use narrowgate_sys::signal::{Signal, Signals};
use narrowgate_sys::socket;
use resolv_file::ResolvFile;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs until SIGTERM or SIGINT. `args` are those after the word `forward`.
pub fn main(args: &[OsString]) -> ExitCode {
    let arguments = match Arguments::parse(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("narrowgate: forward: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("narrowgate: forward: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let signals = Signals::new(&[Signal::Term, Signal::Int]).map_err(|e| format!("signals: {e}"))?;
    let mut file = match &arguments.source {
        Source::File(path) => Some(ResolvFile::watch(path)?),
        Source::Servers(_) => None,
    };
    let mut resolver = start(arguments)?;
    let mut told: Option<Upstreams> = None;
    loop {
        let servers = match (&arguments.source, &mut file) {
            (Source::Servers(servers), _) => servers.clone(),
            (Source::File(_), Some(file)) => file.servers(),
            (Source::File(_), None) => Vec::new(),
        };
        let (upstreams, complete) = upstreams(&servers, arguments);
        if told.as_ref() != Some(&upstreams) {
            say_servers(&upstreams);
            resolver.update(upstreams.clone()).map_err(|e| format!("the resolver's process: {e}"))?;
            told = Some(upstreams);
        }
        let mut ready = vec![PollFd::new(&signals, PollFlags::IN)];
        let channel = resolver.fd();
        ready.push(PollFd::new(&channel, PollFlags::IN));
        if let Some(file) = &file {
            ready.push(PollFd::new(file, PollFlags::IN));
        }
        // A device that a server is reached by may come later, and nobody tells us.
        let timeout = (!complete).then_some(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut ready, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("poll: {error}")),
        }
        let spoke = !ready.get(1).is_none_or(|fd| fd.revents().is_empty());
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

/// Where a program was started with libpacketmark, we may be started in its place: the library does not reach our system calls.
fn mark_from_environment() -> Result<Option<Mark>, String> {
    const NAME: &str = "LIBPACKETMARK_MARK";
    match std::env::var(NAME) {
        Err(_) => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|e| format!("{NAME}={text}: {e}")),
    }
}

fn start(arguments: &Arguments) -> Result<Resolver, String> {
    let mark = match arguments.mark {
        None => mark_from_environment()?,
        given => given,
    };
    let mut listeners = Vec::with_capacity(arguments.listen.len());
    for addr in &arguments.listen {
        let listener = Listener::bind(*addr, mark).map_err(|error| {
            match (error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()), mark) {
                (true, Some(mark)) => {
                    format!("mark {mark} cannot be set: {error}. Run it as root or with CAP_NET_ADMIN. Nothing is sent unmarked")
                }
                _ => format!("--listen {addr}: {error}"),
            }
        })?;
        listeners.push(listener);
    }
    let limits = Limits { cache: arguments.cache, ..Limits::default() };
    let pair = mark.map(|mark| (mark.value, mark.mask));
    for listener in &listeners {
        log::info!("forward: listening on {}", listener.addr);
    }
    Resolver::spawn_bound("forward", limits, listeners, move |kind| socket::unbound(kind, pair))
        .map_err(|e| format!("the resolver's process cannot be started: {e}"))
}

/// The servers as the resolver wants them, and whether the devices of all of them are there.
fn upstreams(servers: &[Server], arguments: &Arguments) -> (Upstreams, bool) {
    let (found, lost) = resolve(servers);
    let (state, detail) = match (found.is_empty(), lost.first(), &arguments.source) {
        (false, ..) => (UplinkState::Up, String::new()),
        (true, Some(server), _) => (UplinkState::Waiting, format!("server {server}: no such device")),
        (true, None, Source::File(path)) => {
            (UplinkState::Waiting, format!("no servers in {}", path.display()))
        }
        (true, None, Source::Servers(_)) => (UplinkState::Waiting, String::new()),
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
            log::info!("forward: servers {}", servers.join(", "));
        }
    }
}

fn say_event(event: Event) -> Result<(), String> {
    match event {
        Event::Stats(_) | Event::Found(_) | Event::Peer { .. } => {}
        Event::Ready(sandbox) => {
            if let Some(lacks) = sandbox.lacks() {
                log::info!(
                    "forward: the resolver's process is not as shut in as it could be: no {lacks} in this kernel"
                );
            }
        }
        Event::Restarted { status, times } => {
            let how = status.map_or("unseen".to_owned(), |status| status.to_string());
            log::warn!(
                "forward: the resolver's process died ({how}) and was started again, {times} times by now"
            );
        }
        Event::Down(error) => return Err(format!("the resolver's process: {error}")),
    }
    Ok(())
}
