//! The parent's side: starting a resolver, feeding it, and starting it again when it dies.
//!
//! ```text
//! let listeners = vec![Listener::bind("127.0.0.1:54".parse()?, Some(mark))?];       // the uplink's: marked too
//! let mut resolver = Resolver::spawn("wan", Limits::default(), listeners, move |kind| socket::unbound(kind, Some(mark)))?;
//! resolver.update(Upstreams::single(Set { servers, state: UplinkState::Up, detail: String::new() }))?;
//! // poll resolver.fd() for reading, and whenever it is ready:
//! for event in resolver.on_readable() { … }                                          // also starts it again
//! ```
//!
//! - The listening sockets stay open here, so a query that comes while the child is being started again waits in them.
//! - Dropping the handle lets the child live: it goes on alone. [`Resolver::stop`] ends it.
//! - A new parent finds the pid of the old one's child (whoever wrote it down), takes the listening sockets out of it with [`Listener::take_from`],
//!   starts its own child on them, and then ends the old one with [`end_orphan`]. At no moment does nobody listen.
//! - Servers with a scope: [`resolve`] turns `fe80::1%wan` into an address with the device's number, and so it does with
//!   `192.168.1.1%wan`, as an IPv4-mapped one. Call it again, and [`update`](Resolver::update), when the device was made anew.

use crate::child::{ARGUMENT, FIRST_LISTENER, MAX_LISTENERS};
use crate::control::{MAX_MESSAGE, Sandbox, Stats, ToChild, ToParent};
use crate::engine::{Counters, Limits, Peer, Upstreams};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use narrowgate_model::decimal;
use narrowgate_model::{Mark, Server};
use narrowgate_sys::channel::{self, Received};
use narrowgate_sys::io;
use narrowgate_sys::path::Path;
use narrowgate_sys::process::ExitStatus;
use narrowgate_sys::socket::{self, Kind};
use narrowgate_sys::spawn::{Child, Program};
use narrowgate_sys::time::Instant;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// A place to listen.
#[derive(Debug)]
pub struct Listener {
    /// Where.
    pub addr: SocketAddr,
    /// The UDP socket, bound.
    pub udp: OwnedFd,
    /// The TCP socket, listening.
    pub tcp: OwnedFd,
}

impl Listener {
    /// Binds both sockets, marked if the queries that come by them must not be answered unmarked. Port 0 takes any that is free for both.
    pub fn bind(addr: SocketAddr, mark: Option<Mark>) -> io::Result<Listener> {
        let mark = mark.map(|mark| (mark.value, mark.mask));
        let tcp = socket::tcp_listener(addr, mark)?;
        let (_, addr) = socket::bound_to(tcp.as_fd())?;
        Ok(Listener { addr, udp: socket::udp_listener(addr, mark)?, tcp })
    }

    /// Copies of the listening sockets of the resolver `pid`, which some other parent started. Needs the right to trace it (root has it).
    pub fn take_from(pid: u32) -> io::Result<Vec<Listener>> {
        let mut listeners = Vec::new();
        for n in 0..MAX_LISTENERS as i32 {
            let number = FIRST_LISTENER + 2 * n;
            let Ok(udp) = channel::take_from(pid, number) else { break };
            // What is behind the last of them is no socket, or is bound to nothing.
            let Ok((false, addr)) = socket::bound_to(udp.as_fd()) else { break };
            if addr.port() == 0 {
                break;
            }
            let tcp = channel::take_from(pid, number + 1)?;
            match socket::bound_to(tcp.as_fd()) {
                Ok((true, same)) if same == addr => listeners.push(Listener { addr, udp, tcp }),
                _ => break,
            }
        }
        if listeners.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(listeners) }
    }

    fn try_clone(&self) -> io::Result<Listener> {
        Ok(Listener { addr: self.addr, udp: self.udp.try_clone()?, tcp: self.tcp.try_clone()? })
    }
}

/// Ends a resolver that a dead parent left behind: it takes no more queries, answers those it has, within 5 s, and goes.
pub fn end_orphan(pid: u32) -> io::Result<()> {
    Ok(rustix::process::kill_process(narrowgate_sys::process::pid(pid)?, rustix::process::Signal::TERM)?)
}

