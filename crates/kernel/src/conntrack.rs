//! Connections that the kernel tracks already (`NFNL_SUBSYS_CTNETLINK`).
//!
//! Whoever spoke first is the *original* direction of a connection for as long as it is remembered, and the guard lets the
//! mark out in that direction alone. A gateway that spoke before the guard stood, with the tracking of some other firewall,
//! has turned the tunnel's own packets into replies; and they keep that memory alive themselves. So it is wiped.

use crate::Error;
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::config::Inbound;
use narrowgate_model::decimal;
use narrowgate_sys::netlink::{self, Dump, NESTED, NLM_F_ACK, Protocol, Put, Requests, Socket, find};

/// Forgets all connections that somebody else has begun to one of the addresses `own`, but those to a service of `keep`.
/// Says how many. Connections among `own`, and those that we have begun, stay.
///
/// # Errors
/// This kernel cannot list its connections (`nf_conntrack_netlink`): then it has most likely none.
pub fn forget_incoming(own: &[IpAddr], keep: &[Inbound]) -> Result<usize, Error> {
    let mut socket = open()?;
    let mut forgotten = 0;
    for family in [AF_INET, AF_INET6] {
        if !own.iter().any(|a| a.is_ipv6() == (family == AF_INET6)) {
            continue;
        }
        let dump = all(&mut socket, family)?;
        let mut requests = Requests::default();
        for message in dump.messages() {
            let Some(entry) = Entry::of(&message) else { continue };
            if !entry.is_incoming(own) || entry.is_of(keep) {
                continue;
            }
            entry.encode(requests.add(CT_DELETE, NLM_F_ACK), family);
            if requests.len() == BATCH {
                forgotten += forget(&mut socket, &mut core::mem::take(&mut requests))?;
            }
        }
        forgotten += forget(&mut socket, &mut requests)?;
    }
    Ok(forgotten)
}

/// What a VPN is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// It has sent nothing lately.
    None,
    /// It has just sent something.
    Sent,
    /// Something has just gone to and fro.
    Answered,
}

/// What has gone over UDP to a service at one of these ports: `sent` counts so many seconds, `answered` so many.
///
/// # Errors
/// As [`forget_incoming`].
pub fn recent_flow(ports: &[u16], sent: u32, answered: u32) -> Result<Flow, Error> {
    let mut socket = open()?;
    // The time that is left is set anew with each packet (nf_conntrack_udp_timeout and, when both have spoken for 2 s, …_stream).
    let limit = |name: &str| {
        let text = narrowgate_sys::fs::read_to_string(
            ["/proc/sys/net/netfilter/nf_conntrack_udp_timeout", name].concat(),
        );
        text.ok().and_then(|text| decimal(text.trim()))
    };
    let (once, stream) = (limit("").unwrap_or(30), limit("_stream").unwrap_or(120));
    let mut flow = Flow::None;
    for family in [AF_INET, AF_INET6] {
        let dump = all(&mut socket, family)?;
        for message in dump.messages() {
            let Some(entry) = Entry::of(&message) else { continue };
            let (protocol, port) = entry.service();
            let full = if entry.status & ASSURED != 0 { stream } else { once };
            let (found, counts) = match entry.status & SEEN_REPLY {
                0 => (Flow::Sent, sent),
                _ => (Flow::Answered, answered),
            };
            if protocol == UDP && port.is_some_and(|p| ports.contains(&p)) && entry.left + counts >= full {
                flow = flow.max(found);
            }
        }
    }
    Ok(flow)
}

fn open() -> Result<Socket, Error> {
    Socket::open(Protocol::Netfilter)
        .map_err(|e| Error::io(format_args!("opening a netlink socket for conntrack"), &e))
}

/// The connections of one family.
fn all(socket: &mut Socket, family: u8) -> Result<Dump, Error> {
    let dump = socket.dump(CT_GET, &header(family));
    dump.map_err(|e| Error::refused(format_args!("reading the tracked connections"), &e))
}

