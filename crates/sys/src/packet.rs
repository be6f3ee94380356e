//! Packet sockets (packet(7)) for what comes before there is an address: Router Advertisements, DHCP, ARP; and the marked
//! UDP socket with which a lease is extended.
//!
//! The sockets are "cooked" (`SOCK_DGRAM`): packets begin with their IP or ARP header, so that devices without Ethernet headers
//! do as well. A classic BPF program in the kernel lets only the wanted kind through; it is in place before the first
//! packet can arrive.

use crate::io;
use core::mem;
use core::net::{Ipv4Addr, SocketAddrV4};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// What a packet socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Receives Router Advertisements with hop limit 255; sends IPv6.
    RouterAdverts,
    /// Receives unfragmented UDP to port 68; sends IPv4.
    DhcpClient,
    /// Receives ARP packets that say to be from this address; sends ARP.
    ArpFrom(Ipv4Addr),
}

/// A packet socket on one device; non-blocking.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: u32,
    protocol: u16,
}

/// A packet that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer are filled.
    pub len: usize,
    /// False: the sender, on this very machine, left the transport's checksum to hardware that there is not
    /// (`TP_STATUS_CSUMNOTREADY`), so it must not be checked.
    pub checksummed: bool,
}

impl PacketSocket {
    /// Opens a socket on the device with this index, which may be down. Needs CAP_NET_RAW.
    pub fn open(index: u32, interest: Interest) -> io::Result<PacketSocket> {
        let arp: [libc::sock_filter; 4];
        let (protocol, filter): (u16, &[libc::sock_filter]) = match interest {
            Interest::RouterAdverts => (libc::ETH_P_IPV6 as u16, &ROUTER_ADVERTS),
            Interest::DhcpClient => (libc::ETH_P_IP as u16, &DHCP_CLIENT),
            Interest::ArpFrom(address) => {
                arp = arp_from(address);
                (libc::ETH_P_ARP as u16, &arp)
            }
        };
        // Protocol 0: deaf until it is bound.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32)?;
        let socket = PacketSocket { fd, index, protocol };
        let address = socket.address(None);
        // SAFETY: `address` is a sockaddr_ll and the length given is its size.
        let done = unsafe {
            libc::bind(socket.fd.as_raw_fd(), (&raw const address).cast(), mem::size_of_val(&address) as u32)
        };
        if done == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
    }

    /// Takes the next packet, from its IP header on; what does not fit the buffer is cut off. `WouldBlock`: no more.
    /// A device that goes down is told once, as ENETDOWN.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = [0u64; 8]; // aligned for cmsghdr
        // SAFETY: all-zero is a valid msghdr (null pointers with zero lengths).
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control) as _;
        // SAFETY: the message points to one iovec over `buffer` and to `control`, with their lengths; all outlive the call.
        let len = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;

        let mut checksummed = true;
        // SAFETY: `message` was filled by recvmsg, `control` is alive; the CMSG macros stay within msg_controllen, and the
        // data of a PACKET_AUXDATA message is a tpacket_auxdata, read unaligned.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_PACKET && (*header).cmsg_type == libc::PACKET_AUXDATA {
                    let aux: libc::tpacket_auxdata =
                        libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
                    checksummed = aux.tp_status & libc::TP_STATUS_CSUMNOTREADY == 0;
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
        }
        Ok(Received { len, checksummed })
    }

    /// Sends a packet that begins with its IP header, to a hardware address where the device has such.
    pub fn send(&self, packet: &[u8], to: Option<[u8; 6]>) -> io::Result<()> {
        let address = self.address(to);
        // SAFETY: `packet` and `address` are valid for the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                (&raw const address).cast(),
                mem::size_of_val(&address) as u32,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn address(&self, to: Option<[u8; 6]>) -> libc::sockaddr_ll {
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = self.protocol.to_be();
        address.sll_ifindex = self.index as i32;
        if let Some(to) = to {
            address.sll_halen = 6;
            address.sll_addr[..6].copy_from_slice(&to);
        }
        address
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A UDP socket with this mark on this device, bound to `local`; non-blocking. It has the mark before it can send
/// anything; if it can't have it there is no socket. Needs CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17.
pub fn marked_udp(local: SocketAddrV4, device: &str, mark: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, &mark)?;
    let mut name = [0u8; libc::IFNAMSIZ];
    if device.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    name[..device.len()].copy_from_slice(device.as_bytes());
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)?;
    rustix::net::sockopt::set_socket_reuseaddr(&fd, true)?;
    rustix::net::bind(&fd, &local)?;
    Ok(fd)
}

