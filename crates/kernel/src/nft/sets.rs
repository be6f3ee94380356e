//! Named sets of addresses: what is in them, and how it gets there.
//!
//! A set stays with all that is in it when the rules are replaced and when the table is adopted; a table that is made anew gets
//! the elements of the old one, with the time that each has left.

use super::observe::Seen;
use super::{
    DELSET, DELSETELEM, GETSET, GETSETELEM, NEWSET, NEWSETELEM, family, header, kind, observe, transaction,
};
use crate::Error;
use narrowgate_model::nft::{Family, IpVersion, Set, Table};
use narrowgate_model::{Gather, NFT_TABLE};
use narrowgate_sys::netlink::{self, NLM_F_CREATE, Requests, Socket};
use netlink_bindings::nftables::{
    Nfgenmsg, OpDelsetDo, OpDelsetelemDo, OpNewsetDo, OpNewsetelemDo, PushSetAttrs, PushSetelemListAttrs,
};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{IterableChunks, finalize_nested_header, find_attr, push_nested_header};
use std::net::IpAddr;

/// A set as it is in the kernel.
#[derive(Debug, Default)]
pub(crate) struct SeenSet {
    pub name: String,
    /// It is of the kind that we make, and of this version.
    version: Option<IpVersion>,
    pub elements: Vec<Element>,
}

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element {
    pub addr: IpAddr,
    /// Milliseconds that it got, and those that are left.
    pub time: Option<(u64, u64)>,
}

/// How many elements a set has, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSize {
    /// Its name.
    pub name: String,
    /// Elements.
    pub elements: usize,
}

/// Puts addresses into the sets of the peers, or gives those that are there their time anew. All of them or none.
pub(crate) fn add(socket: &mut Socket, addrs: &[IpAddr], seconds: u32) -> Result<(), Error> {
    let mut once = || {
        transaction(socket, "adding addresses to", &mut |seen, requests| {
            let others = seen.tables.iter().filter(|t| t.family != Family::Inet && !t.sets.is_empty());
            let inet = (Family::Inet, seen.sets_of(Family::Inet));
            for (family, sets) in std::iter::once(inet).chain(others.map(|t| (t.family, &t.sets[..]))) {
                for name in [Set::PEERS4, Set::PEERS6] {
                    let there = sets.iter().find(|s| s.name == name).map_or(&[][..], |s| &s.elements);
                    let of_it = addrs.iter().filter(|addr| Set::peers(addr) == name);
                    add_to(requests, family, name, there, of_it, u64::from(seconds) * 1000);
                }
            }
        })
    };
    // An element may go by itself between the look and the commit.
    once().or_else(|_| once())
}

fn add_to<'a>(
    requests: &mut Requests,
    family: Family,
    name: &str,
    there: &[Element],
    addrs: impl Iterator<Item = &'a IpAddr>,
    time: u64,
) {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for addr in addrs {
        // One that has nearly all of its time left stays as it is: that spares the kernel a commit.
        let stays = |e: &Element| e.time.is_none_or(|(_, left)| left >= time / 8 * 7);
        let element = there.iter().find(|e| e.addr == *addr);
        let fresh = Element { addr: *addr, time: Some((time, time)) };
        if element.is_none_or(|e| !stays(e)) && !new.contains(&fresh) {
            // Kernels before 6.12 leave the time of an element as it is that is added again.
            old.extend(element);
            new.push(fresh);
        }
    }
    change(requests, DELSETELEM, family, name, &old);
    change(requests, NEWSETELEM, family, name, &new);
}

