//! The resolvers: their listening sockets, their processes, whom they are to ask.
//!
//! A resolver's process outlives us. Its number is written down in the runtime directory, so that the next daemon takes the
//! listening sockets over from it, starts its own process on them, and only then ends the old one: at no moment does
//! nobody listen.

use super::left::{self, FILE};
use super::upstreams::Ways;
use super::{now, sooner, strict};
use crate::report::{CounterReport, ResolverReport};
use crate::runtime::{RuntimeDir, replace};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use narrowgate_forwarder::engine::{Counters, Limits, Peer, Upstreams};
use narrowgate_forwarder::parent::{self, Event, Listener, Resolver};
use narrowgate_model::Gather;
use narrowgate_model::config::{self, Via};
use narrowgate_model::{ByName, Config, Facts, Mark, Time};
use narrowgate_sys::io::{Error, ErrorKind};
use narrowgate_sys::{fs, process, socket};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// When to start a process again that could not be started.
const RESPAWN: Duration = Duration::from_secs(1);
/// How long `status` waits for the counters.
const STATS: Duration = Duration::from_millis(100);

/// All resolvers.
pub struct Resolvers {
    runtime: RuntimeDir,
    #[expect(clippy::vec_box, reason = "they are moved, and what moves pointers is in the program once")]
    list: Vec<Box<Running>>,
    ways: Ways,
    /// Processes of a daemon before us that we have ended: ours to reap if we are that daemon's successor by exec.
    orphans: Vec<u32>,
    wake: Option<Time>,
    /// Where the peers were last, and what has been found anew.
    kept: Vec<Peer>,
    found: Vec<Peer>,
    /// Peers' names that were asked in vain, and (`true`) that are answered again.
    news: Vec<(Vec<u8>, bool)>,
}

struct Running {
    config: config::Resolver,
    mark: Mark,
    handle: Resolver,
    told: Option<Upstreams>,
    servers: Vec<String>,
    /// Its counters, if it has told them since it was asked.
    counted: Option<Vec<u64>>,
    restarts: u32,
    /// What the kernel has not got to shut the process in with.
    lacks: Option<&'static str>,
    down: bool,
}

/// What [`Resolvers::acquire`] has got, to be given to [`Resolvers::launch`].
pub struct Acquired {
    resolvers: Vec<(config::Resolver, Vec<Listener>)>,
    /// Processes that nobody wrote down and whose sockets are among them.
    strays: Vec<u32>,
}

impl Resolvers {
    /// None yet.
    pub fn new(runtime: RuntimeDir) -> Resolvers {
        Resolvers {
            runtime,
            list: Vec::new(),
            ways: Ways::default(),
            orphans: Vec::new(),
            wake: None,
            kept: Vec::new(),
            found: Vec::new(),
            news: Vec::new(),
        }
    }

