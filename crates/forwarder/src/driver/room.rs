//! All sockets of a resolver, as the engine uses them.

use super::clients::Clients;
use super::pool::Pool;
use super::random::Random;
use super::{Listening, now};
use crate::engine::{CannotAsk, Client, Fate, Outside, Resolved, SlotId, Transport};
use alloc::vec::Vec;
use core::net::SocketAddr;
use narrowgate_model::Time;
use narrowgate_sys::datagrams::ReceiveBatch;
use narrowgate_sys::socket::Kind;
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{SocketFlags, accept_with};

/// See the module's head.
pub(super) struct Room {
    pub epoll: OwnedFd,
    listeners: Vec<Listening>,
    pub pool: Pool,
    pub clients: Clients,
    pub resolved: Resolved,
    /// When this round began.
    pub now: Time,
    random: Random,
}

impl Room {
    /// With an epoll that waits for the listeners already.
    #[inline(never)]
    pub fn new(epoll: OwnedFd, listeners: Vec<Listening>) -> Room {
        Room {
            epoll,
            listeners,
            pool: Pool::default(),
            clients: Clients::default(),
            resolved: Resolved::default(),
            // The clock's way without a system call is found at its first use, in a place that the sandbox closes later.
            now: now(),
            random: Random::new(),
        }
    }

    pub fn adopt(&mut self, kind: Kind, descriptors: Vec<OwnedFd>) {
        self.pool.adopt(self.epoll.as_fd(), kind, descriptors);
    }

    /// Some datagrams of clients.
    pub fn receive_from_clients(&self, listener: u8, batch: &mut ReceiveBatch) -> usize {
        let Some(listener) = self.listeners.get(usize::from(listener)) else { return 0 };
        batch.receive(listener.udp.as_fd()).unwrap_or(0)
    }

    pub fn accept(&mut self, now: Time, listener: u8) {
        let Some(listener) = self.listeners.get(usize::from(listener)) else { return };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok(fd) = accept_with(&listener.tcp, flags) {
            self.clients.add(self.epoll.as_fd(), now, fd);
        }
    }

    pub fn client_ready(&mut self, now: Time, index: u32, flags: epoll::EventFlags, buffer: &mut [u8]) {
        self.clients.ready(self.epoll.as_fd(), now, index, flags, buffer);
    }

    pub fn next_query(&mut self, index: u32) -> Option<(u64, Vec<u8>)> {
        self.clients.next_query(self.epoll.as_fd(), index)
    }

    pub fn close_idle_clients(&mut self, now: Time) {
        self.clients.close_idle(now);
    }

    /// Sends the answers that were put off until the end of a round.
    pub fn flush(&mut self) {
        for listener in &mut self.listeners {
            if !listener.replies.is_empty() {
                listener.replies.send(listener.udp.as_fd());
            }
        }
    }

    /// What was withheld, or what goes in its place.
    pub fn give_all(&mut self, answers: Vec<(Client, Vec<u8>)>) {
        answers.iter().for_each(|(client, answer)| self.give(client, answer));
    }

    fn give(&mut self, client: &Client, message: &[u8]) {
        match client {
            Client::Udp { listener, from } => {
                if let Some(listener) = self.listeners.get_mut(usize::from(*listener))
                    && listener.replies.push(from, message)
                {
                    listener.replies.send(listener.udp.as_fd());
                }
            }
            Client::Tcp(id) => self.clients.reply(self.epoll.as_fd(), self.now, *id, message),
        }
    }

    /// What comes from now on is for whoever else has these sockets.
    pub fn stop_listening(&mut self) {
        for listener in &self.listeners {
            let _ = epoll::delete(&self.epoll, &listener.udp);
            let _ = epoll::delete(&self.epoll, &listener.tcp);
        }
    }

    pub fn listens_on(&self, server: &SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            let same = listener.addr.ip() == server.ip()
                || listener.addr.ip().is_unspecified() && server.ip().is_loopback();
            same && listener.addr.port() == server.port()
        })
    }
}

/// Who is answered. A socket on the loopback takes nothing that did not come by the loopback device (its filter sees to that), but
/// what was redirected to it comes from any of this host's addresses.
pub fn may_ask(from: &SocketAddr) -> bool {
    from.port() != 0
}

impl Outside for Room {
    fn open(&mut self, transport: Transport, server: SocketAddr) -> Result<SlotId, CannotAsk> {
        self.pool.open(self.epoll.as_fd(), transport, server)
    }

    fn send(&mut self, slot: SlotId, message: &[u8]) -> Result<(), CannotAsk> {
        self.pool.send(self.epoll.as_fd(), slot, message)
    }

    fn close(&mut self, slot: SlotId) {
        self.pool.close(self.epoll.as_fd(), slot);
    }

    fn reply(&mut self, client: &Client, message: &[u8]) {
        match self.resolved.fate(self.now, client, message) {
            Fate::Pass => self.give(client, message),
            Fate::Wait => {}
            Fate::Fail(failure) => self.give(client, &failure),
        }
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }
}
