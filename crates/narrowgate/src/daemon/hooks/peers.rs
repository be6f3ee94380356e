//! Whether a tunnel's peers can be found: their names are asked of the WAN resolver, again and again, until one is answered.
//!
//! A VPN that could not look its server up sleeps before it tries again. We do not: so we know first, and the hook can wake it. And the
//! answer is in the resolver's cache by then.

use crate::daemon::{sooner, strict};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use narrowgate_forwarder::engine::wire_name;
use narrowgate_model::Time;
use narrowgate_model::config::{Host, Peer, Tunnel};
use narrowgate_sys::io;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags};

/// The tunnels whose peers are being asked for.
#[derive(Default)]
pub struct Peers {
    list: Vec<Asked>,
}

struct Asked {
    tunnel: String,
    peers: Vec<Peer>,
    since: Time,
    /// Waits for answers until `next`, or if there is none, for `next`.
    socket: Option<OwnedFd>,
    outstanding: usize,
    next: Time,
    /// From then on it counts as found: a VPN whose own question was answered at the same time has begun to speak by then.
    known: Option<Time>,
}

impl Peers {
    /// Asks for those of these tunnels, and of no others, and reads what is answered.
    #[inline(never)]
    pub fn ask(&mut self, tunnels: &[&Tunnel], listen: Option<SocketAddr>, now: Time) {
        self.list.retain(|asked| tunnels.iter().any(|t| t.name == asked.tunnel && t.peers == asked.peers));
        for tunnel in tunnels {
            if !self.list.iter().any(|asked| asked.tunnel == tunnel.name) {
                self.list.push(Asked {
                    tunnel: tunnel.name.clone(),
                    peers: tunnel.peers.clone(),
                    since: now,
                    socket: None,
                    outstanding: 0,
                    next: now,
                    known: names(tunnel).next().is_none().then_some(now + GRACE),
                });
            }
        }
        for asked in self.list.iter_mut().filter(|a| a.known.is_none()) {
            asked.step(listen, now);
        }
    }

    /// Whether one of them was found, or needs no finding.
    pub fn are_known(&self, tunnel: &Tunnel, now: Time) -> bool {
        let known = |asked: &Asked| asked.tunnel == tunnel.name && asked.known.is_some_and(|at| at <= now);
        self.list.iter().any(known)
    }

    /// To be polled for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.list.iter().filter_map(|asked| Some(asked.socket.as_ref()?.as_fd()))
    }

    /// When something will be due though no answer comes.
    pub fn next_timeout(&self, now: Time) -> Option<Time> {
        let mut next = None;
        for asked in &self.list {
            let at = asked.known.unwrap_or(asked.next);
            next = sooner(next, (at > now).then_some(at));
        }
        next
    }
}

impl Asked {
    #[inline(never)]
    fn step(&mut self, listen: Option<SocketAddr>, now: Time) {
        let mut buffer = [0; 512];
        while let Some(socket) = &self.socket {
            let Ok((length, _)) = rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) else { break };
            let header = buffer.get(..length).and_then(|message| message.first_chunk::<12>());
            // No error, and something in the answer section (RFC 1035, 4.1.1).
            let found = header.is_some_and(|h| h[3] & 15 == 0 && (h[6], h[7]) != (0, 0));
            self.outstanding = self.outstanding.saturating_sub(1);
            if found {
                self.known = Some(now + GRACE);
                break;
            }
            if self.outstanding == 0 {
                self.pause(now);
            }
        }
        if self.known.is_some() {
            self.socket = None;
        } else if self.next <= now {
            if self.socket.is_some() {
                self.pause(now);
            } else {
                self.send(listen, now);
            }
        }
    }

    /// The longer it lasts, the less often.
    fn pause(&mut self, now: Time) {
        self.socket = None;
        self.next = now + (now.since(self.since) / 64).clamp(SHORTEST, LONGEST);
    }

    fn send(&mut self, listen: Option<SocketAddr>, now: Time) {
        self.next = now + PATIENCE;
        let Some(listen) = listen else { return };
        match self.questions(listen) {
            Ok((socket, sent)) => (self.socket, self.outstanding) = (Some(socket), sent),
            Err(_) => self.pause(now),
        }
    }

    #[inline(never)]
    fn questions(&self, listen: SocketAddr) -> io::Result<(OwnedFd, usize)> {
        let socket = strict::socket_to(listen)?;
        let mut sent = 0;
        for name in self.peers.iter().filter_map(name).filter_map(wire_name).take(MOST_NAMES) {
            for qtype in [strict::A, strict::AAAA] {
                rustix::net::send(&socket, &strict::question(&name, qtype), SendFlags::DONTWAIT)?;
                sent += 1;
            }
        }
        Ok((socket, sent))
    }
}

/// The peers' names.
pub fn names(tunnel: &Tunnel) -> impl Iterator<Item = &str> {
    tunnel.peers.iter().filter_map(name)
}

fn name(peer: &Peer) -> Option<&str> {
    match &peer.host {
        Host::Name(name) => Some(name),
        Host::Addr(_) => None,
    }
}

/// A little more than the resolver takes before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// See [`Asked::known`].
pub const GRACE: Duration = Duration::from_millis(100);
/// Between two rounds.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// More names than this say nothing more.
const MOST_NAMES: usize = 8;
