//! A netlink socket and the frame around its messages (RFC 3549; Documentation/userspace-api/netlink/intro.rst).
//!
//! What is inside the messages is not known here: bodies go in and out as bytes. Families that we use (rtnetlink,
//! nfnetlink, sock_diag) work on a request inside sendmsg(2) itself, so all answers but the later parts of a dump are
//! waiting when it returns.

mod attributes;
mod frame;

use alloc::vec::Vec;
pub use attributes::{Attributes, NESTED, Put, attributes, find, ip, number, text};
pub use frame::{
    Dump, Error, Message, Messages, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE,
    Refusal, Requests, messages,
};

use crate::io;
use core::mem;
use core::ptr;
use frame::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, rules, neighbours.
    Route,
    /// nftables, conntrack.
    Netfilter,
    /// Sockets of this host.
    SockDiag,
}

/// A netlink socket: requests, or events, better not both.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What an event socket has.
#[derive(Debug)]
pub enum Event<'a> {
    /// Some messages.
    Messages(Messages<'a>),
    /// Some were lost, since we were too slow: read everything again. The receive buffer has been doubled.
    Lost,
}

impl Socket {
    /// Opens a socket in this network namespace. Fails as socket(2) does.
    pub fn open(protocol: Protocol) -> io::Result<Socket> {
        let number = match protocol {
            Protocol::Route => libc::NETLINK_ROUTE,
            Protocol::Netfilter => libc::NETLINK_NETFILTER,
            Protocol::SockDiag => libc::NETLINK_SOCK_DIAG,
        };
        // SAFETY: socket(2) has no preconditions.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, number) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: socket(2) has just made this descriptor and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all fields of sockaddr_nl are integers, of which 0 is a value; port 0 asks for any.
        let mut any: libc::sockaddr_nl = unsafe { mem::zeroed() };
        any.nl_family = AF_NETLINK;
        // SAFETY: the pointer and the length are those of `any`.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&any).cast(), SOCKADDR_LEN) };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        Socket::adopt(fd)
    }

