//! `struct inet_diag_req_v2` and `struct inet_diag_msg` (linux/inet_diag.h): bytes only, no socket.

use super::{InetSocket, Transport};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use narrowgate_sys::netlink::{find, number};

pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// The body of a dump request: sockets in any state.
pub(super) fn request(transport: Transport, ipv6: bool) -> Vec<u8> {
    let family = if ipv6 { AF_INET6 } else { AF_INET };
    let protocol = match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Raw => 255,
    };
    let mut request = vec![family, protocol, 0, 0, 0xff, 0xff, 0xff, 0xff];
    request.resize(REQUEST_LEN, 0);
    request
}

/// The socket of an answer. `None` if it is cut off, or of another family.
pub(super) fn decode(transport: Transport, body: &[u8]) -> Option<InetSocket> {
    let (head, attributes) = body.split_first_chunk::<MESSAGE_LEN>()?;
    let [family, state, ..] = *head;
    let number_at = |at: usize| head.get(at..).and_then(number);
    let device = number_at(40).filter(|index| *index != 0);
    let address = |port: usize, ip: usize| -> Option<SocketAddr> {
        let port = u16::from_be_bytes(*head.get(port..)?.first_chunk()?);
        let ip: [u8; 16] = *head.get(ip..)?.first_chunk()?;
        let ip = match family {
            AF_INET => IpAddr::from(Ipv4Addr::from(*ip.first_chunk::<4>()?)),
            AF_INET6 => IpAddr::from(Ipv6Addr::from(ip)).to_canonical(),
            _ => return None,
        };
        Some(match ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                SocketAddrV6::new(ip, port, 0, device.unwrap_or(0)).into()
            }
            ip => SocketAddr::new(ip, port),
        })
    };
    let remote = address(6, 24)?;
    Some(InetSocket {
        transport,
        local: address(4, 8)?,
        remote: (!remote.ip().is_unspecified()).then_some(remote),
        listens: transport == Transport::Tcp && state == TCP_LISTEN,
        device,
        inode: number_at(68)?.into(),
        mark: find(attributes, INET_DIAG_MARK).and_then(number),
    })
}

const REQUEST_LEN: usize = 56;
/// Family and state; at 4 `struct inet_diag_sockid`: ports, addresses, device; at 68 the inode.
const MESSAGE_LEN: usize = 72;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP_LISTEN: u8 = 10;
const INET_DIAG_MARK: u16 = 15;
