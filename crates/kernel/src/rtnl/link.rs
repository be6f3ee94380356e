//! Devices (`RTM_*LINK`).

use narrowgate_model::net::Link;
use netlink_bindings::rt_link::{Ifinfomsg, LinkAttrs, OpGetlinkDump, OpNewlinkDo, PushLinkAttrs};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;

/// The body of a dump request for all links, without their statistics.
pub(crate) fn dump_request() -> Vec<u8> {
    let mut body = Ifinfomsg::new().as_slice().to_vec();
    PushLinkAttrs::new(&mut body).push_ext_mask(RTEXT_FILTER_SKIP_STATS);
    body
}

/// The body of `RTM_NEWLINK` that switches a device on or off.
pub(crate) fn encode_switch(body: &mut Vec<u8>, name: &str, up: bool) {
    let header = Ifinfomsg { ifi_flags: if up { IFF_UP } else { 0 }, ifi_change: IFF_UP, ..Ifinfomsg::new() };
    OpNewlinkDo::encode_request(body, &header).push_ifname_bytes(name.as_bytes());
}

/// The link of an `RTM_NEWLINK`. `None` if it has no name, or is about another thing (a bridge's port).
pub(crate) fn decode(body: &[u8]) -> Option<Link> {
    if body.len() < Ifinfomsg::len() {
        return None;
    }
    let (header, attributes) = OpGetlinkDump::decode_request(body);
    if header.ifi_family != 0 {
        return None;
    }
    let mut link = Link {
        index: u32::try_from(header.ifi_index).ok()?,
        name: String::new(),
        up: header.ifi_flags & IFF_UP != 0,
        carrier: header.ifi_flags & IFF_LOWER_UP != 0,
        ..Link::default()
    };
    let (mut master, mut port) = (None, false);
    for attribute in attributes.flatten() {
        match attribute {
            LinkAttrs::Ifname(name) => link.name = name.to_string_lossy().into_owned(),
            LinkAttrs::Address(address) if header.ifi_type != ARPHRD_LOOPBACK => {
                link.mac = address.try_into().ok()
            }
            LinkAttrs::Mtu(mtu) => link.mtu = mtu,
            LinkAttrs::CarrierDownCount(losses) => link.carrier_losses = losses,
            LinkAttrs::Master(index) => master = Some(index),
            LinkAttrs::Linkinfo(info) => port = info.get_slave_kind().is_ok_and(|kind| kind == c"bridge"),
            _ => {}
        }
    }
    link.bridge = master.filter(|_| port);
    (!link.name.is_empty()).then_some(link)
}

const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;
const ARPHRD_LOOPBACK: u16 = 772;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