/// `struct nfgenmsg`.
fn header(family: u8) -> [u8; HEADER_LEN] {
    [family, 0, 0, 0]
}

/// One that has ended meanwhile is refused, which is as good.
fn forget(socket: &mut Socket, requests: &mut Requests) -> Result<usize, Error> {
    if requests.is_empty() {
        return Ok(0);
    }
    let refused = socket
        .try_all(requests)
        .map_err(|e| Error::refused(format_args!("forgetting tracked connections"), &e))?;
    Ok(requests.len().saturating_sub(refused.len()))
}

/// One tracked connection.
struct Entry<'a> {
    /// The attributes of its original direction.
    original: &'a [u8],
    zone: Option<&'a [u8]>,
    status: u32,
    /// Seconds until it is forgotten.
    left: u32,
}

impl<'a> Entry<'a> {
    fn of(message: &netlink::Message<'a>) -> Option<Entry<'a>> {
        let (_, attributes) = message.body.split_first_chunk::<HEADER_LEN>()?;
        let number = |kind| {
            let number = find(attributes, kind).and_then(netlink::number);
            number.map_or(0, u32::from_be)
        };
        (message.kind == CT_NEW).then_some(Entry {
            original: find(attributes, CTA_TUPLE_ORIG)?,
            zone: find(attributes, CTA_ZONE),
            status: number(CTA_STATUS),
            left: number(CTA_TIMEOUT),
        })
    }

    fn is_incoming(&self, own: &[IpAddr]) -> bool {
        let Some(ip) = find(self.original, CTA_TUPLE_IP) else { return false };
        let is_own = |v4, v6| {
            let addr = find(ip, v4).or_else(|| find(ip, v6)).and_then(netlink::ip);
            addr.map(|addr| own.contains(&addr))
        };
        is_own(CTA_IP_V4_DST, CTA_IP_V6_DST) == Some(true)
            && is_own(CTA_IP_V4_SRC, CTA_IP_V6_SRC) == Some(false)
    }

    /// The protocol, and the port that it was begun to.
    fn service(&self) -> (u8, Option<u16>) {
        let proto = find(self.original, CTA_TUPLE_PROTO).unwrap_or_default();
        let number = find(proto, CTA_PROTO_NUM).and_then(|value| value.first().copied());
        let port = find(proto, CTA_PROTO_DST_PORT).and_then(|value| value.first_chunk().copied());
        (number.unwrap_or(0), port.map(u16::from_be_bytes))
    }

    fn is_of(&self, services: &[Inbound]) -> bool {
        let (protocol, port) = self.service();
        services.iter().any(|service| match *service {
            Inbound::Tcp(wanted) => protocol == TCP && port == Some(wanted),
            Inbound::Udp(wanted) => protocol == UDP && port == Some(wanted),
            Inbound::Ping => protocol == ICMP || protocol == ICMPV6,
        })
    }

    /// The body of a request to forget it.
    fn encode(&self, body: &mut Vec<u8>, family: u8) {
        body.extend_from_slice(&header(family));
        body.put(CTA_TUPLE_ORIG | NESTED, self.original);
        if let Some(zone) = self.zone {
            body.put(CTA_ZONE, zone);
        }
    }
}

/// Requests in a datagram: a household can have made thousands of connections.
const BATCH: usize = 64;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// `NFNL_SUBSYS_CTNETLINK << 8`, with `IPCTNL_MSG_CT_NEW` and so on.
const CT_NEW: u16 = 0x100;
const CT_GET: u16 = 0x101;
const CT_DELETE: u16 = 0x102;
const HEADER_LEN: usize = 4;
/// Attributes (linux/netfilter/nfnetlink_conntrack.h).
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_STATUS: u16 = 3;
const CTA_TIMEOUT: u16 = 7;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Bits of a connection's status (`enum ip_conntrack_status`).
const SEEN_REPLY: u32 = 2;
const ASSURED: u32 = 4;