/// Makes the sets of a table those that are wanted. `kept` tells whether it is the one that was seen; its rules are gone by now.
/// A set that is not there yet gets what a set of that name has in another table: families come and go with devices.
pub(super) fn set(requests: &mut Requests, wanted: &Table, all: &Seen, kept: bool) {
    let seen = all.sets_of(wanted.family);
    let fits = |set: &Set, old: &SeenSet| old.name == set.name && old.version == Some(set.version);
    for old in seen.iter().filter(|old| kept && !wanted.sets.iter().any(|set| fits(set, old))) {
        requests.push(kind(DELSET), 0, |body| {
            OpDelsetDo::encode_request(body, &header(wanted.family))
                .push_table_bytes(NFT_TABLE.as_bytes())
                .push_name_bytes(old.name.as_bytes());
        });
    }
    for (id, set) in (1..).zip(&wanted.sets) {
        let old = seen.iter().find(|old| fits(set, old));
        let anywhere = all.tables.iter().flat_map(|t| &t.sets).find(|other| fits(set, other));
        let there = old.or(anywhere).map_or(&[][..], |old| &old.elements);
        let stays = kept && old.is_some();
        let always = |e: &Element| set.elements.contains(&e.addr);
        if stays {
            // What is to change its kind goes first.
            let wrong = pick(there, &|e| always(e) == e.time.is_some());
            change(requests, DELSETELEM, wanted.family, set.name, &wrong);
        } else {
            new_set(requests, wanted.family, set, id);
            let others = pick(there, &|e| !always(e) && e.time.is_some());
            change(requests, NEWSETELEM, wanted.family, set.name, &others);
        }
        let permanent: Vec<Element> =
            set.elements.iter().map(|addr| Element { addr: *addr, time: None }).collect();
        let missing = pick(&permanent, &|e| !stays || !there.contains(e));
        change(requests, NEWSETELEM, wanted.family, set.name, &missing);
    }
}

fn pick(elements: &[Element], wanted: &dyn Fn(&Element) -> bool) -> Vec<Element> {
    elements.iter().filter(|e| wanted(e)).copied().gather()
}

fn new_set(requests: &mut Requests, family: Family, set: &Set, id: u32) {
    let (kind_of_key, length) = match set.version {
        IpVersion::V4 => (IPV4_ADDR, 4),
        IpVersion::V6 => (IPV6_ADDR, 16),
    };
    requests.push(kind(NEWSET), NLM_F_CREATE, |body| {
        OpNewsetDo::encode_request(body, &header(family))
            .push_table_bytes(NFT_TABLE.as_bytes())
            .push_name_bytes(set.name.as_bytes())
            .push_flags(TIMEOUT | DYNAMIC)
            .push_key_type(kind_of_key)
            .push_key_len(length)
            .push_id(id)
            .nested_desc()
            .push_size(Set::SIZE);
    });
}

/// Adds or deletes elements, so many a message that a message's length can be written.
fn change(requests: &mut Requests, what: u16, family: Family, set: &str, elements: &[Element]) {
    for some in elements.chunks(256) {
        requests.push(kind(what), if what == NEWSETELEM { NLM_F_CREATE } else { 0 }, |body| {
            // Both are laid out alike.
            let list = if what == NEWSETELEM {
                OpNewsetelemDo::encode_request(body, &header(family))
            } else {
                OpDelsetelemDo::encode_request(body, &header(family))
            };
            let mut list =
                list.push_table_bytes(NFT_TABLE.as_bytes()).push_set_bytes(set.as_bytes()).nested_elements();
            for element in some {
                let start = push_nested_header(list.as_vec_mut(), LIST_ELEMENT);
                let mut attributes = netlink_bindings::nftables::PushSetelemAttrs::new(list.as_vec_mut());
                attributes = match element.addr {
                    IpAddr::V4(addr) => attributes.nested_key().push_value(&addr.octets()).end_nested(),
                    IpAddr::V6(addr) => attributes.nested_key().push_value(&addr.octets()).end_nested(),
                };
                if let Some((timeout, left)) = element.time.filter(|_| what == NEWSETELEM) {
                    // The bindings write the machine's order; the kernel reads the network's.
                    attributes = attributes.push_timeout(timeout.to_be());
                    if left < timeout {
                        attributes = attributes.push_expiration(left.to_be());
                    }
                }
                drop(attributes);
                finalize_nested_header(list.as_vec_mut(), start);
            }
        });
    }
}

