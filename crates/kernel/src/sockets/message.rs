//! `struct inet_diag_req_v2` and `struct inet_diag_msg` (linux/inet_diag.h): bytes only, no socket.

use super::{InetSocket, Transport};
use netlink_bindings::inet_diag::{Msg, ReqV2};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// The body of a dump request: sockets in any state.
pub(super) fn request(transport: Transport, ipv6: bool) -> Vec<u8> {
    let request = ReqV2 {
        family: if ipv6 { AF_INET6 } else { AF_INET },
        protocol: match transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Raw => 255,
        },
        states: u32::MAX,
        ..ReqV2::new()
    };
    request.as_slice().to_vec()
}

/// The socket of an answer. `None` if it is cut off, or of another family.
pub(super) fn decode(transport: Transport, body: &[u8]) -> Option<InetSocket> {
    let (head, attributes) = body.split_at_checked(Msg::len())?;
    let head = Msg::new_from_slice(head)?;
    let id = &head.sockid;
    let address = |bytes: [u8; 16], port: u16| -> Option<SocketAddr> {
        let ip = match head.family {
            AF_INET => IpAddr::from(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
            AF_INET6 => IpAddr::from(Ipv6Addr::from(bytes)).to_canonical(),
            _ => return None,
        };
        Some(match ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, port, 0, id.r#if).into(),
            ip => SocketAddr::new(ip, port),
        })
    };
    let remote = address(id.dst, id.dport())?;
    let listens = transport == Transport::Tcp && head.state == TCP_LISTEN;
    Some(InetSocket {
        transport,
        local: address(id.src, id.sport())?,
        remote: (!remote.ip().is_unspecified()).then_some(remote),
        listens,
        device: (id.r#if != 0).then_some(id.r#if),
        inode: head.inode.into(),
        mark: mark(attributes),
    })
}

/// `INET_DIAG_MARK`.
fn mark(mut attributes: &[u8]) -> Option<u32> {
    loop {
        let (header, _) = attributes.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([header[2], header[3]]) == INET_DIAG_MARK {
            return value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP_LISTEN: u8 = 10;
const INET_DIAG_MARK: u16 = 15;
