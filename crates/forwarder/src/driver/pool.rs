//! The sockets to servers, from the parent and used again and again: connect(2) to no address (AF_UNSPEC) takes a socket's
//! port away, and the next connect gives it a new random one. So a handful of them serves for ever, also when the parent is dead.
//!
//! A server that belongs to one device is asked by sockets bound to it, which needs no right since Linux 5.7; before that the routes
//! alone decide. The same connect to no address frees a datagram socket of its device, but not a stream: those serve one device each,
//! and make room for new ones when another is wanted.

use super::Token;
use super::stream::{Heard, Stream};
use crate::engine::{CannotAsk, SlotId, Transport};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;
use narrowgate_sys::socket::{self, Kind};
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, connect, connect_unspec, recv, send, sockopt};

struct Sock {
    fd: OwnedFd,
    kind: Kind,
    /// The device that it is bound to for good; 0 for none.
    device: u32,
    /// A TCP connection under way.
    stream: Option<Box<Stream>>,
    connected: bool,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Pool {
    sockets: Vec<Sock>,
    kinds: [Stock; 4],
    /// Of streams whose device nobody asks by any more: their numbers are for the next ones that come.
    worn: Vec<SlotId>,
}

/// What there is of one kind.
#[derive(Default)]
struct Stock {
    /// Numbers of unused sockets.
    free: Vec<SlotId>,
    total: u16,
    is_short: bool,
    asked_for: bool,
}

impl Pool {
    #[inline(never)]
    pub fn adopt(&mut self, epoll: BorrowedFd<'_>, kind: Kind, mut descriptors: Vec<OwnedFd>) {
        while let Some(fd) = descriptors.pop() {
            let worn = self.worn.pop_if(|_| kind.is_tcp());
            let slot = worn.unwrap_or(self.sockets.len() as SlotId);
            // Streams are watched only while they are connected: an idle one says "hung up" all the time.
            let watched = kind.is_tcp()
                || epoll::add(epoll, &fd, Token::Server(slot).data(), epoll::EventFlags::IN).is_ok();
            if watched {
                let sock = Sock { fd, kind, device: 0, stream: None, connected: false };
                match self.sockets.get_mut(slot as usize) {
                    Some(place) => *place = sock,
                    None => self.sockets.push(sock),
                }
                let stock = &mut self.kinds[kind as usize];
                stock.free.push(slot);
                stock.total += 1;
            }
        }
        let stock = &mut self.kinds[kind as usize];
        (stock.asked_for, stock.is_short) = (false, false);
    }

