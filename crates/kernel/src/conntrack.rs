//! Connections that the kernel tracks already (`NFNL_SUBSYS_CTNETLINK`).
//!
//! Whoever spoke first is the *original* direction of a connection for as long as it is remembered, and the guard lets the
//! mark out in that direction alone. A gateway that spoke before the guard stood, with the tracking of some other firewall,
//! has turned the tunnel's own packets into replies; and they keep that memory alive themselves. So it is wiped.

use crate::Error;
use narrowgate_model::config::Inbound;
use narrowgate_sys::netlink::{Message, NLM_F_ACK, Protocol, Requests, Socket};
use netlink_bindings::conntrack::{
    ConntrackAttrs, IterableTupleAttrs, Nfgenmsg, OpGetDump, TupleAttrs, TupleIpAttrs, TupleProtoAttrs,
};
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};
use std::net::IpAddr;

/// Forgets all connections that somebody else has begun to one of the addresses `own`, but those to a service of `keep`.
/// Says how many. Connections among `own`, and those that we have begun, stay.
///
/// # Errors
/// This kernel cannot list its connections (`nf_conntrack_netlink`): then it has most likely none.
pub fn forget_incoming(own: &[IpAddr], keep: &[Inbound]) -> Result<usize, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)
        .map_err(|e| Error::io("opening a netlink socket for conntrack", &e))?;
    let mut forgotten = 0;
    for family in [AF_INET, AF_INET6] {
        if !own.iter().any(|a| a.is_ipv6() == (family == AF_INET6)) {
            continue;
        }
        let header = Nfgenmsg { nfgen_family: family, ..Nfgenmsg::new() };
        let dump = socket
            .dump(CT_GET, header.as_slice())
            .map_err(|e| Error::refused("reading the tracked connections", &e))?;
        let mut requests = Requests::default();
        for message in dump.messages().filter(|m| m.kind == CT_NEW) {
            let Some(entry) = Entry::of(&message) else { continue };
            if !entry.is_incoming(own) || entry.is_of(keep) {
                continue;
            }
            requests.push(CT_DELETE, NLM_F_ACK, |body| entry.encode(body, &header));
            if requests.len() == BATCH {
                forgotten += forget(&mut socket, &mut std::mem::take(&mut requests))?;
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
    let mut socket = Socket::open(Protocol::Netfilter)
        .map_err(|e| Error::io("opening a netlink socket for conntrack", &e))?;
    // The time that is left is set anew with each packet (nf_conntrack_udp_timeout and, when both have spoken for 2 s, …_stream).
    let limit = |name: &str| {
        let text =
            std::fs::read_to_string(["/proc/sys/net/netfilter/nf_conntrack_udp_timeout", name].concat());
        text.ok().and_then(|text| text.trim().parse().ok())
    };
    let (once, stream): (u32, u32) = (limit("").unwrap_or(30), limit("_stream").unwrap_or(120));
    let mut flow = Flow::None;
    for family in [AF_INET, AF_INET6] {
        let header = Nfgenmsg { nfgen_family: family, ..Nfgenmsg::new() };
        let dump = socket
            .dump(CT_GET, header.as_slice())
            .map_err(|e| Error::refused("reading the tracked connections", &e))?;
        for entry in dump.messages().filter(|m| m.kind == CT_NEW).filter_map(|m| Entry::of(&m)) {
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

/// One that has ended meanwhile is refused, which is as good.
fn forget(socket: &mut Socket, requests: &mut Requests) -> Result<usize, Error> {
    if requests.is_empty() {
        return Ok(0);
    }
    let refused =
        socket.try_all(requests).map_err(|e| Error::refused("forgetting tracked connections", &e))?;
    Ok(requests.len().saturating_sub(refused.len()))
}

/// One tracked connection.
struct Entry<'a> {
    original: IterableTupleAttrs<'a>,
    zone: Option<u16>,
    status: u32,
    /// Seconds until it is forgotten.
    left: u32,
}

impl<'a> Entry<'a> {
    fn of(message: &Message<'a>) -> Option<Entry<'a>> {
        let (mut original, mut zone, mut status, mut left) = (None, None, 0, 0);
        for attribute in OpGetDump::decode_request(message.body).1.flatten() {
            match attribute {
                ConntrackAttrs::TupleOrig(tuple) => original = Some(tuple),
                ConntrackAttrs::Zone(number) => zone = Some(number),
                ConntrackAttrs::Status(bits) => status = bits,
                ConntrackAttrs::Timeout(seconds) => left = seconds,
                _ => {}
            }
        }
        Some(Entry { original: original?, zone, status, left })
    }

    fn is_incoming(&self, own: &[IpAddr]) -> bool {
        let (mut from, mut to) = (None, None);
        for attribute in self.original.flatten() {
            let TupleAttrs::TupleIp(ip) = attribute else { continue };
            for addr in ip.flatten() {
                match addr {
                    TupleIpAttrs::IpV4Src(a) => from = Some(IpAddr::V4(a)),
                    TupleIpAttrs::IpV4Dst(a) => to = Some(IpAddr::V4(a)),
                    TupleIpAttrs::IpV6Src(a) => from = Some(IpAddr::V6(a)),
                    TupleIpAttrs::IpV6Dst(a) => to = Some(IpAddr::V6(a)),
                }
            }
        }
        to.is_some_and(|a| own.contains(&a)) && from.is_some_and(|a| !own.contains(&a))
    }

    /// The protocol, and the port that it was begun to.
    fn service(&self) -> (u8, Option<u16>) {
        let (mut protocol, mut port) = (0, None);
        for attribute in self.original.flatten() {
            let TupleAttrs::TupleProto(proto) = attribute else { continue };
            for part in proto.flatten() {
                match part {
                    TupleProtoAttrs::ProtoNum(number) => protocol = number,
                    TupleProtoAttrs::ProtoDstPort(number) => port = Some(number),
                    _ => {}
                }
            }
        }
        (protocol, port)
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
    fn encode(&self, body: &mut Vec<u8>, header: &Nfgenmsg) {
        body.extend_from_slice(header.as_slice());
        let at = push_nested_header(body, CTA_TUPLE_ORIG);
        body.extend_from_slice(self.original.get_buf());
        finalize_nested_header(body, at);
        if let Some(zone) = self.zone {
            push_header(body, CTA_ZONE, 2);
            body.extend_from_slice(&zone.to_be_bytes());
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
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ZONE: u16 = 18;
/// Bits of a connection's status (`enum ip_conntrack_status`).
const SEEN_REPLY: u32 = 2;
const ASSURED: u32 = 4;
