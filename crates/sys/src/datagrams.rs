//! Datagrams many at a time: one system call where there were many, and where it can be one packet.

use crate::io;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;
use rustix::fd::{AsRawFd, BorrowedFd};

/// Datagrams that are taken from a socket together (recvmmsg(2)): one system call where there were many.
pub struct ReceiveBatch {
    data: Box<[u8]>,
    from: [libc::sockaddr_storage; BATCH],
    lengths: [usize; BATCH],
}

/// Datagrams in a batch.
pub const BATCH: usize = 32;
/// The longest datagram that fits; longer ones are left out.
pub const BATCH_DATAGRAM: usize = 2304;

impl Default for ReceiveBatch {
    fn default() -> Self {
        // SAFETY: all zeros are a valid sockaddr_storage (family AF_UNSPEC).
        let from = unsafe { core::mem::zeroed() };
        ReceiveBatch { data: vec![0; BATCH * BATCH_DATAGRAM].into_boxed_slice(), from, lengths: [0; BATCH] }
    }
}

impl ReceiveBatch {
    /// Takes what is there, without waiting; how many datagrams. `WouldBlock` if there is none.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: all zeros are a valid mmsghdr and iovec: nothing to receive, nowhere.
        let (mut headers, mut parts): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
            unsafe { core::mem::zeroed() };
        for (((header, part), place), from) in headers
            .iter_mut()
            .zip(&mut parts)
            .zip(self.data.chunks_exact_mut(BATCH_DATAGRAM))
            .zip(&mut self.from)
        {
            *part = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
            header.msg_hdr.msg_name = core::ptr::from_mut(from).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        let (count, flags) = (BATCH as libc::c_uint, libc::MSG_DONTWAIT as _);
        // SAFETY: each header points to a buffer and an address of its own, with their sizes; all outlive the call.
        let got = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags, core::ptr::null_mut())
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(got) {
            let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            *length = if whole { header.msg_len as usize } else { 0 };
        }
        Ok(got)
    }

    /// The n-th datagram of the last batch and where it came from. Nothing for one that did not fit.
    pub fn get(&self, n: usize) -> Option<(&[u8], SocketAddr)> {
        let start = n.checked_mul(BATCH_DATAGRAM)?;
        let message = self.data.get(start..)?.get(..*self.lengths.get(n)?)?;
        let from = address(self.from.get(n)?)?;
        (!message.is_empty()).then_some((message, from))
    }
}

/// Datagrams that are sent by one socket together (sendmmsg(2)). Those of one length to one client on this host go through the kernel
/// as one, which cuts it where the client's socket takes it (`UDP_SEGMENT`, Linux 4.18): most of what an answer costs is the way there.
#[derive(Default)]
pub struct SendBatch {
    data: Vec<u8>,
    messages: Vec<(usize, usize, SocketAddr)>,
    /// The kernel can cut. Not looked at before the first send.
    cuts: Option<bool>,
}

