//! The sockets to servers, from the parent and used again and again: connect(2) to no address (AF_UNSPEC) takes a socket's
//! port away, and the next connect gives it a new random one. So a handful of them serves for ever, also when the parent is dead.

use super::Token;
use crate::engine::{CannotAsk, SlotId, Transport};
use narrowgate_sys::socket::Kind;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, connect, connect_unspec, recv, send, sockopt};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

struct Sock {
    fd: OwnedFd,
    kind: Kind,
    stream: Option<Box<Stream>>,
}

/// A TCP connection under way.
#[derive(Default)]
struct Stream {
    connected: bool,
    to_send: Vec<u8>,
    received: Vec<u8>,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Pool {
    sockets: Vec<Sock>,
    /// Numbers of unused sockets, by kind.
    free: [Vec<SlotId>; 4],
    total: [u16; 4],
    short_of: [bool; 4],
    asked_for: [bool; 4],
}

impl Pool {
    pub fn adopt(&mut self, epoll: BorrowedFd<'_>, kind: Kind, descriptors: Vec<OwnedFd>) {
        for fd in descriptors {
            let slot = self.sockets.len() as SlotId;
            // Streams are watched only while they are connected: an idle one says "hung up" all the time.
            let watched = kind.is_tcp()
                || epoll::add(epoll, &fd, Token::Server(slot).data(), epoll::EventFlags::IN).is_ok();
            if watched {
                self.sockets.push(Sock { fd, kind, stream: None });
                self.free[kind as usize].push(slot);
                self.total[kind as usize] += 1;
            }
        }
        self.asked_for[kind as usize] = false;
        self.short_of[kind as usize] = false;
    }

