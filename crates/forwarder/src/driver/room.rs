//! All sockets of a resolver, as the engine uses them.

use super::clients::Clients;
use super::pool::Pool;
use super::random::Random;
use super::{Listening, Token, now};
use crate::engine::{CannotAsk, Client, Outside, SlotId, Transport};
use narrowgate_model::Time;
use narrowgate_sys::socket::Kind;
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, acceptfrom_with, recvfrom, sendto};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// See the module's head.
pub(super) struct Room {
    pub epoll: OwnedFd,
    listeners: Vec<Listening>,
    pub pool: Pool,
    pub clients: Clients,
    random: Random,
}

impl Room {
    pub fn new(listeners: Vec<Listening>) -> io::Result<Room> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (n, listener) in (0u8..).zip(&listeners) {
            epoll::add(&epoll, listener.udp, Token::Udp(n).data(), epoll::EventFlags::IN)?;
            epoll::add(&epoll, listener.tcp, Token::Tcp(n).data(), epoll::EventFlags::IN)?;
        }
        Ok(Room {
            epoll,
            listeners,
            pool: Pool::default(),
            clients: Clients::default(),
            random: Random::new(),
        })
    }

    pub fn adopt(&mut self, kind: Kind, descriptors: Vec<OwnedFd>) {
        self.pool.adopt(self.epoll.as_fd(), kind, descriptors);
    }

    /// One datagram of a client's; without an address if it is from one that is not answered.
    pub fn receive_from_client(
        &mut self,
        listener: u8,
        buffer: &mut [u8],
    ) -> Option<(usize, Option<SocketAddr>)> {
        let listener = self.listeners.get(usize::from(listener))?;
        let (length, _, from) = recvfrom(listener.udp, buffer, RecvFlags::DONTWAIT).ok()?;
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        Some((length, from.filter(|from| may_ask(&listener.addr, from))))
    }

    pub fn accept(&mut self, now: Time, listener: u8) {
        let Some(listener) = self.listeners.get(usize::from(listener)) else { return };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok((fd, from)) = acceptfrom_with(listener.tcp, flags) {
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            if from.is_some_and(|from| may_ask(&listener.addr, &from)) {
                self.clients.add(self.epoll.as_fd(), now, fd);
            }
        }
    }

    pub fn client_ready(
        &mut self,
        now: Time,
        index: u32,
        flags: epoll::EventFlags,
        buffer: &mut [u8],
    ) -> Vec<(u64, Vec<u8>)> {
        self.clients.ready(self.epoll.as_fd(), now, index, flags, buffer)
    }

    pub fn close_idle_clients(&mut self, now: Time) {
        self.clients.close_idle(now);
    }

    /// Sends what was put off until the end of a round.
    pub fn flush(&mut self) {}

    pub fn listens_on(&self, server: &SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            let same = listener.addr.ip() == server.ip()
                || listener.addr.ip().is_unspecified() && server.ip().is_loopback();
            same && listener.addr.port() == server.port()
        })
    }
}

/// Who may ask: on the loopback only itself, whatever came in with a forged address. A listener elsewhere was configured for others.
fn may_ask(listener: &SocketAddr, from: &SocketAddr) -> bool {
    from.port() != 0 && (!listener.ip().is_loopback() || from.ip().is_loopback())
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
        match client {
            Client::Udp { listener, from } => {
                if let Some(listener) = self.listeners.get(usize::from(*listener)) {
                    // A client that is gone, or does not read, asks again if it cares.
                    let _ = sendto(listener.udp, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, from);
                }
            }
            Client::Tcp(id) => self.clients.reply(self.epoll.as_fd(), now(), *id, message),
        }
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }
}