fn set_option<T>(fd: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is valid for its own size; the callers pass the type that the option wants, and what a sock_fprog
    // points to outlives the call, in which the kernel copies it.
    let done = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), mem::size_of::<T>() as u32)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const fn load(size: u32, at: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_LD | size | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: at }
}

/// Goes on if the accumulator is `value`, else to the last instruction, `left` instructions further on.
const fn expect(value: u32, left: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: left,
        k: value,
    }
}

const fn give(bytes: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: bytes }
}

/// Next header ICMPv6, hop limit 255, type 134.
static ROUTER_ADVERTS: [libc::sock_filter; 6] = [
    load(libc::BPF_H, 6), // next header and hop limit are neighbours
    expect(58 << 8 | 255, 3),
    load(libc::BPF_B, 40),
    expect(134, 1),
    give(0xffff),
    give(0),
];

/// The sender's address, for IPv4 on Ethernet; the reader checks that it is that.
const fn arp_from(address: Ipv4Addr) -> [libc::sock_filter; 4] {
    [load(libc::BPF_W, 14), expect(address.to_bits(), 1), give(0xffff), give(0)]
}

/// UDP, no fragment, destination port 68.
static DHCP_CLIENT: [libc::sock_filter; 9] = [
    load(libc::BPF_B, 9),
    expect(17, 6),
    load(libc::BPF_H, 6),
    // Don't-fragment and the reserved bit may be set.
    libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16,
        jt: 4,
        jf: 0,
        k: 0x3fff,
    },
    libc::sock_filter { code: (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16, jt: 0, jf: 0, k: 0 },
    libc::sock_filter { code: (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16, jt: 0, jf: 0, k: 2 },
    expect(68, 1),
    give(0xffff),
    give(0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, set_capabilities, unshare_unsafe};
    use std::net::UdpSocket;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn only_udp_to_port_68_gets_through_and_says_that_its_checksum_is_not_there() {
        own_network(|| {
            let socket = PacketSocket::open(LOOPBACK, Interest::DhcpClient).unwrap();
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            for (port, text) in [(67, "no"), (68, "first"), (69, "no"), (68, "second")] {
                udp.send_to(text.as_bytes(), ("127.0.0.1", port)).unwrap();
            }
            let big = vec![b'x'; 30_000]; // in more than one piece, where the MTU is smaller
            run(&["link", "set", "lo", "mtu", "1500"]);
            udp.send_to(&big, ("127.0.0.1", 68)).unwrap();
            let mut buffer = [0; 2048];
            for text in ["first", "second"] {
                let got = next(&socket, &mut buffer);
                assert_eq!(buffer.get(28..got.len), Some(text.as_bytes()));
                assert!(!got.checksummed, "loopback leaves it out");
            }
            assert_eq!(socket.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        });
    }

    #[test]
    fn only_advertisements_from_neighbours_get_through() {
        own_network(|| {
            let socket = PacketSocket::open(LOOPBACK, Interest::RouterAdverts).unwrap();
            let packet = |next: u8, hops: u8, kind: u8| {
                let mut p = vec![0x60, 0, 0, 0, 0, 16, next, hops];
                p.resize(40, 0);
                p.extend([kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                p
            };
            for (next, hops, kind) in [(58, 254, 134), (58, 255, 133), (17, 255, 134), (58, 255, 134)] {
                socket.send(&packet(next, hops, kind), Some([0; 6])).unwrap();
            }
            socket.send(&[0x60, 0, 0], Some([0; 6])).unwrap(); // shorter than what the filter looks at
            let mut buffer = [0; 100];
            let got = next(&socket, &mut buffer);
            assert_eq!(buffer.get(..got.len), Some(&packet(58, 255, 134)[..]));
            assert_eq!(socket.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        });
    }

    #[test]
    fn only_arp_packets_from_the_address_get_through() {
        own_network(|| {
            run(&["link", "add", "a0", "type", "veth", "peer", "name", "b0"]);
            run(&["link", "set", "a0", "up"]);
            run(&["link", "set", "b0", "up"]);
            // What is sent before the kernel has noticed the carrier is lost.
            let deadline = Instant::now() + Duration::from_secs(10);
            while !text(&["link", "show", "a0"]).contains("state UP") {
                assert!(Instant::now() < deadline, "a0 has no carrier");
                std::thread::yield_now();
            }
            let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
            let index = |name: &str| rustix::net::netdevice::name_to_index(&any, name).unwrap();
            let watched = Ipv4Addr::new(192, 0, 2, 7);
            let (a, b) = (index("a0"), index("b0"));
            let sender = PacketSocket::open(a, Interest::ArpFrom(Ipv4Addr::BROADCAST)).unwrap();
            let watcher = PacketSocket::open(b, Interest::ArpFrom(watched)).unwrap();
            let packet = |from: [u8; 4]| {
                let mut p = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
                p.extend(from);
                p.extend([0; 10]);
                p
            };
            for from in [[192, 0, 2, 8], [0; 4], [192, 0, 2, 7]] {
                sender.send(&packet(from), Some([0xff; 6])).unwrap();
            }
            sender.send(&[0, 1], Some([0xff; 6])).unwrap();
            let mut buffer = [0; 100];
            let got = next(&watcher, &mut buffer);
            assert_eq!(buffer.get(..28), Some(&packet([192, 0, 2, 7])[..]));
            assert!(got.len >= 28);
            assert_eq!(watcher.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        });
    }

    #[test]
    fn a_device_that_goes_down_is_told_once_and_one_that_comes_up_is_heard_again() {
        own_network(|| {
            let socket = PacketSocket::open(LOOPBACK, Interest::DhcpClient).unwrap();
            run(&["link", "set", "lo", "down"]);
            let mut buffer = [0; 100];
            assert_eq!(socket.recv(&mut buffer).unwrap_err().raw_os_error(), Some(libc::ENETDOWN));
            assert_eq!(socket.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            run(&["link", "set", "lo", "up"]);
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"again", ("127.0.0.1", 68)).unwrap();
            assert_eq!(next(&socket, &mut buffer).len, 33);
        });
    }

    #[test]
    fn a_socket_that_cannot_be_marked_is_no_socket() {
        own_network(|| {
            let local = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);
            let socket = marked_udp(local, "lo", 5).unwrap();
            let mut mark = 0u32;
            let mut len = 4;
            // SAFETY: SO_MARK writes a u32, for which there is room.
            let done = unsafe {
                let to = (&raw mut mark).cast();
                libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MARK, to, &raw mut len)
            };
            assert_eq!((done, mark), (0, 5));
            // This thread's capabilities only.
            let mut caps = capabilities(None).unwrap();
            caps.effective.remove(CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
            set_capabilities(None, caps).unwrap();
            let refused = marked_udp(local, "lo", 5).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        });
    }

    /// Runs a test in a thread with a network namespace of its own, whose loopback is up.
    fn own_network(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            // SAFETY: a network namespace of its own changes no memory or descriptor that others use.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("this test needs root: unshare(2)");
            run(&["link", "set", "lo", "up"]);
            test();
        });
        thread.join().unwrap();
    }

    /// What comes next: the kernel may take a moment, even on loopback.
    fn next(socket: &PacketSocket, buffer: &mut [u8]) -> Received {
        let mut ready = [PollFd::new(socket, PollFlags::IN)];
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut ready, Some(&patience)).unwrap(), 1, "nothing came");
        socket.recv(buffer).unwrap()
    }

    fn text(args: &[&str]) -> String {
        let output = Command::new("ip").args(args).output().expect("this test needs iproute2");
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(args: &[&str]) {
        assert!(Command::new("ip").args(args).status().expect("this test needs iproute2").success());
    }

    const LOOPBACK: u32 = 1;
}