    pub fn open(
        &mut self,
        epoll: BorrowedFd<'_>,
        transport: Transport,
        server: SocketAddr,
    ) -> Result<SlotId, CannotAsk> {
        let kind = match (transport, server) {
            (Transport::Udp, SocketAddr::V4(_)) => Kind::Udp4,
            (Transport::Udp, SocketAddr::V6(_)) => Kind::Udp6,
            (Transport::Tcp, SocketAddr::V4(_)) => Kind::Tcp4,
            (Transport::Tcp, SocketAddr::V6(_)) => Kind::Tcp6,
        };
        let free = &mut self.free[kind as usize];
        let Some(slot) = free.pop() else {
            self.short_of[kind as usize] = true;
            return Err(CannotAsk::NoSocket);
        };
        let Some(sock) = self.sockets.get_mut(slot as usize) else { return Err(CannotAsk::NoSocket) };
        let connected = match connect(&sock.fd, &server) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) if kind.is_tcp() => false,
            Err(_) => {
                let _ = connect_unspec(&sock.fd);
                self.free[kind as usize].push(slot);
                return Err(CannotAsk::Unreachable);
            }
        };
        if kind.is_tcp() {
            sock.stream = Some(Box::new(Stream { connected, ..Stream::default() }));
            let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT;
            let _ = epoll::add(epoll, &sock.fd, Token::Server(slot).data(), interest);
        }
        Ok(slot)
    }

    pub fn send(&mut self, epoll: BorrowedFd<'_>, slot: SlotId, message: &[u8]) -> Result<(), CannotAsk> {
        let sock = self.sockets.get_mut(slot as usize).ok_or(CannotAsk::NoSocket)?;
        if let Some(stream) = &mut sock.stream {
            stream.to_send.extend_from_slice(&(message.len() as u16).to_be_bytes());
            stream.to_send.extend_from_slice(message);
            if stream.connected {
                let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                let _ = epoll::modify(epoll, &sock.fd, Token::Server(slot).data(), interest);
            }
            return Ok(());
        }
        match send(&sock.fd, message, SendFlags::NOSIGNAL) {
            // A full buffer is as a packet that is lost: the next try comes.
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => Ok(()),
            Err(_) => Err(CannotAsk::Unreachable),
        }
    }

    /// Takes the port away and what still lies in the socket with it.
    pub fn close(&mut self, epoll: BorrowedFd<'_>, slot: SlotId) {
        let Some(sock) = self.sockets.get_mut(slot as usize) else { return };
        if sock.stream.take().is_some() {
            let _ = epoll::delete(epoll, &sock.fd);
            let _ = connect_unspec(&sock.fd);
            let _ = sockopt::socket_error(&sock.fd);
        } else {
            let _ = connect_unspec(&sock.fd);
            let mut scrap = [0u8; 1];
            // An error that was waiting is taken too; the socket has no address any more, so this ends.
            while !matches!(recv(&sock.fd, &mut scrap, RecvFlags::DONTWAIT), Err(Errno::AGAIN)) {}
        }
        self.free[sock.kind as usize].push(slot);
    }

    pub fn is_tcp(&self, slot: SlotId) -> bool {
        self.sockets.get(slot as usize).is_some_and(|sock| sock.kind.is_tcp())
    }

    /// One datagram from the server, if there is one.
    pub fn receive(&mut self, slot: SlotId, buffer: &mut [u8]) -> Result<Option<usize>, ()> {
        let sock = self.sockets.get(slot as usize).ok_or(())?;
        match recv(&sock.fd, buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(Some(length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(_) => Err(()),
        }
    }

    /// Whole messages that came by the connection, and whether it still stands.
    pub fn stream_ready(
        &mut self,
        slot: SlotId,
        flags: epoll::EventFlags,
        buffer: &mut [u8],
    ) -> (Vec<Vec<u8>>, bool) {
        let mut messages = Vec::new();
        let Some(sock) = self.sockets.get_mut(slot as usize) else { return (messages, false) };
        // An event of the same round, from before it was closed.
        let Some(stream) = &mut sock.stream else { return (messages, true) };
        if flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR | epoll::EventFlags::HUP) {
            if !matches!(sockopt::socket_error(&sock.fd), Ok(Ok(()))) {
                return (messages, false);
            }
            stream.connected |= flags.contains(epoll::EventFlags::OUT);
        }
        let mut alive = true;
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP) {
            match recv(&sock.fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => alive = false,
                Ok((length, _)) => {
                    stream.received.extend_from_slice(buffer.get(..length).unwrap_or(&[]));
                    while let Some(message) = take_message(&mut stream.received) {
                        messages.push(message);
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => alive = false,
            }
        }
        if stream.connected && !stream.to_send.is_empty() {
            match send(&sock.fd, &stream.to_send, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(stream.to_send.drain(..sent)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => alive = false,
            }
        }
        (messages, alive)
    }

    /// Stops watching for room in the socket once nothing is left to send.
    pub fn settle(&mut self, epoll: BorrowedFd<'_>, slot: SlotId) {
        if let Some(sock) = self.sockets.get(slot as usize)
            && let Some(stream) = &sock.stream
            && stream.connected
            && stream.to_send.is_empty()
        {
            let _ = epoll::modify(epoll, &sock.fd, Token::Server(slot).data(), epoll::EventFlags::IN);
        }
    }

    /// What to ask the parent for: of each kind that ran out, as many again, up to a bound.
    pub fn wanted(&mut self) -> impl Iterator<Item = (Kind, u16)> + use<> {
        let mut wanted = [None; 4];
        for kind in Kind::ALL {
            let n = kind as usize;
            let most = if kind.is_tcp() { MOST_TCP } else { MOST_UDP };
            if self.short_of[n] && !self.asked_for[n] && self.total[n] < most {
                self.asked_for[n] = true;
                wanted[n] = Some((kind, self.total[n].max(4).min(most - self.total[n])));
            }
        }
        wanted.into_iter().flatten()
    }
}

/// The first whole message of a stream, without its length.
pub(super) fn take_message(stream: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*stream.first_chunk()?));
    let message = stream.get(2..2 + length)?.to_vec();
    stream.drain(..2 + length);
    Some(message)
}

const MOST_UDP: u16 = 128;
const MOST_TCP: u16 = 32;