/// The sets of a table of ours, with all their elements.
pub(super) fn read(socket: &mut Socket, family: Family) -> Result<Vec<SeenSet>, netlink::Error> {
    let any = header(family);
    let mut body = any.as_slice().to_vec();
    PushSetAttrs::new(&mut body).push_table_bytes(NFT_TABLE.as_bytes());
    let mut sets: Vec<SeenSet> = Vec::new();
    socket.dump(kind(GETSET), &body)?.messages().filter_map(|m| decode_set(m.body, family)).add_to(&mut sets);
    for set in &mut sets {
        let mut body = any.as_slice().to_vec();
        PushSetelemListAttrs::new(&mut body)
            .push_table_bytes(NFT_TABLE.as_bytes())
            .push_set_bytes(set.name.as_bytes());
        for message in socket.dump(kind(GETSETELEM), &body)?.messages() {
            decode_elements(message.body, &mut set.elements);
        }
    }
    Ok(sets)
}

pub(super) fn decode_set(body: &[u8], wanted: Family) -> Option<SeenSet> {
    let (head, attributes) = body.split_at_checked(Nfgenmsg::len())?;
    let name = |kind| find_attr(attributes, kind)?.strip_suffix(b"\0");
    if family(*head.first()?) != Some(wanted) || name(SET_TABLE) != Some(NFT_TABLE.as_bytes()) {
        return None;
    }
    let number = |kind| find_attr(attributes, kind).and_then(be32);
    let size = find_attr(attributes, SET_DESC).and_then(|desc| find_attr(desc, DESC_SIZE)).and_then(be32);
    let ours = number(SET_FLAGS) == Some(TIMEOUT | DYNAMIC) && size == Some(Set::SIZE);
    let version = match number(SET_KEY_LEN) {
        Some(4) if ours => Some(IpVersion::V4),
        Some(16) if ours => Some(IpVersion::V6),
        _ => None,
    };
    let name = String::from_utf8_lossy(name(SET_NAME)?).into_owned();
    Some(SeenSet { name, version, elements: Vec::new() })
}

pub(super) fn decode_elements(body: &[u8], into: &mut Vec<Element>) {
    let Some((_, attributes)) = body.split_at_checked(Nfgenmsg::len()) else { return };
    let list = find_attr(attributes, LIST_ELEMENTS).unwrap_or(&[]);
    IterableChunks::new(list).filter_map(|(_, element)| decode_element(element)).add_to(into);
}

fn decode_element(element: &[u8]) -> Option<Element> {
    let key = find_attr(find_attr(element, ELEMENT_KEY)?, DATA_VALUE)?;
    let addr = match key.len() {
        4 => IpAddr::from(*key.first_chunk::<4>()?),
        _ => IpAddr::from(*key.first_chunk::<16>()?),
    };
    let number = |kind| Some(u64::from_be_bytes(*find_attr(element, kind)?.first_chunk()?));
    // Newer kernels say 0 for one without.
    let timeout = number(ELEMENT_TIMEOUT).filter(|time| *time != 0);
    let time = timeout.map(|timeout| (timeout, number(ELEMENT_EXPIRATION).unwrap_or(timeout).max(1)));
    Some(Element { addr, time })
}

/// How many elements there are in our sets.
pub(crate) fn sizes(socket: &mut Socket) -> Result<Vec<SetSize>, Error> {
    // Those of the other tables are the same.
    let tables = observe(socket)?.tables.into_iter().filter(|t| t.family == Family::Inet);
    let sets = tables.flat_map(|t| t.sets);
    Ok(sets.map(|set| SetSize { elements: set.elements.len(), name: set.name }).gather())
}

fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

/// `NFT_SET_TIMEOUT`, `NFT_SET_EVAL`.
const TIMEOUT: u32 = 0x10;
const DYNAMIC: u32 = 0x20;
/// Types of nft(8): for people, the kernel keeps them only.
const IPV4_ADDR: u32 = 7;
const IPV6_ADDR: u32 = 8;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_LEN: u16 = 5;
const SET_DESC: u16 = 9;
const DESC_SIZE: u16 = 1;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
const DATA_VALUE: u16 = 1;