/// The servers' addresses with their devices' numbers, and the servers whose device is not there. An IPv4 address has no
/// place for a number: with one it is IPv4-mapped (RFC 4291, 2.5.5.2), and the child's sockets know it for what it is.
pub fn resolve(servers: &[Server]) -> (Vec<SocketAddr>, Vec<&Server>) {
    let (mut found, mut lost) = (Vec::with_capacity(servers.len()), Vec::new());
    for server in servers {
        let index = match &server.scope {
            Some(scope) => decimal(scope).or_else(|| narrowgate_sys::link::index_of(scope).ok()),
            // An address that is nowhere without a device is no server.
            None if server.addr.is_ipv6() && server.is_link_local() => None,
            None => Some(0),
        };
        let Some(index) = index else {
            lost.push(server);
            continue;
        };
        let ip = match server.addr {
            IpAddr::V4(addr) if server.scope.is_some() => addr.to_ipv6_mapped().into(),
            addr => addr,
        };
        let mut addr = SocketAddr::new(ip, server.port);
        if let SocketAddr::V6(addr) = &mut addr {
            addr.set_scope_id(index);
        }
        found.push(addr);
    }
    (found, lost)
}

/// What became known by the channel.
#[derive(Debug)]
pub enum Event {
    /// The child's sandbox is closed and it answers.
    Ready(Sandbox),
    /// Its counters, since the resolver was made; lives of the child before this one are added.
    Stats(Stats),
    /// A peer's name has other addresses than those that were [kept](Resolver::keep), of one IP version.
    Found(Peer),
    /// A peer's name was asked in vain for the first time ([`Resolver::watch`]), or is answered again since.
    Peer {
        /// In [`wire_name`](crate::engine::wire_name) form.
        name: Vec<u8>,
        /// Whether it is answered.
        answered: bool,
    },
    /// It died and was started again, so often by now.
    Restarted {
        /// How it ended, if that could be seen.
        status: Option<ExitStatus>,
        /// Restarts since the resolver was made.
        times: u32,
    },
    /// It died, or could not be fed, and could not be started again. Call [`Resolver::respawn`] after a while.
    Down(io::Error),
}

/// Makes sockets to servers.
type MakeSocket = Box<dyn FnMut(Kind) -> io::Result<OwnedFd>>;

/// What each child is started with.
struct Plan {
    name: String,
    listeners: Vec<Listener>,
    make_socket: MakeSocket,
    /// How it starts, where the peers were last, whom to ask: as it was told last, empty if it was not.
    messages: [Vec<u8>; 3],
}

/// One resolver: its child process, and all that a new one would need.
pub struct Resolver {
    plan: Plan,
    child: Child,
    channel: OwnedFd,
    restarts: u32,
    /// When it was started lately; too often means that starting it again is no help.
    starts: Vec<Instant>,
    /// What earlier children had counted, as far as they told.
    before: Counters,
    last: Counters,
    resolved: Vec<(u32, Vec<IpAddr>)>,
}

impl Resolver {
    /// Starts a resolver. `make_socket` makes the sockets to servers, marked where they have to be; an error of it is passed on, and no child is started.
    pub fn spawn(
        name: &str,
        limits: Limits,
        listeners: Vec<Listener>,
        make_socket: impl FnMut(Kind) -> io::Result<OwnedFd> + 'static,
    ) -> io::Result<Resolver> {
        Resolver::spawn_with(name, limits, true, listeners, Box::new(make_socket))
    }

    /// As [`spawn`](Self::spawn), for a parent that nobody starts again: the child ends with it, so that its addresses are free.
    pub fn spawn_bound(
        name: &str,
        limits: Limits,
        listeners: Vec<Listener>,
        make_socket: impl FnMut(Kind) -> io::Result<OwnedFd> + 'static,
    ) -> io::Result<Resolver> {
        Resolver::spawn_with(name, limits, false, listeners, Box::new(make_socket))
    }