    /// A socket that another [`Socket`] of the same protocol was, say before an exec: it keeps its port, and so what it
    /// owns. Fails with EINVAL or the like if `fd` is no bound netlink socket.
    pub fn adopt(fd: OwnedFd) -> io::Result<Socket> {
        // SAFETY: integers only, 0 is a value.
        let mut name: libc::sockaddr_nl = unsafe { mem::zeroed() };
        let mut len = SOCKADDR_LEN;
        // SAFETY: the pointers are to a sockaddr_nl and its length.
        let named = unsafe {
            libc::getsockname(fd.as_raw_fd(), ptr::from_mut(&mut name).cast(), ptr::from_mut(&mut len))
        };
        if named != 0 {
            return Err(io::Error::last_os_error());
        }
        if name.nl_family != AF_NETLINK || name.nl_pid == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let socket = Socket { fd, port: name.nl_pid, sequence: 1, buffer: Vec::new() };
        // Kernels before 4.12, 4.3 and 4.20 lack these and do without: no texts, whole requests back, unfiltered dumps.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            let _ = socket.set_option(libc::SOL_NETLINK, option, 1);
        }
        Ok(socket)
    }

    /// The address of this socket: `nlmsg_pid` of what it causes, and the owner of what it owns.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Joins a multicast group (`RTNLGRP_*`, `NFNLGRP_*`). ENOENT or EINVAL if this kernel has no such group.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.set_option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group as libc::c_int)
    }

    /// Sends all requests in one datagram and reads the answers. The first that was refused is the error. Messages that
    /// ask for it with `NLM_F_ACK` are acknowledged: if none was, the answer is lost, ENOBUFS.
    pub fn transact(&mut self, requests: &mut Requests) -> Result<(), Error> {
        self.exchange(requests, &mut Dump::default())
    }

    /// The same, for requests that are to be tried out: all that were refused, in the order of the answers.
    pub fn try_all(&mut self, requests: &mut Requests) -> Result<Vec<Error>, Error> {
        let mut refusals = Vec::new();
        self.collect(requests, &mut Dump::default(), &mut refusals)?;
        Ok(refusals)
    }

    /// Sends one request (`NLM_F_ACK` is added) and reads what it is answered with.
    pub fn ask(&mut self, kind: u16, body: &[u8]) -> Result<Dump, Error> {
        let mut request = Requests::default();
        request.add(kind, NLM_F_ACK).extend_from_slice(body);
        let mut answers = Dump::default();
        self.exchange(&mut request, &mut answers)?;
        Ok(answers)
    }

    /// Sends a request for a dump (`NLM_F_DUMP` is added) and reads all of it; again, if something changed meanwhile or
    /// was lost, up to ten times. A kernel that goes on changing gets what it has then: events will tell.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> Result<Dump, Error> {
        let mut dump = Dump::default();
        for _ in 0..=DUMP_TRIES {
            dump.clear();
            if self.try_dump(kind, body, &mut dump)? {
                break;
            }
        }
        Ok(dump)
    }

    /// The next events of the groups that were joined, without waiting.
    pub fn next_event(&mut self) -> io::Result<Option<Event<'_>>> {
        match self.receive(libc::MSG_DONTWAIT) {
            Ok(None) => Ok(None),
            Ok(Some(_)) => Ok(Some(Event::Messages(messages(&self.buffer)))),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                self.double_receive_buffer();
                Ok(Some(Event::Lost))
            }
            Err(e) => Err(e),
        }
    }

    /// The answers, or the first refusal.
    fn exchange(&mut self, requests: &mut Requests, answers: &mut Dump) -> Result<(), Error> {
        let mut refusals = Vec::new();
        self.collect(requests, answers, &mut refusals)?;
        refusals.truncate(1);
        refusals.pop().map_or(Ok(()), Err)
    }

    /// The answers and the refusals.
    fn collect(
        &mut self,
        requests: &mut Requests,
        answers: &mut Dump,
        refusals: &mut Vec<Error>,
    ) -> Result<(), Error> {
        self.discard_pending();
        let first = self.send(requests)?;
        let wanted = requests.wants_ack();
        let mut seen_ack = false;
        let mut lost = false;
        loop {
            let datagram = match self.receive(libc::MSG_DONTWAIT) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                // So many refusals that the rest found no room: those before it tell enough.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    lost = true;
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            for message in messages(datagram) {
                let index = message.sequence.wrapping_sub(first) as usize;
                if index >= requests.len() {
                    continue;
                }
                match message.kind {
                    NLMSG_ERROR => match message.error(index) {
                        Some(error) => refusals.push(error),
                        None => seen_ack = true,
                    },
                    _ => answers.add(message),
                }
            }
        }
        if refusals.is_empty() && (lost || wanted && !seen_ack) {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into());
        }
        Ok(())
    }

    /// Whether the dump is whole.
    fn try_dump(&mut self, kind: u16, body: &[u8], dump: &mut Dump) -> Result<bool, Error> {
        let mut request = Requests::default();
        request.add(kind, NLM_F_DUMP).extend_from_slice(body);
        self.discard_pending();
        let sequence = self.send(&mut request)?;
        let mut whole = true;
        loop {
            let datagram = match self.receive(0) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => continue,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.double_receive_buffer();
                    return Ok(false);
                }
                Err(e) => return Err(e.into()),
            };
            for message in messages(datagram).filter(|m| m.sequence == sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        // An end without a number is one without an error.
                        let says = message.kind == NLMSG_ERROR || message.body.len() >= 4;
                        return message.error(0).filter(|_| says).map_or(Ok(whole), Err);
                    }
                    _ => dump.add(message),
                }
            }
        }
    }

    /// Fills in sequence numbers and sends; the sequence number of the first.
    fn send(&mut self, requests: &mut Requests) -> io::Result<u32> {
        let first = self.sequence;
        self.sequence = first.wrapping_add(requests.len() as u32).max(1);
        let bytes = requests.number(first);
        let mut enlarged = false;
        loop {
            // SAFETY: the pointer and the length are those of the vector; a connected peer is not needed, an unaddressed
            // netlink datagram goes to the kernel.
            let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            if sent >= 0 {
                return Ok(first);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EMSGSIZE) if !enlarged => {
                    // All in one datagram, or it would be no transaction.
                    enlarged = true;
                    let size = libc::c_int::try_from(bytes.len() + 4096).unwrap_or(libc::c_int::MAX);
                    self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size)?;
                }
                _ => return Err(error),
            }
        }
    }

    /// Answers that a failed exchange has left behind.
    fn discard_pending(&mut self) {
        loop {
            match self.receive(libc::MSG_DONTWAIT) {
                Ok(Some(_)) => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// One datagram of the kernel's; `None` if there is none (with `MSG_DONTWAIT`).
    fn receive(&mut self, flags: libc::c_int) -> io::Result<Option<&[u8]>> {
        loop {
            // The length first: a link with many virtual functions is longer than any buffer that we would keep.
            let len = match self.receive_into(flags | libc::MSG_PEEK | libc::MSG_TRUNC, false) {
                Ok((len, _)) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            self.buffer.resize(len, 0);
            match self.receive_into(flags | libc::MSG_TRUNC, true) {
                Ok((got, true)) if got <= len => {
                    self.buffer.truncate(got);
                    return Ok(Some(&self.buffer));
                }
                Ok(_) => continue, // from another process: not for us
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }

    /// recvfrom(2) into the buffer, or into nothing; the datagram's length and whether the kernel sent it.
    fn receive_into(&mut self, flags: libc::c_int, into_buffer: bool) -> io::Result<(usize, bool)> {
        // SAFETY: integers only, 0 is a value.
        let mut from: libc::sockaddr_nl = unsafe { mem::zeroed() };
        let mut from_len = SOCKADDR_LEN;
        let (pointer, len) = match into_buffer {
            true => (self.buffer.as_mut_ptr(), self.buffer.len()),
            false => (ptr::NonNull::dangling().as_ptr(), 0),
        };
        // SAFETY: `pointer` is valid for `len` bytes (none, if it dangles); the address and its length are our own.
        let got = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                pointer.cast(),
                len,
                flags,
                ptr::from_mut(&mut from).cast(),
                ptr::from_mut(&mut from_len),
            )
        };
        match usize::try_from(got) {
            Ok(got) => Ok((got, from.nl_pid == 0)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    fn double_receive_buffer(&self) {
        let mut size: libc::c_int = 0;
        let mut len = mem::size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the pointers are to an int and its length.
        let got = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUF,
                ptr::from_mut(&mut size).cast(),
                ptr::from_mut(&mut len),
            )
        };
        // The kernel doubles what is set, so what it tells is twice what was asked for: setting that doubles it.
        if got == 0 && size < MAX_RECEIVE_BUFFER {
            let _ = self
                .set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size)
                .or_else(|_| self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, size));
        }
    }

    fn set_option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let len = mem::size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the pointer and the length are those of `value`.
        let set =
            unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, name, ptr::from_ref(&value).cast(), len) };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> OwnedFd {
        socket.fd
    }
}

