//! The resolvers: their listening sockets, their processes, whom they are to ask.
//!
//! A resolver's process outlives us. Its number is written down in the runtime directory, so that the next daemon takes the
//! listening sockets over from it, starts its own process on them, and only then ends the old one: at no moment does
//! nobody listen.

use super::left::{self, FILE};
use super::upstreams::Ways;
use super::{now, sooner, strict};
use crate::report::{CounterReport, ResolverReport};
use crate::runtime::RuntimeDir;
use narrowgate_forwarder::control::Stats;
use narrowgate_forwarder::engine::{Counters, Limits, Peer, Upstreams};
use narrowgate_forwarder::parent::{self, Event, Listener, Resolver};
use narrowgate_model::Gather;
use narrowgate_model::config::{self, Via};
use narrowgate_model::{ByName, Config, Facts, Mark, Server, Time};
use narrowgate_sys::{process, socket};
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// When to start a process again that could not be started.
const RESPAWN: Duration = Duration::from_secs(1);
/// How long `status` waits for the counters.
const STATS: Duration = Duration::from_millis(100);

/// All resolvers.
pub struct Resolvers {
    runtime: RuntimeDir,
    list: Vec<Running>,
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
    stats: Option<Stats>,
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
            left.extend(running.handle.clone_listeners().unwrap_or_default());
        }
        for pid in self.left_processes() {
            match Listener::take_from(pid) {
                Ok(listeners) => left.extend(listeners),
                Err(error) => log::warn!(
                    "the resolver process {pid} of a run before this one keeps its sockets: {error}"
                ),
            }
        }
        let mut acquired = Acquired { resolvers: Vec::new(), strays: Vec::new() };
        for resolver in config.resolvers.iter().filter(|r| !self.runs(r, config.mark)) {
            let mark = (resolver.via == Via::Uplink).then_some(config.mark);
            let mut listeners = Vec::new();
            for addr in &resolver.listen {
                if let Some(n) = left.iter().position(|l| l.addr == *addr) {
                    listeners.push(left.swap_remove(n));
                    continue;
                }
                match Listener::bind(*addr, mark) {
                    Ok(listener) => listeners.push(listener),
                    Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
                        log::warn!("resolver {}: not on {addr}: this kernel has no IPv6", resolver.name);
                    }
                    Err(error) => {
                        let taken = error.kind() == narrowgate_sys::io::ErrorKind::AddrInUse;
                        let stray = taken.then(|| left::stray(*addr)).flatten();
                        let (pid, listeners_of) =
                            stray.ok_or_else(|| cannot_listen(resolver, *addr, &error))?;
                        acquired.strays.push(pid);
                        left.extend(listeners_of);
                        let found = left.iter().position(|l| l.addr == *addr).map(|n| left.swap_remove(n));
                        listeners.extend(found);
                    }
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
        let (kept, replaced): (Vec<_>, Vec<_>) = std::mem::take(&mut self.list)
            .into_iter()
            .partition(|r| r.mark == config.mark && config.resolvers.contains(&r.config));
        self.list = kept;
        let mut left = self.left_processes();
        left.extend(acquired.strays);
        for (resolver, listeners) in acquired.resolvers {
            let mark = (resolver.via == Via::Uplink).then_some((config.mark.value, config.mark.mask));
            let limits = Limits { cache: resolver.cache, ..Limits::default() };
            let mut handle =
                Resolver::spawn(&resolver.name, limits, listeners, move |kind| socket::unbound(kind, mark))
                    .map_err(|e| format!("resolver {}: its process cannot be started: {e}", resolver.name))?;
            if resolver.via == Via::Uplink {
                handle.keep(self.kept.clone());
            }
            self.list.push(Running {
                config: resolver,
                mark: config.mark,
                handle,
                told: None,
                servers: Vec::new(),
                stats: None,
                restarts: 0,
                lacks: None,
                down: false,
            });
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
        let one = |r: &Running| {
            let listen: Vec<String> = r.config.listen.iter().map(SocketAddr::to_string).gather();
            format!("resolver {} listens on {}", r.config.name, listen.join(" "))
        };
        self.list.iter().map(one).gather().join(", ")
    }

    /// Tells each resolver whom to ask now, if that has changed.
    pub fn tell(&mut self, config: &Config, facts: &ByName<Facts>) {
        let at = now();
        // Those that are down are still to be started again.
        self.wake.take_if(|_| self.list.iter().all(|r| !r.down));
        self.ways.begin();
        for running in &mut self.list {
            let (servers, upstreams) = self.ways.upstreams(config, &running.config, facts, at);
            running.servers = servers.iter().map(Server::to_string).gather();
            if running.told.as_ref() == Some(&upstreams) {
                continue;
            }
            let asks = upstreams.sets.first().is_some_and(|set| set.state.is_up());
            let look_up = config.strict && running.config.via == Via::Uplink && asks;
            running.told = Some(upstreams.clone());
            if let Err(error) = running.handle.update(upstreams) {
                running.complain(&error.to_string());
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
                    Event::Stats(stats) => running.stats = Some(stats),
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
                        running.complain(&error.to_string());
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
        std::mem::take(&mut self.found)
    }

    /// Peers' names that were asked in vain, and (`true`) that are answered again, since this was asked last.
    pub fn take_news(&mut self) -> Vec<(Vec<u8>, bool)> {
        std::mem::take(&mut self.news)
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
        for running in std::mem::take(&mut self.list) {
            let _ = std::fs::remove_file(self.runtime.file(&file_name(&running.config.name)));
            running.handle.stop();
        }
        // Those that were still answering for a daemon before us.
        for pid in self.orphans.drain(..).filter(|pid| left::is_resolver(*pid)) {
            if let Ok(pid) = process::pid(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// For `status`; waits a moment for the counters.
    pub fn report(&mut self) -> Vec<ResolverReport> {
        self.gather_stats();
        let counters = |stats: &Stats| {
            let values = stats.counters.values();
            Counters::NAMES
                .iter()
                .zip(values)
                .map(|(name, value)| CounterReport { name: (*name).to_owned(), value })
                .gather()
        };
        let one = |running: &Running| ResolverReport {
            name: running.config.name.clone(),
            via: match running.config.via {
                Via::Uplink => "uplink".to_owned(),
                Via::Mesh => "mesh".to_owned(),
            },
            listen: running.config.listen.iter().map(SocketAddr::to_string).gather(),
            servers: running.servers.clone(),
            pid: running.handle.pid(),
            restarts: running.restarts,
            lacks: running.lacks.map(str::to_owned),
            counters: running.stats.as_ref().map(counters).unwrap_or_default(),
        };
        self.list.iter().map(one).gather()
    }

    fn gather_stats(&mut self) {
        for running in self.list.iter_mut().filter(|r| !r.down) {
            if running.handle.ask_stats().is_ok() {
                running.stats = None;
            }
        }
        let end = now() + STATS;
        while self.list.iter().any(|r| !r.down && r.stats.is_none()) && now() < end {
            let mut fds: Vec<_> = self
                .list
                .iter()
                .filter(|r| !r.down && r.stats.is_none())
                .map(|r| rustix::event::PollFd::from_borrowed_fd(r.handle.fd(), rustix::event::PollFlags::IN))
                .gather();
            let left =
                rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from((end - now()).subsec_nanos()) as _ };
            if rustix::event::poll(&mut fds, Some(&left)) == Ok(0) {
                break;
            }
            self.on_events();
        }
    }

    fn runs(&self, resolver: &config::Resolver, mark: Mark) -> bool {
        self.list.iter().any(|r| r.config == *resolver && r.mark == mark)
    }

    /// Processes of a daemon before us, those ended already left out.
    fn left_processes(&self) -> Vec<u32> {
        let running = self.list.iter().map(|r| r.handle.pid());
        let ours: Vec<u32> = running.chain(self.orphans.iter().copied()).gather();
        left::known(&self.runtime, &ours)
    }

    fn write_down(&self) {
        if let Ok(files) = std::fs::read_dir(self.runtime.file("")) {
            for file in files.flatten() {
                let name = file.file_name();
                let current = self.list.iter().any(|r| name == *file_name(&r.config.name));
                if name.as_encoded_bytes().starts_with(FILE.as_bytes()) && !current {
                    let _ = std::fs::remove_file(file.path());
                }
            }
        }
        for running in &self.list {
            let path = self.runtime.file(&file_name(&running.config.name));
            if let Err(error) = crate::runtime::replace(&path, &format!("{}\n", running.handle.pid())) {
                log::warn!(
                    "{}: {error}: after a crash the next run cannot take this resolver over",
                    path.display()
                );
            }
        }
    }
}

impl Running {
    fn complain(&mut self, why: &str) {
        if !self.down {
            log::error!("resolver {}: does not run: {why}; trying again", self.config.name);
        }
        self.down = true;
    }
}

fn cannot_listen(resolver: &config::Resolver, addr: SocketAddr, error: &narrowgate_sys::io::Error) -> String {
    let mend = match error.kind() {
        narrowgate_sys::io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or change `list listen`"
        }
        narrowgate_sys::io::ErrorKind::AddrNotAvailable => {
            "there is no such address here: is the loopback device up?"
        }
        narrowgate_sys::io::ErrorKind::PermissionDenied => "run as root",
        _ => "change `list listen`",
    };
    format!("resolver {}: cannot listen on {addr}: {error}; {mend}", resolver.name)
}

fn file_name(resolver: &str) -> String {
    format!("{FILE}{resolver}")
}