    /// Gets the listening sockets for all resolvers that are new or changed: from those that run, from the processes that a
    /// dead daemon has left, or new ones. Changes nothing yet.
    ///
    /// # Errors
    /// A sentence: an address cannot be listened on.
    pub fn acquire(&self, config: &Config) -> Result<Acquired, String> {
        let mut left: Vec<Listener> = Vec::new();
        for running in &self.list {
            left.append(&mut running.handle.clone_listeners().unwrap_or_default());
        }
        for pid in self.left_processes() {
            match Listener::take_from(pid) {
                Ok(mut listeners) => left.append(&mut listeners),
                Err(error) => log::warn!(
                    "the resolver process {pid} of a run before this one keeps its sockets: {error}"
                ),
            }
        }
        let mut acquired = Acquired { resolvers: Vec::new(), strays: Vec::new() };
        for resolver in &config.resolvers {
            if self.list.iter().any(|running| running.is(resolver, config.mark)) {
                continue;
            }
            let mut listeners = Vec::new();
            for addr in &resolver.listen {
                match listener(resolver, *addr, config.mark, &mut left, &mut acquired.strays) {
                    Ok(listener) => listeners.push(listener),
                    Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
                        log::warn!("resolver {}: not on {addr}: this kernel has no IPv6", resolver.name);
                    }
                    Err(error) => return Err(cannot_listen(resolver, *addr, &error)),
                }
            }
            acquired.resolvers.push((resolver.clone(), listeners));
        }
        Ok(acquired)
    }

    /// Starts the resolvers on their sockets, and ends those that are gone or have been replaced.
    ///
    /// # Errors
    /// A sentence: a process cannot be started, or a socket not be marked.
    pub fn launch(&mut self, config: &Config, acquired: Acquired) -> Result<(), String> {
        let mut replaced = Vec::new();
        let mut n = 0;
        while let Some(running) = self.list.get(n) {
            if config.resolvers.iter().any(|resolver| running.is(resolver, config.mark)) {
                n += 1;
            } else {
                replaced.push(self.list.remove(n));
            }
        }
        let mut left = self.left_processes();
        left.extend_from_slice(&acquired.strays);
        for (resolver, listeners) in acquired.resolvers {
            let running = Running::start(resolver, config.mark, listeners, &self.kept)?;
            self.list.push(running);
        }
        for running in replaced {
            running.handle.stop();
        }
        for pid in left {
            if parent::end_orphan(pid).is_ok() {
                log::info!("took the listening sockets over from process {pid}");
                self.orphans.push(pid);
            }
        }
        self.write_down();
        Ok(())
    }

    /// For the log.
    pub fn describe(&self) -> String {
        let mut all = String::new();
        for running in &self.list {
            all.push_str(if all.is_empty() { "resolver " } else { ", resolver " });
            all.push_str(&running.config.name);
            all.push_str(" listens on ");
            all.push_str(&narrowgate_model::join(&running.listens(), " "));
        }
        all
    }

    /// Tells each resolver whom to ask now, if that has changed.
    #[inline(never)]
    pub fn tell(&mut self, config: &Config, facts: &ByName<Facts>) {
        let at = now();
        // Those that are down are still to be started again.
        self.wake.take_if(|_| self.list.iter().all(|r| !r.down));
        self.ways.begin();
        for running in &mut self.list {
            let (servers, upstreams) = self.ways.upstreams(config, &running.config, facts, at);
            running.servers = servers.iter().map(ToString::to_string).gather();
            if running.told.as_ref() == Some(&upstreams) {
                continue;
            }
            let asks = upstreams.sets.first().is_some_and(|set| set.state.is_up());
            let look_up = config.strict && running.config.via == Via::Uplink && asks;
            running.told = Some(upstreams.clone());
            if let Err(error) = running.handle.update(upstreams) {
                running.complain(&error);
                self.wake = Some(at + RESPAWN);
            }
            if let Some(listen) = running.config.listen.first().filter(|_| look_up) {
                strict::look_up_peers(config, *listen);
            }
        }
    }

    /// When [`tell`](Self::tell) or [`on_events`](Self::on_events) is due though nothing has happened.
    pub fn next_timeout(&self) -> Option<Time> {
        sooner(self.wake, self.ways.wake())
    }

    /// Reads what the processes say, and starts again what has died. The runtime directory then knows the new ones.
    pub fn on_events(&mut self) {
        let mut restarted = false;
        for running in &mut self.list {
            if running.down && self.wake.is_some_and(|at| at <= now()) {
                match running.handle.respawn() {
                    Ok(_) => running.down = false,
                    Err(_) => self.wake = Some(now() + RESPAWN),
                }
                restarted |= !running.down;
            }
            if running.down {
                continue;
            }
            for event in running.handle.on_readable() {
                match event {
                    Event::Ready(sandbox) => {
                        running.lacks = sandbox.lacks();
                        if let Some(lacks) = running.lacks {
                            log::info!("resolver {}: no {lacks} in this kernel", running.config.name);
                        }
                    }
                    Event::Stats(stats) => running.counted = Some(stats.counters.values()),
                    Event::Found(peer) => self.found.push(peer),
                    Event::Peer { name, answered } => self.news.push((name, answered)),
                    Event::Restarted { status, times } => {
                        running.restarts = times;
                        restarted = true;
                        let status = status.map_or("unknown end".to_owned(), |s| s.to_string());
                        log::warn!(
                            "resolver {}: its process died ({status}) and was started again",
                            running.config.name
                        );
                    }
                    Event::Down(error) => {
                        running.complain(&error);
                        self.wake = Some(now() + RESPAWN);
                    }
                }
            }
        }
        if restarted {
            self.write_down();
        }
    }

    /// Where the peers were last, for the resolvers by the uplinks: those that run and those to come. One through the mesh asks one of those.
    pub fn keep(&mut self, peers: Vec<Peer>) {
        for running in self.list.iter_mut().filter(|r| r.config.via == Via::Uplink) {
            running.handle.keep(peers.clone());
        }
        self.kept = peers;
    }

    /// Where peers were found since this was asked last.
    pub fn take_found(&mut self) -> Vec<Peer> {
        core::mem::take(&mut self.found)
    }

    /// Peers' names that were asked in vain, and (`true`) that are answered again, since this was asked last.
    pub fn take_news(&mut self) -> Vec<(Vec<u8>, bool)> {
        core::mem::take(&mut self.news)
    }

    /// Somebody wants to hear soon that what was asked in vain is answered again.
    pub fn watch(&self) {
        self.list.iter().for_each(|running| running.handle.watch());
    }

    /// Strict: asks about all addresses that answers wait for whether packets may go there, and tells the resolvers.
    pub fn decide(&mut self, let_in: &mut dyn FnMut(&[IpAddr]) -> bool) {
        for running in &mut self.list {
            for (id, addresses) in running.handle.take_resolved() {
                // A resolver that does not hear it answers with a failure.
                let _ = running.handle.decide(id, let_in(&addresses));
            }
        }
    }

    /// What to poll for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.list.iter().filter(|r| !r.down).map(|r| r.handle.fd())
    }

    /// Buries the processes of a daemon before us, if they are our children.
    pub fn reap(&mut self) {
        use rustix::process::{WaitOptions, waitpid};
        self.orphans.retain(|pid| matches!(waitpid(process::pid(*pid).ok(), WaitOptions::NOHANG), Ok(None)));
    }

    /// Ends all of them.
    pub fn stop(&mut self) {
        for running in self.list.drain(..) {
            let _ = fs::remove_file(self.runtime.file(&file_name(&running.config.name)));
            running.handle.stop();
        }
        // Those that were still answering for a daemon before us.
        for pid in &self.orphans {
            if left::is_resolver(*pid)
                && let Ok(pid) = process::pid(*pid)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// For `status`; waits a moment for the counters.
    #[inline(never)]
    pub fn report(&mut self) -> Vec<ResolverReport> {
        self.gather_stats();
        let mut reports = Vec::new();
        for running in &self.list {
            let mut counters = Vec::new();
            for (name, value) in Counters::NAMES.iter().zip(running.counted.iter().flatten()) {
                counters.push(CounterReport { name: (*name).to_owned(), value: *value });
            }
            reports.push(ResolverReport {
                name: running.config.name.clone(),
                via: if running.config.via == Via::Uplink { "uplink" } else { "mesh" }.to_owned(),
                listen: running.listens(),
                servers: running.servers.clone(),
                pid: running.handle.pid(),
                restarts: running.restarts,
                lacks: running.lacks.map(str::to_owned),
                counters,
            });
        }
        reports
    }

    fn gather_stats(&mut self) {
        for running in &mut self.list {
            if !running.down && running.handle.ask_stats().is_ok() {
                running.counted = None;
            }
        }
        let end = now() + STATS;
        loop {
            let waited_for = self.list.iter().filter(|r| !r.down && r.counted.is_none());
            let mut fds = waited_for.map(|r| PollFd::from_borrowed_fd(r.handle.fd(), PollFlags::IN)).gather();
            let left = Timespec { tv_sec: 0, tv_nsec: (end - now()).subsec_nanos().into() };
            if fds.is_empty() || left.tv_nsec == 0 || rustix::event::poll(&mut fds, Some(&left)) == Ok(0) {
                return;
            }
            self.on_events();
        }
    }

    /// Processes of a daemon before us, those ended already left out.
    fn left_processes(&self) -> Vec<u32> {
        let mut ours = self.orphans.clone();
        self.list.iter().map(|r| r.handle.pid()).add_to(&mut ours);
        left::known(&self.runtime, &ours)
    }

    fn write_down(&self) {
        let mut gone = left::files(&self.runtime);
        for running in &self.list {
            let name = file_name(&running.config.name);
            gone.retain(|file| *file != *name);
            let path = self.runtime.file(&name);
            if let Err(error) = replace(&path, &format!("{}\n", running.handle.pid())) {
                log::warn!(
                    "{}: {error}: after a crash the next run cannot take this resolver over",
                    path.display()
                );
            }
        }
        for file in gone {
            let _ = fs::remove_file(self.runtime.file("").join(&file));
        }
    }
}

impl Running {
    fn start(
        config: config::Resolver,
        mark: Mark,
        listeners: Vec<Listener>,
        kept: &[Peer],
    ) -> Result<Box<Running>, String> {
        let of_sockets = (config.via == Via::Uplink).then_some((mark.value, mark.mask));
        let limits = Limits { cache: config.cache, ..Limits::default() };
        let make_socket = move |kind| socket::unbound(kind, of_sockets);
        let mut handle = match Resolver::spawn(&config.name, limits, listeners, make_socket) {
            Ok(handle) => handle,
            Err(error) => {
                return Err(format!("resolver {}: its process cannot be started: {error}", config.name));
            }
        };
        if config.via == Via::Uplink {
            handle.keep(kept.to_vec());
        }
        Ok(Box::new(Running {
            config,
            mark,
            handle,
            told: None,
            servers: Vec::new(),
            counted: None,
            restarts: 0,
            lacks: None,
            down: false,
        }))
    }

    /// Whether it was started for this.
    fn is(&self, config: &config::Resolver, mark: Mark) -> bool {
        self.mark == mark && self.config == *config
    }

    fn listens(&self) -> Vec<String> {
        self.config.listen.iter().map(ToString::to_string).gather()
    }

    fn complain(&mut self, why: &Error) {
        if !self.down {
            log::error!("resolver {}: does not run: {why}; trying again", self.config.name);
        }
        self.down = true;
    }
}

/// A listener: one of those that are `left`, or a new one, or that of a process that nobody wrote down.
#[inline(never)]
fn listener(
    resolver: &config::Resolver,
    addr: SocketAddr,
    mark: Mark,
    left: &mut Vec<Listener>,
    strays: &mut Vec<u32>,
) -> Result<Listener, Error> {
    if let Some(n) = left.iter().position(|l| l.addr == addr) {
        return Ok(left.swap_remove(n));
    }
    let error = match Listener::bind(addr, (resolver.via == Via::Uplink).then_some(mark)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => error,
        done => return done,
    };
    let Some((pid, mut listeners)) = left::stray(addr) else { return Err(error) };
    strays.push(pid);
    left.append(&mut listeners);
    let found = left.iter().position(|l| l.addr == addr);
    found.map(|n| left.swap_remove(n)).ok_or(error)
}

fn cannot_listen(resolver: &config::Resolver, addr: SocketAddr, error: &Error) -> String {
    let mend = match error.kind() {
        ErrorKind::AddrInUse => "another program listens there: stop it, or change `list listen`",
        ErrorKind::AddrNotAvailable => "there is no such address here: is the loopback device up?",
        ErrorKind::PermissionDenied => "run as root",
        _ => "change `list listen`",
    };
    format!("resolver {}: cannot listen on {addr}: {error}; {mend}", resolver.name)
}

fn file_name(resolver: &str) -> String {
    [FILE, resolver].concat()
}