const AF_NETLINK: libc::sa_family_t = libc::AF_NETLINK as libc::sa_family_t;
const SOCKADDR_LEN: libc::socklen_t = mem::size_of::<libc::sockaddr_nl>() as libc::socklen_t;
const DUMP_TRIES: usize = 10;
const MAX_RECEIVE_BUFFER: libc::c_int = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const RTM_GETLINK: u16 = 18;
    const RTM_NEWLINK: u16 = 16;

    fn link_request(requests: &mut Requests, index: i32) {
        let body = requests.add(RTM_GETLINK, NLM_F_ACK);
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&index.to_ne_bytes());
        body.extend_from_slice(&[0; 8]);
    }

    #[test]
    fn a_dump_of_links_has_the_loopback_device() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let dump = socket.dump(RTM_GETLINK, &[0; 16]).unwrap();
        assert!(dump.messages().count() >= 1);
        assert!(dump.messages().all(|m| m.kind == RTM_NEWLINK && m.port == socket.port()));
        let first = dump.messages().next().unwrap();
        assert_eq!(first.body.get(4..8), Some(&1i32.to_ne_bytes()[..]), "index of lo");
    }

    #[test]
    fn the_refused_request_is_named_with_its_errno() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut requests = Requests::default();
        link_request(&mut requests, 1);
        socket.transact(&mut requests).unwrap();
        link_request(&mut requests, i32::MAX);
        let error = socket.transact(&mut requests).unwrap_err();
        assert_eq!((error.errno, error.index), (libc::ENODEV, Some(1)));
        assert_eq!(requests.get(1).map(|m| (m.kind, m.body.len())), Some((RTM_GETLINK, 16)));
        assert_eq!((requests.len(), requests.get(2)), (2, None));
    }

    #[test]
    fn a_question_about_one_link_has_one_answer() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut body = [0; 16];
        body[4] = 1;
        let answer = socket.ask(RTM_GETLINK, &body).unwrap();
        assert_eq!(answer.messages().map(|m| m.kind).collect::<Vec<_>>(), [RTM_NEWLINK]);
    }

    #[test]
    fn the_kernels_own_words_come_with_the_error() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let error = socket.dump(RTM_GETLINK, &[0xff; 16]).unwrap_err();
        assert_eq!(error.errno, libc::EINVAL);
        assert!(error.text.as_ref().is_some_and(|t| t.contains("dump")), "{error}");
        assert!(error.to_string().starts_with("Invalid argument"), "{error}");
    }

    #[test]
    fn a_socket_keeps_its_port_when_it_is_handed_on() {
        let socket = Socket::open(Protocol::Netfilter).unwrap();
        let port = socket.port();
        let again = Socket::adopt(OwnedFd::from(socket)).unwrap();
        assert_eq!(again.port(), port);
        let pipe = rustix::pipe::pipe().unwrap().0;
        assert!(Socket::adopt(pipe).is_err());
    }

    #[test]
    fn an_event_socket_without_events_does_not_wait() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        socket.join(1).unwrap();
        assert!(socket.join(100_000).is_err());
        while socket.next_event().unwrap().is_some() {}
    }
}