impl SendBatch {
    /// Adds a datagram. Whether the batch should be sent now.
    pub fn push(&mut self, to: &SocketAddr, message: &[u8]) -> bool {
        self.messages.push((self.data.len(), message.len(), *to));
        self.data.extend_from_slice(message);
        self.messages.len() >= BATCH || self.data.len() >= MOST_BYTES
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Sends all. What the kernel does not take is lost, as datagrams are.
    pub fn send(&mut self, socket: BorrowedFd<'_>) {
        let mut messages = core::mem::take(&mut self.messages);
        for some in messages.chunks_mut(BATCH) {
            let mut sent = 0;
            while sent < some.len() {
                sent += self.send_some(socket, some.get_mut(sent..).unwrap_or_default());
            }
        }
        messages.clear();
        self.messages = messages;
        self.data.clear();
        self.data.shrink_to(16 * 1024);
    }

    /// Sends some of these, at most [`BATCH`], and brings them into the order in which it does. How many are done with.
    fn send_some(&mut self, socket: BorrowedFd<'_>, messages: &mut [(usize, usize, SocketAddr)]) -> usize {
        let cuts = messages.len() > 1 && *self.cuts.get_or_insert_with(|| can_cut(socket));
        // SAFETY: all zeros are valid for each of these.
        let (mut headers, mut parts, mut to, mut cut): (
            [libc::mmsghdr; BATCH],
            [libc::iovec; BATCH],
            [libc::sockaddr_storage; BATCH],
            [Cut; BATCH],
        ) = unsafe { core::mem::zeroed() };
        // Where the messages of each header end.
        let mut ends = [0; BATCH];
        let (mut count, mut at) = (0, 0);
        while let Some(&(_, length, client)) = messages.get(at)
            && let (Some(header), Some(to), Some(cut)) =
                (headers.get_mut(count), to.get_mut(count), cut.get_mut(count))
        {
            let start = at;
            at += 1;
            if cuts && client.ip().is_loopback() && (1..=LONGEST_CUT).contains(&length) {
                let rest = at..messages.len();
                for other in rest {
                    if messages.get(other).is_some_and(|m| m.1 == length && m.2 == client) {
                        messages.swap(at, other);
                        at += 1;
                    }
                }
            }
            let Some(parts) = parts.get_mut(start..at) else { break };
            for (part, (start, length, _)) in parts.iter_mut().zip(messages.iter().skip(start)) {
                let message = self.data.get(*start..*start + *length).unwrap_or(&[]);
                *part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
            }
            header.msg_hdr.msg_namelen = set_address(to, &client);
            header.msg_hdr.msg_name = core::ptr::from_mut(to).cast();
            header.msg_hdr.msg_iov = parts.as_mut_ptr();
            header.msg_hdr.msg_iovlen = parts.len() as _;
            if parts.len() > 1 {
                *cut = Cut::into(length as u16);
                header.msg_hdr.msg_control = core::ptr::from_mut(cut).cast();
                header.msg_hdr.msg_controllen = size_of::<Cut>() as _;
            }
            if let Some(end) = ends.get_mut(count) {
                *end = at;
            }
            count += 1;
        }
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _;
        // SAFETY: `count` headers were filled above; they point to messages, parts, addresses and control data that outlive the call.
        // Nothing is written but msg_len.
        let result =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, flags) };
        let end = |n: usize| n.checked_sub(1).and_then(|n| ends.get(n)).copied().unwrap_or(messages.len());
        match usize::try_from(result) {
            Ok(done) => end(done),
            // It says that it can, and the device or a rule of IPsec's cannot: from now on one by one.
            Err(_) if end(1) > 1 && io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock => {
                self.cuts = Some(false);
                0
            }
            // What cannot be sent stops the rest: it is left out.
            Err(_) => end(1),
        }
    }
}

/// Control data: the kernel is to cut what is sent into datagrams of a length.
#[repr(C)]
struct Cut {
    header: libc::cmsghdr,
    length: u16,
    /// Up to the next header, which begins where a `size_t` may (cmsg(3)).
    _padding: [u8; size_of::<usize>() - 2],
}

