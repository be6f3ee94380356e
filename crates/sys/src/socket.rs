//! Sockets as the forwarder needs them: made, marked and bound in the process that may, used in one that may not.

use crate::io;
use core::net::SocketAddr;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// A socket for asking servers: its protocol and family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// UDP over IPv4.
    Udp4 = 0,
    /// UDP over IPv6.
    Udp6 = 1,
    /// TCP over IPv4.
    Tcp4 = 2,
    /// TCP over IPv6.
    Tcp6 = 3,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 4] = [Kind::Udp4, Kind::Udp6, Kind::Tcp4, Kind::Tcp6];

    /// Whether it is TCP.
    pub fn is_tcp(self) -> bool {
        matches!(self, Kind::Tcp4 | Kind::Tcp6)
    }

    fn parts(self) -> (AddressFamily, SocketType) {
        match self {
            Kind::Udp4 => (AddressFamily::INET, SocketType::DGRAM),
            Kind::Udp6 => (AddressFamily::INET6, SocketType::DGRAM),
            Kind::Tcp4 => (AddressFamily::INET, SocketType::STREAM),
            Kind::Tcp6 => (AddressFamily::INET6, SocketType::STREAM),
        }
    }
}

/// A non-blocking socket, not bound and not connected, with the bits `mark.1` of its mark set to `mark.0`.
/// A mark that cannot be set is an error (EPERM without `CAP_NET_ADMIN` or, since Linux 5.17, `CAP_NET_RAW`): no unmarked socket is returned.
pub fn unbound(kind: Kind, mark: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let (family, socket_type) = kind.parts();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, socket_type, flags, None)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if let Some((value, mask)) = mark {
        set_mark(socket.as_fd(), value, mask)?;
    }
    Ok(socket)
}

/// A non-blocking UDP socket bound to `addr`.
pub fn udp_listener(addr: SocketAddr, mark: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let socket = unbound(if addr.is_ipv4() { Kind::Udp4 } else { Kind::Udp6 }, mark)?;
    if addr.ip().is_loopback() {
        for_loopback(socket.as_fd(), addr)?;
    }
    rustix::net::bind(&socket, &addr)?;
    Ok(socket)
}

/// A non-blocking TCP socket that listens on `addr`. Connections accepted from it carry its mark.
pub fn tcp_listener(addr: SocketAddr, mark: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let socket = unbound(if addr.is_ipv4() { Kind::Tcp4 } else { Kind::Tcp6 }, mark)?;
    // Else a restart would have to wait for connections in TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // An answer is one write: nothing to wait for. Accepted connections inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    if addr.ip().is_loopback() {
        for_loopback(socket.as_fd(), addr)?;
    }
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// The loopback's addresses may come later (the device is down, IPv6 is switched off): listening there does not wait for them.
fn for_loopback(socket: BorrowedFd<'_>, addr: SocketAddr) -> io::Result<()> {
    if addr.is_ipv4() {
        sockopt::set_ip_freebind(socket, true)?;
    } else {
        sockopt::set_ipv6_freebind(socket, true)?;
    }
    only_by_loopback(socket)
}

/// Takes packets only that came by the loopback device, also where `route_localnet` lets others in. Their source may be any of
/// this host's addresses, since a redirect leaves it as it was. Accepted connections inherit it.
fn only_by_loopback(socket: BorrowedFd<'_>) -> io::Result<()> {
    let step = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let device = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32;
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, device),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, LOOPBACK_INDEX),
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the pointer and the length are those of a sock_fprog, and it points to its filter; both outlive the call, which
    // copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The loopback device's index in every network namespace (include/net/flow.h, `LOOPBACK_IFINDEX`).
const LOOPBACK_INDEX: u32 = 1;