    fn spawn_with(
        name: &str,
        limits: Limits,
        alone: bool,
        listeners: Vec<Listener>,
        make_socket: MakeSocket,
    ) -> io::Result<Resolver> {
        if listeners.is_empty() || listeners.len() > MAX_LISTENERS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a resolver listens on one to eight addresses",
            ));
        }
        let mut addrs = Vec::new();
        listeners.iter().for_each(|listener| addrs.push(listener.addr));
        let start = ToChild::Start { limits, alone, listeners: addrs }.encode();
        let messages = [start, Vec::new(), Vec::new()];
        let mut plan = Plan { name: name.to_owned(), listeners, make_socket, messages };
        let (child, channel) = plan.start()?;
        Ok(Resolver {
            plan,
            child,
            channel,
            restarts: 0,
            starts: Vec::new(),
            before: Counters::default(),
            last: Counters::default(),
            resolved: Vec::new(),
        })
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Where it listens.
    pub fn listeners(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.plan.listeners.iter().map(|listener| listener.addr)
    }

    /// The child's process id: to be written where the next parent finds it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What to wait for. It changes when the child is started again.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Tells it whom to ask. An error only if the child is down and cannot be started; the news is kept for the next one in any case.
    pub fn update(&mut self, upstreams: Upstreams) -> io::Result<()> {
        let message = ToChild::Update(upstreams).encode();
        if message.len() > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many names or servers"));
        }
        let sent = channel::send(self.channel.as_fd(), &message, &[]);
        self.plan.messages[2] = message;
        // If it was not, it is dead, or so stuck that its channel is full.
        if sent.is_err() { self.respawn().map(drop) } else { Ok(()) }
    }

    /// Tells it where the peers were found last, and that it shall tell when that changes. It is told to later children as well.
    pub fn keep(&mut self, peers: Vec<Peer>) {
        let message = ToChild::Kept(peers).encode();
        // A child that does not hear it is dead or will be.
        let _ = channel::send(self.channel.as_fd(), &message, &[]);
        self.plan.messages[1] = message;
    }

    /// Peers' names were asked in vain: it shall find out when they are answered again. They come as events.
    pub fn watch(&self) {
        // A child that does not hear it is dead or will be.
        let _ = channel::send(self.channel.as_fd(), &ToChild::Watch.encode(), &[]);
    }

    /// Asks for the counters; they come as an event.
    pub fn ask_stats(&self) -> io::Result<()> {
        channel::send(self.channel.as_fd(), &ToChild::AskStats.encode(), &[])
    }

    /// Reads what the child said, gives it the sockets that it needs, and starts it again if it is dead.
    pub fn on_readable(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            match channel::receive(self.channel.as_fd(), &mut buffer) {
                Ok(Received::Nothing) => return events,
                Ok(Received::Message(length, _)) => {
                    if let Some(message) = buffer.get(..length).and_then(ToParent::decode) {
                        self.heard(message, &mut events);
                    }
                }
                Ok(Received::Closed) | Err(_) => {
                    events.push(match self.respawn() {
                        Ok(status) => Event::Restarted { status, times: self.restarts },
                        Err(error) => Event::Down(error),
                    });
                    return events;
                }
            }
        }
    }

    fn heard(&mut self, message: ToParent, events: &mut Vec<Event>) {
        events.push(match message {
            ToParent::Ready(sandbox) => Event::Ready(sandbox),
            ToParent::NeedSockets { kind, count } => {
                let count = usize::from(count).min(MOST_AT_ONCE);
                match feed(self.channel.as_fd(), kind, count, &mut self.plan.make_socket) {
                    Ok(()) => return,
                    Err(error) => Event::Down(error),
                }
            }
            ToParent::Stats(mut stats) => {
                self.last = stats.counters.clone();
                stats.counters.add(&self.before);
                Event::Stats(*stats)
            }
            ToParent::Resolved { id, addresses } => return self.resolved.push((id, addresses)),
            ToParent::Found(peer) => Event::Found(peer),
            ToParent::Peer { name, answered } => Event::Peer { name, answered },
        });
    }

    /// Answers that wait until packets may go to their addresses, which came since this was asked last: a number for [`decide`](Self::decide)
    /// each, and the addresses. There are some only if other names than the peers' are refused (`Upstreams::default` is `None`).
    pub fn take_resolved(&mut self) -> Vec<(u32, Vec<IpAddr>)> {
        core::mem::take(&mut self.resolved)
    }

    /// Whether packets may go to the addresses of that number now. The answer is given to the client, or else a failure.
    pub fn decide(&self, id: u32, let_in: bool) -> io::Result<()> {
        channel::send(self.channel.as_fd(), &ToChild::Decided { id, let_in }.encode(), &[])
    }

    /// Ends the child if it still lives, and starts another with the same listening sockets and servers. How the old one ended.
    pub fn respawn(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.end();
        self.before.add(&core::mem::take(&mut self.last));
        self.resolved.clear();
        if !may_start(&mut self.starts, Instant::now()) {
            return Err(io::Error::other("the resolver's process dies again and again"));
        }
        (self.child, self.channel) = self.plan.start()?;
        self.restarts += 1;
        Ok(status)
    }

    /// Ends the child and gives the listening sockets back: to close them, or for another resolver.
    pub fn stop(mut self) -> Vec<Listener> {
        self.end();
        self.plan.listeners
    }

    /// Ends the child. It has another user: who may not kill it (no CAP_KILL) does not wait for it either.
    fn end(&mut self) -> Option<ExitStatus> {
        match self.child.kill() {
            Ok(()) => self.child.wait().ok(),
            Err(_) => self.child.try_wait().ok()?,
        }
    }

    /// Copies of the listening sockets.
    pub fn clone_listeners(&self) -> io::Result<Vec<Listener>> {
        let mut copies = Vec::with_capacity(self.plan.listeners.len());
        for listener in &self.plan.listeners {
            copies.push(listener.try_clone()?);
        }
        Ok(copies)
    }
}