impl Cut {
    fn into(length: u16) -> Cut {
        // SAFETY: all zeros are a valid cmsghdr. (It has padding of its own with some C libraries.)
        let mut header: libc::cmsghdr = unsafe { core::mem::zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        Cut { header, length, _padding: [0; size_of::<usize>() - 2] }
    }
}

/// Whether the kernel knows `UDP_SEGMENT`. One that does not would send all as one datagram.
fn can_cut(socket: BorrowedFd<'_>) -> bool {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointers are to a number and its length, which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    result == 0
}

/// Longer ones are sent one by one: what the kernel cuts may be 64 KiB in all, and [`BATCH`] of these are less.
const LONGEST_CUT: usize = 1232;
/// A batch of so many bytes is sent.
const MOST_BYTES: usize = 64 * 1024;

fn address(raw: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(raw.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in, and a sockaddr_storage is large enough and aligned for any.
            let raw = unsafe { &*core::ptr::from_ref(raw).cast::<libc::sockaddr_in>() };
            let ip = core::net::Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
            Some(core::net::SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for a sockaddr_in6.
            let raw = unsafe { &*core::ptr::from_ref(raw).cast::<libc::sockaddr_in6>() };
            let ip = core::net::Ipv6Addr::from(raw.sin6_addr.s6_addr);
            Some(core::net::SocketAddrV6::new(ip, u16::from_be(raw.sin6_port), 0, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Writes an address where there were zeros; its length.
fn set_address(raw: &mut libc::sockaddr_storage, addr: &SocketAddr) -> libc::socklen_t {
    match addr {
        SocketAddr::V4(addr) => {
            // SAFETY: a sockaddr_storage is large enough and aligned for a sockaddr_in, and nothing else refers to it.
            let place = unsafe { &mut *core::ptr::from_mut(raw).cast::<libc::sockaddr_in>() };
            place.sin_family = libc::AF_INET as libc::sa_family_t;
            place.sin_port = addr.port().to_be();
            place.sin_addr.s_addr = u32::from(*addr.ip()).to_be();
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(addr) => {
            // SAFETY: as above, for a sockaddr_in6.
            let place = unsafe { &mut *core::ptr::from_mut(raw).cast::<libc::sockaddr_in6>() };
            place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            place.sin6_port = addr.port().to_be();
            place.sin6_addr.s6_addr = addr.ip().octets();
            place.sin6_scope_id = addr.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{bound_to, udp_listener};
    use std::os::fd::AsFd;

    #[test]
    fn a_batch_brings_what_was_sent_and_from_where() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let server = udp_listener(host.parse().unwrap(), None).unwrap();
            let (_, to) = bound_to(server.as_fd()).unwrap();
            let client = udp_listener(host.parse().unwrap(), None).unwrap();
            let (_, from) = bound_to(client.as_fd()).unwrap();
            let mut out = SendBatch::default();
            let mut n = 0u8;
            while !out.push(&to, &[n; 20]) {
                n += 1;
            }
            out.push(&to, &[255; BATCH_DATAGRAM + 1]);
            out.push(&to, b"last");
            out.send(client.as_fd());
            assert!(out.is_empty());
            let mut batch = ReceiveBatch::default();
            assert_eq!(batch.receive(server.as_fd()).unwrap(), BATCH);
            assert_eq!(batch.get(3), Some((&[3; 20][..], from)));
            assert_eq!(batch.receive(server.as_fd()).unwrap(), 2);
            assert_eq!(
                (batch.get(0), batch.get(1)),
                (None, Some((&b"last"[..], from))),
                "too long, and the next"
            );
            assert_eq!(batch.get(BATCH), None);
            assert_eq!(batch.receive(server.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    fn bound(host: &str) -> (std::os::fd::OwnedFd, SocketAddr) {
        let socket = udp_listener(host.parse().unwrap(), None).unwrap();
        let (_, addr) = bound_to(socket.as_fd()).unwrap();
        (socket, addr)
    }

    #[test]
    fn each_client_gets_its_own_datagrams_whole() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let (server, from) = bound(host);
            let clients = [bound(host), bound(host)];
            let nobody: SocketAddr = if from.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
            let mut out = SendBatch::default();
            // Three lengths, two clients, and one that nothing can be sent to between them.
            for n in 0..30u8 {
                out.push(&clients[usize::from(n) % 2].1, &vec![n; 20 + usize::from(n % 3)]);
            }
            out.push(&nobody, &[99; 20]);
            out.send(server.as_fd());
            for (odd, (client, _)) in clients.iter().enumerate() {
                let mut batch = ReceiveBatch::default();
                assert_eq!(batch.receive(client.as_fd()).unwrap(), 15);
                let mut came: Vec<u8> = (0..15)
                    .map(|n| {
                        let (message, sender) = batch.get(n).unwrap();
                        assert_eq!(
                            (message, sender),
                            (&vec![message[0]; 20 + usize::from(message[0] % 3)][..], from)
                        );
                        message[0]
                    })
                    .collect();
                came.sort_unstable();
                assert_eq!(came, (0..30).filter(|n| usize::from(n % 2) == odd).collect::<Vec<u8>>());
            }
        }
    }

    #[test]
    fn datagrams_of_one_length_to_one_client_go_as_one_packet() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let ((server, _), (client, to)) = (bound(host), bound(host));
            // Who asks for it (`UDP_GRO`, Linux 5.0) gets them as they came through the kernel.
            let on: libc::c_int = 1;
            // SAFETY: the pointer and the length are those of a number that outlives the call.
            let result = unsafe {
                libc::setsockopt(
                    client.as_raw_fd(),
                    libc::SOL_UDP,
                    libc::UDP_GRO,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            assert_eq!(result, 0, "this kernel has no UDP_GRO: {}", io::Error::last_os_error());
            let mut out = SendBatch::default();
            for n in 0..9u8 {
                out.push(&to, &[n; 50]);
                out.push(&to, &[n; 51][..50 + usize::from(n == 4)]);
            }
            out.send(server.as_fd());
            let mut batch = ReceiveBatch::default();
            assert_eq!(batch.receive(client.as_fd()).unwrap(), 2);
            assert_eq!([0, 1].map(|n| batch.get(n).unwrap().0.len()), [17 * 50, 51]);
            // And one by one where the kernel cannot.
            let mut out = SendBatch { cuts: Some(false), ..SendBatch::default() };
            out.push(&to, &[1; 50]);
            out.push(&to, &[2; 50]);
            out.send(server.as_fd());
            assert_eq!(batch.receive(client.as_fd()).unwrap(), 2);
        }
    }
}
