//! Sockets that the kernel's list leaves out: of ICMP, raw ones where it is not built for them, packet sockets, and those that
//! have no port yet. A copy of the descriptor is asked for what the list would have told; the socket notices nothing of it.

use super::verdict::Seen;
use core::net::SocketAddr;
use narrowgate_sys::{process, socket};
use rustix::fd::AsFd;
use rustix::net::{AddressFamily, SocketAddrAny, SocketType, sockopt};

/// The socket behind a descriptor of another process; `None` if it is of a family that has no mark to be looked at (or
/// gone, or the kernel, before 5.6, gives no copies).
#[inline(never)]
pub fn look(pid: u32, number: i32, inode: u64) -> Option<Seen> {
    let copy = process::descriptor_of(process::pidfd(pid).ok()?.as_fd(), number).ok()?;
    if rustix::fs::fstat(&copy).ok()?.st_ino != inode {
        return None; // the number is another descriptor's by now
    }
    let mark = socket::mark_of(copy.as_fd()).ok()?;
    let domain = sockopt::socket_domain(&copy).ok()?;
    if domain == AddressFamily::PACKET {
        let device = packet_device(&narrowgate_sys::fs::read_to_string("/proc/net/packet").ok()?, inode);
        return Some(Seen { protocol: "packet", device, mark, ..Seen::default() });
    }
    if ![AddressFamily::INET, AddressFamily::INET6].contains(&domain) {
        return None;
    }
    let kind = sockopt::socket_type(&copy).ok()?;
    let number = sockopt::socket_protocol(&copy).ok()?.map_or(0, |protocol| protocol.as_raw().get());
    let protocol = match number {
        _ if kind == SocketType::RAW => "raw",
        6 => "tcp",
        17 => "udp",
        1 | 58 => "icmp",
        262 => "mptcp",
        _ => "other",
    };
    let local = rustix::net::getsockname(&copy).ok().and_then(plain);
    let remote = rustix::net::getpeername(&copy).ok().flatten().and_then(plain);
    Some(Seen {
        protocol,
        local,
        remote,
        listens: sockopt::socket_acceptconn(&copy).unwrap_or(false),
        device: None,
        mark,
        // It has neither sent nor been bound. Programs keep such sockets to ask for devices (netdevice(7)).
        unused: kind != SocketType::RAW && remote.is_none() && local.is_none_or(|local| local.port() == 0),
    })
}

fn plain(addr: SocketAddrAny) -> Option<SocketAddr> {
    let addr = SocketAddr::try_from(addr).ok()?;
    Some(match addr.ip().to_canonical() {
        ip if ip.is_ipv4() => SocketAddr::new(ip, addr.port()),
        _ => addr,
    })
}

/// The device of a packet socket by /proc/net/packet: `SK REFS TYPE PROTO IFACE R RMEM USER INODE`; none for all devices.
#[inline(never)]
fn packet_device(text: &str, inode: u64) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split_whitespace());
    let device = lines.find_map(|mut words| {
        let device = words.nth(4)?;
        (words.nth(3)?.parse() == Ok(inode)).then_some(device)
    });
    device?.parse().ok().filter(|index| *index != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_sockets_device_is_in_its_line() {
        let text = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
            0000000000000000 3      3    0003   7     1 0      0      4711\n\
            0000000000000000 3      2    0800   0     0 0      0      4712\n";
        assert_eq!(packet_device(text, 4711), Some(7));
        assert_eq!(packet_device(text, 4712), None);
        assert_eq!(packet_device(text, 7), None);
    }
}