    pub fn open(
        &mut self,
        epoll: BorrowedFd<'_>,
        transport: Transport,
        server: SocketAddr,
    ) -> Result<SlotId, CannotAsk> {
        let (server, mut device) = by_device(server);
        let kind = match (transport, server) {
            (Transport::Udp, SocketAddr::V4(_)) => Kind::Udp4,
            (Transport::Udp, SocketAddr::V6(_)) => Kind::Udp6,
            (Transport::Tcp, SocketAddr::V4(_)) => Kind::Tcp4,
            (Transport::Tcp, SocketAddr::V6(_)) => Kind::Tcp6,
        };
        if kind == Kind::Udp6 && matches!(server, SocketAddr::V6(a) if a.ip().is_unicast_link_local()) {
            device = 0; // connect(2) sees to it
        }
        let Some(slot) = self.take(kind, device) else {
            self.kinds[kind as usize].is_short = true;
            return Err(CannotAsk::NoSocket);
        };
        let Some(sock) = self.sockets.get_mut(slot as usize) else { return Err(CannotAsk::NoSocket) };
        if device != 0 && sock.device != device {
            // An older kernel does not let us: then the routes decide.
            let _ = socket::bind_to_device(sock.fd.as_fd(), device);
            sock.device = if kind.is_tcp() { device } else { 0 };
        }
        let connected = match connect(&sock.fd, &server) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) if kind.is_tcp() => false,
            Err(_) => {
                let _ = connect_unspec(&sock.fd);
                self.kinds[kind as usize].free.push(slot);
                return Err(CannotAsk::Unreachable);
            }
        };
        if kind.is_tcp() {
            sock.stream = Some(Box::default());
            sock.connected = connected;
            let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT;
            let _ = epoll::add(epoll, &sock.fd, Token::Server(slot).data(), interest);
        }
        Ok(slot)
    }

    /// A free socket that can ask by `device`.
    fn take(&mut self, kind: Kind, device: u32) -> Option<SlotId> {
        let stock = &mut self.kinds[kind as usize];
        if !kind.is_tcp() {
            return stock.free.pop();
        }
        let is_bound_to =
            |slot: u32, device| self.sockets.get(slot as usize).is_some_and(|s| s.device == device);
        for device in [device, 0] {
            if let Some(at) = stock.free.iter().position(|slot| is_bound_to(*slot, device)) {
                return Some(stock.free.swap_remove(at));
            }
        }
        // Some other device's: it may be gone, and the parent has new ones.
        if let Some(worn) = stock.free.pop() {
            self.worn.push(worn);
            stock.total -= 1;
        }
        None
    }

    pub fn send(&mut self, epoll: BorrowedFd<'_>, slot: SlotId, message: &[u8]) -> Result<(), CannotAsk> {
        let sock = self.sockets.get_mut(slot as usize).ok_or(CannotAsk::NoSocket)?;
        if let Some(stream) = &mut sock.stream {
            stream.push(message);
            if sock.connected {
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
        self.kinds[sock.kind as usize].free.push(slot);
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

    /// Reads and writes what can be by the connection. Whether it still stands.
    pub fn stream_ready(&mut self, slot: SlotId, flags: epoll::EventFlags, buffer: &mut [u8]) -> bool {
        let Some(sock) = self.sockets.get_mut(slot as usize) else { return false };
        // An event of the same round, from before it was closed.
        let Some(stream) = &mut sock.stream else { return true };
        if flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR | epoll::EventFlags::HUP) {
            if !matches!(sockopt::socket_error(&sock.fd), Ok(Ok(()))) {
                return false;
            }
            sock.connected |= flags.contains(epoll::EventFlags::OUT);
        }
        let mut alive = true;
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP) {
            alive = matches!(stream.read(&sock.fd, buffer), Heard::Something | Heard::Nothing);
        }
        if sock.connected {
            alive &= stream.write(&sock.fd);
        }
        alive
    }

    /// The next whole message that came by the connection.
    pub fn next_message(&mut self, slot: SlotId) -> Option<Vec<u8>> {
        self.sockets.get_mut(slot as usize)?.stream.as_mut()?.take_message()
    }

    /// Stops watching for room in the socket once nothing is left to send.
    pub fn settle(&mut self, epoll: BorrowedFd<'_>, slot: SlotId) {
        if let Some(sock) = self.sockets.get(slot as usize)
            && let Some(stream) = &sock.stream
            && sock.connected
            && stream.unsent() == 0
        {
            let _ = epoll::modify(epoll, &sock.fd, Token::Server(slot).data(), epoll::EventFlags::IN);
        }
    }

    /// How many sockets of this kind to ask the parent for, if it ran out of them: as many again, up to a bound.
    pub fn wanted(&mut self, kind: Kind) -> Option<u16> {
        let (stock, most) = (&mut self.kinds[kind as usize], if kind.is_tcp() { MOST_TCP } else { MOST_UDP });
        if !stock.is_short || stock.asked_for || stock.total >= most {
            return None;
        }
        stock.asked_for = true;
        Some(stock.total.max(4).min(most - stock.total))
    }
}

/// The server's address as the kernel wants it, and the device that a socket has to be bound to for it, or 0. An IPv4 server with a
/// device comes as an IPv4-mapped address, which has a place for its number.
fn by_device(server: SocketAddr) -> (SocketAddr, u32) {
    match server {
        SocketAddr::V6(addr) => match addr.ip().to_ipv4_mapped() {
            Some(ip) => (SocketAddr::new(ip.into(), addr.port()), addr.scope_id()),
            None => (server, addr.scope_id()),
        },
        SocketAddr::V4(_) => (server, 0),
    }
}

const MOST_UDP: u16 = 128;
const MOST_TCP: u16 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_devices_that_are_gone_make_room_for_new_ones() {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut pool = Pool::default();
        let new = |count| (0..count).map(|_| socket::unbound(Kind::Tcp4, None).unwrap()).collect();
        pool.adopt(epoll.as_fd(), Kind::Tcp4, new(4));
        let mut ask = |device| {
            let server = format!("[::ffff:127.0.0.1%{device}]:{port}").parse().unwrap();
            let opened = pool.open(epoll.as_fd(), Transport::Tcp, server);
            if pool.wanted(Kind::Tcp4).is_some() {
                pool.adopt(epoll.as_fd(), Kind::Tcp4, new(1));
            }
            let slots = pool.sockets.len();
            (opened.inspect(|slot| pool.close(epoll.as_fd(), *slot)).is_ok(), slots)
        };
        for device in 1000..1100 {
            assert!(!ask(device).0, "there is no such device");
        }
        // The first call finds no socket that could, and asks for one.
        let loopback = 1;
        assert!(!ask(loopback).0);
        assert!(ask(loopback).0);
        assert_eq!(ask(loopback), (true, 4), "numbers are used again");
    }
}