/// Whether a child that has died may be started again now: at once as a rule, but if that was no help [`OFTEN`] times, only now and
/// then, for the sake of the processor and the log.
fn may_start(starts: &mut Vec<Instant>, now: Instant) -> bool {
    // Those of long ago stand first.
    while starts.first().is_some_and(|start| now - *start >= OFTEN_WITHIN) {
        starts.remove(0);
    }
    let seldom = starts.last().is_some_and(|last| now - *last >= SELDOM);
    let may = starts.len() < OFTEN || seldom;
    if may {
        starts.push(now);
    }
    may
}

impl Plan {
    fn start(&mut self) -> io::Result<(Child, OwnedFd)> {
        let (ours, theirs) = channel::pair()?;
        let mut sockets = Vec::new();
        for listener in &self.listeners {
            sockets.extend_from_slice(&[listener.udp.as_fd(), listener.tcp.as_fd()]);
        }
        // All that it needs lies in the channel before it runs: it never waits for us.
        let [start, later @ ..] = &self.messages;
        channel::send(ours.as_fd(), start, &sockets)?;
        for kind in Kind::ALL {
            let count = if kind.is_tcp() { FIRST_TCP } else { FIRST_UDP };
            feed(ours.as_fd(), kind, count, &mut self.make_socket)?;
        }
        for message in later {
            if !message.is_empty() {
                channel::send(ours.as_fd(), message, &[])?;
            }
        }
        let program = Program {
            arguments: &[ARGUMENT, &self.name],
            input: Some(theirs.as_fd()),
            silent: true,
            ..Program::new(Path::new("/proc/self/exe"))
        };
        Ok((program.spawn()?, ours))
    }
}

/// Gives sockets. A family that the kernel does not have is left out: there are no servers of it either.
fn feed(
    channel: BorrowedFd<'_>,
    kind: Kind,
    count: usize,
    make_socket: &mut dyn FnMut(Kind) -> io::Result<OwnedFd>,
) -> io::Result<()> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        match make_socket(kind) {
            Ok(socket) => sockets.push(socket),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    let mut some = Vec::with_capacity(count);
    sockets.iter().for_each(|socket| some.push(socket.as_fd()));
    channel::send(channel, &ToChild::Sockets(kind).encode(), &some)
}

/// Sockets that a child starts with; it asks for more when it needs them.
const FIRST_UDP: usize = 32;
const FIRST_TCP: usize = 4;
/// However many a child asks for: what one message carries.
const MOST_AT_ONCE: usize = channel::MAX_DESCRIPTORS;
/// So many deaths within that time, and it is started seldom.
const OFTEN: usize = 20;
const OFTEN_WITHIN: Duration = Duration::from_secs(60);
/// So long after the last time.
const SELDOM: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_becomes_a_number_and_what_is_nowhere_is_told() {
        let servers: Vec<Server> =
            ["192.0.2.1", "fe80::1%lo", "fe80::1%no-such", "fe80::1", "[fe80::2%7]:54", "2001:db8::1"]
                .iter()
                .map(|text| text.parse().unwrap())
                .collect();
        let (found, lost) = resolve(&servers);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[fe80::1%1]:53", "[fe80::2%7]:54", "[2001:db8::1]:53"]);
        let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
        assert_eq!(lost, ["fe80::1%no-such", "fe80::1"]);
    }

    #[test]
    fn a_child_that_dies_again_and_again_is_started_seldom_but_never_given_up() {
        let (began, mut starts) = (Instant::now(), Vec::new());
        let mut in_minute = |minute: u64| {
            let seconds = minute * 60..(minute + 1) * 60;
            let tries = seconds.flat_map(|s| (0..10).map(move |n| Duration::from_millis(s * 1000 + n * 100)));
            tries.filter(|after| may_start(&mut starts, began + *after)).count()
        };
        let first = in_minute(0);
        assert!((OFTEN..OFTEN + 8).contains(&first), "{first}");
        for minute in 1..5 {
            let later = in_minute(minute);
            assert!((6..=OFTEN).contains(&later), "{later} in minute {minute}");
        }
    }

    #[test]
    fn an_ipv4_server_of_a_device_keeps_its_number() {
        let servers = [Server::new([192, 0, 2, 1]).over("lo"), Server::new([192, 0, 2, 1]).over("no-such")];
        let (found, lost) = resolve(&servers);
        assert_eq!(found, ["[::ffff:192.0.2.1%1]:53".parse().unwrap()]);
        assert_eq!(lost, [&servers[1]]);
    }
}