/// Sets the bits `mask` of the socket's mark to `value` and leaves the others.
pub fn set_mark(socket: BorrowedFd<'_>, value: u32, mask: u32) -> io::Result<()> {
    let wanted = mark_of(socket)? & !mask | value;
    // SAFETY: the pointer and the length are those of a u32 that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MARK,
            (&raw const wanted).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds the socket to the device of that number, for what it sends and what it takes (`SO_BINDTOIFINDEX`, Linux 5.0).
///
/// Needs no right since Linux 5.7, as long as the socket is bound to none (EPERM else). connect(2) to no address takes the device
/// away from a datagram socket again, and leaves it with a stream (measured; `__udp_disconnect` and `tcp_disconnect`).
/// Whether there is such a device shows when it is connected.
pub fn bind_to_device(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    // By number: glibc's would be a socketcall(2) on some machines, where the system-call filter cannot see the option.
    // SAFETY: setsockopt(2)'s arguments; the pointer and the length are those of a u32 that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            BIND_TO_DEVICE,
            &raw const index,
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `SO_BINDTOIFINDEX` (asm-generic/socket.h, and MIPS has the same number).
pub const BIND_TO_DEVICE: libc::c_int = 62;

/// The socket's mark.
pub fn mark_of(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut mark = 0u32;
    let mut length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the pointers are to a u32 and its length, which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MARK,
            (&raw mut mark).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(mark) } else { Err(io::Error::last_os_error()) }
}

/// What an accepted descriptor is: whether it is a listening stream socket or a datagram socket, and where it is bound.
pub fn bound_to(socket: BorrowedFd<'_>) -> io::Result<(bool, SocketAddr)> {
    let stream = sockopt::socket_type(socket)? == SocketType::STREAM;
    let addr = rustix::net::getsockname(socket)?;
    let addr = SocketAddr::try_from(addr)?;
    Ok((stream, addr))
}

/// A UDP socket without a mark, bound to `local`; blocking, close-on-exec.
///
/// # Errors
/// Those of socket(2) and bind(2).
pub fn udp(local: SocketAddr) -> io::Result<OwnedFd> {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &local)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{connect, connect_unspec, getsockname, recv, send};

    fn port(socket: &OwnedFd) -> u16 {
        SocketAddr::try_from(getsockname(socket).unwrap()).unwrap().port()
    }

    #[test]
    fn a_mark_is_set_under_its_mask() {
        let socket = unbound(Kind::Udp6, Some((0x10, 0x10))).expect("needs CAP_NET_ADMIN: run as root");
        set_mark(socket.as_fd(), 1, 3).unwrap();
        assert_eq!(mark_of(socket.as_fd()).unwrap(), 0x11);
    }

    #[test]
    fn a_udp_socket_that_is_dissolved_and_connected_again_gets_a_fresh_port() {
        let server = udp_listener("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let to = SocketAddr::try_from(getsockname(&server).unwrap()).unwrap();
        let socket = unbound(Kind::Udp4, None).unwrap();
        let mut ports = std::collections::HashSet::new();
        for _ in 0..200 {
            connect(&socket, &to).unwrap();
            ports.insert(port(&socket));
            connect_unspec(&socket).unwrap();
            assert_eq!(port(&socket), 0, "the port was not given back");
        }
        // 200 draws from 28 000 ports: fewer than 150 different ones do not happen by chance.
        assert!(ports.len() > 150, "{} different ports in 200 connects", ports.len());
    }

    #[test]
    fn a_tcp_socket_can_be_used_again() {
        let server = tcp_listener("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let (stream, to) = bound_to(server.as_fd()).unwrap();
        assert!(stream);
        let socket = unbound(Kind::Tcp4, None).unwrap();
        for round in 0..3u8 {
            let _ = connect(&socket, &to); // EINPROGRESS
            let mut poll = [rustix::event::PollFd::new(&server, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut poll, None).unwrap();
            let accepted = rustix::net::accept(&server).unwrap();
            let mut poll = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::OUT)];
            rustix::event::poll(&mut poll, None).unwrap();
            send(&socket, &[round], rustix::net::SendFlags::empty()).unwrap();
            let mut buffer = [0; 4];
            let (got, _) = recv(&accepted, &mut buffer, rustix::net::RecvFlags::empty()).unwrap();
            assert_eq!(&buffer[..got], [round]);
            connect_unspec(&socket).unwrap();
        }
    }

    #[test]
    fn what_an_accepted_connection_sends_is_marked_as_its_listener() {
        let server = tcp_listener("127.0.0.1:0".parse().unwrap(), Some((1, 1)))
            .expect("needs CAP_NET_ADMIN: run as root");
        let (_, to) = bound_to(server.as_fd()).unwrap();
        let _client = std::net::TcpStream::connect(to).unwrap();
        let accepted = rustix::net::accept(&server).unwrap();
        assert_eq!(mark_of(accepted.as_fd()).unwrap(), 1);
    }
}
