//! Devices (`RTM_*LINK`).

use alloc::vec::Vec;
use narrowgate_model::net::Link;
use narrowgate_sys::netlink::{Put, attributes, find, number, text};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;

/// The body of a dump request for all links, without their statistics.
pub(crate) fn dump_request() -> Vec<u8> {
    let mut body = vec![0; HEADER_LEN];
    body.put_number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    body
}

/// The body of `RTM_NEWLINK` that switches a device on or off.
pub(crate) fn encode_switch(body: &mut Vec<u8>, name: &str, up: bool) {
    let flags = if up { IFF_UP } else { 0 };
    for number in [0, 0, flags, IFF_UP] {
        body.extend_from_slice(&number.to_ne_bytes());
    }
    body.put_text(IFLA_IFNAME, name);
}

/// The link of an `RTM_NEWLINK`; none if it has no name, or is about another thing (a bridge's port).
pub(crate) fn decode(body: &[u8], links: &mut Vec<Link>) {
    let Some((header, rest)) = body.split_first_chunk::<HEADER_LEN>() else { return };
    let [0, _, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header else { return };
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let mut link = Link {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        ..Link::default()
    };
    read(rest, &mut link);
    if u16::from_ne_bytes([t0, t1]) == ARPHRD_LOOPBACK {
        link.mac = None;
    }
    if !link.name.is_empty() {
        links.push(link);
    }
}

#[inline(never)] // into the frame of the above, a local variable for each field and much copying
fn read(rest: &[u8], link: &mut Link) {
    let (mut master, mut port) = (None, false);
    for (kind, value) in attributes(rest) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = value.try_into().ok(),
            IFLA_MTU => link.mtu = number(value).unwrap_or(0),
            IFLA_CARRIER_DOWN_COUNT => link.carrier_losses = number(value).unwrap_or(0),
            IFLA_MASTER => master = number(value),
            IFLA_LINKINFO => port = find(value, IFLA_INFO_SLAVE_KIND) == Some(b"bridge\0"),
            _ => {}
        }
    }
    link.bridge = master.filter(|_| port);
}

/// `struct ifinfomsg`, attributes (linux/if_link.h) and flags (linux/if.h).
const HEADER_LEN: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_CARRIER_DOWN_COUNT: u16 = 48;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;
const ARPHRD_LOOPBACK: u16 = 772;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
