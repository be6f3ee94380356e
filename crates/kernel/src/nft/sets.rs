//! Named sets of addresses: what is in them, and how it gets there.
//!
//! A set stays with all that is in it when the rules are replaced and when the table is adopted; a table that is made anew gets
//! the elements of the old one, with the time that each has left.

use super::observe::Seen;
use super::{
    DATA_VALUE, DELSET, DELSETELEM, GETSET, GETSETELEM, LIST_ELEMENT, NEWSET, NEWSETELEM, SET_NAME, be32,
    be64, each, message, observe, transaction,
};
use crate::Error;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::nft::{Family, IpVersion, Set, Table};
use narrowgate_sys::netlink::{self, NESTED, NLM_F_CREATE, Put, Requests, Socket, attributes, find, text};

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
            for family in [Family::Inet, Family::Arp, Family::Netdev] {
                let sets = seen.sets_of(family);
                if family != Family::Inet && sets.is_empty() {
                    continue;
                }
                for name in [Set::PEERS4, Set::PEERS6] {
                    let there = sets.iter().find(|s| s.name == name).map_or(&[][..], |s| &s.elements);
                    add_to(requests, family, name, there, addrs, u64::from(seconds) * 1000);
                }
            }
        })
    };
    // An element may go by itself between the look and the commit.
    once().or_else(|_| once())
}

/// The addresses that belong in the set of that name.
#[inline(never)]
fn add_to(
    requests: &mut Requests,
    family: Family,
    name: &str,
    there: &[Element],
    addrs: &[IpAddr],
    time: u64,
) {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for addr in addrs.iter().filter(|addr| Set::peers(addr) == name) {
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
    change(requests, DELSETELEM, family, name, &old, &|_| true);
    change(requests, NEWSETELEM, family, name, &new, &|_| true);
}

/// Makes the sets of a table those that are wanted. `kept` tells whether it is the one that was seen; its rules are gone by now.
/// A set that is not there yet gets what a set of that name has in another table: families come and go with devices.
#[inline(never)]
pub(super) fn set(requests: &mut Requests, wanted: &Table, all: &Seen, kept: bool) {
    let family = wanted.family;
    let seen = all.sets_of(family);
    for old in seen {
        if kept && !wanted.sets.iter().any(|set| old.fits(set)) {
            message(requests, DELSET, 0, family).put_text(SET_NAME, &old.name);
        }
    }
    for (id, set) in (1..).zip(&wanted.sets) {
        let old = seen.iter().find(|old| old.fits(set));
        let anywhere = || all.tables.iter().find_map(|t| t.sets.iter().find(|other| other.fits(set)));
        let there = old.or_else(anywhere).map_or(&[][..], |old| &old.elements);
        let stays = kept && old.is_some();
        let always = |e: &Element| set.elements.contains(&e.addr);
        if stays {
            // What is to change its kind goes first.
            change(requests, DELSETELEM, family, set.name, there, &|e| always(e) == e.time.is_some());
        } else {
            new_set(requests, family, set, id);
            let others = |e: &Element| !always(e) && e.time.is_some();
            change(requests, NEWSETELEM, family, set.name, there, &others);
        }
        let mut permanent = Vec::new();
        for addr in &set.elements {
            permanent.push(Element { addr: *addr, time: None });
        }
        let missing = |e: &Element| !stays || !there.contains(e);
        change(requests, NEWSETELEM, family, set.name, &permanent, &missing);
    }
}

impl SeenSet {
    fn fits(&self, wanted: &Set) -> bool {
        self.name == wanted.name && self.version == Some(wanted.version)
    }
}

fn new_set(requests: &mut Requests, family: Family, set: &Set, id: u32) {
    let (kind_of_key, length) = match set.version {
        IpVersion::V4 => (IPV4_ADDR, 4),
        IpVersion::V6 => (IPV6_ADDR, 16),
    };
    let body = message(requests, NEWSET, NLM_F_CREATE, family);
    body.put_text(SET_NAME, set.name);
    for (kind, number) in
        [(SET_FLAGS, TIMEOUT | DYNAMIC), (SET_KEY_TYPE, kind_of_key), (SET_KEY_LEN, length), (SET_ID, id)]
    {
        body.put_number(kind, number.to_be());
    }
    let desc = body.open(SET_DESC | NESTED);
    body.put_number(DESC_SIZE, Set::SIZE.to_be());
    body.close(desc);
}

/// Adds or deletes those of the elements that are wanted, so many a message that a message's length can be written.
#[inline(never)]
fn change(
    requests: &mut Requests,
    what: u16,
    family: Family,
    set: &str,
    elements: &[Element],
    wanted: &dyn Fn(&Element) -> bool,
) {
    let adds = what == NEWSETELEM;
    let mut elements = elements.iter().filter(|e| wanted(e)).peekable();
    while elements.peek().is_some() {
        let body = message(requests, what, if adds { NLM_F_CREATE } else { 0 }, family);
        body.put_text(SET_NAME, set);
        let list = body.open(LIST_ELEMENTS | NESTED);
        for element in elements.by_ref().take(256) {
            let start = body.open(LIST_ELEMENT | NESTED);
            let key = body.open(ELEMENT_KEY | NESTED);
            body.put_ip(DATA_VALUE, element.addr);
            body.close(key);
            if let Some((timeout, left)) = element.time.filter(|_| adds) {
                body.put(ELEMENT_TIMEOUT, &timeout.to_be_bytes());
                if left < timeout {
                    body.put(ELEMENT_EXPIRATION, &left.to_be_bytes());
                }
            }
            body.close(start);
        }
        body.close(list);
    }
}

/// The sets of a table of ours, with all their elements. `question` names the table.
pub(super) fn read(
    socket: &mut Socket,
    question: &mut Vec<u8>,
    sets: &mut Vec<SeenSet>,
) -> Result<(), netlink::Error> {
    each(socket, GETSET, question, &mut |_, attributes| sets.extend(decode_set(attributes)))?;
    let len = question.len();
    for set in sets {
        question.put_text(SET_NAME, &set.name);
        each(socket, GETSETELEM, question, &mut |_, attributes| decode_elements(attributes, set))?;
        question.truncate(len);
    }
    Ok(())
}

pub(super) fn decode_set(attributes: &[u8]) -> Option<SeenSet> {
    let name = text(find(attributes, SET_NAME)?);
    let size = find(attributes, SET_DESC).and_then(|desc| be32(desc, DESC_SIZE));
    let ours = be32(attributes, SET_FLAGS) == Some(TIMEOUT | DYNAMIC) && size == Some(Set::SIZE);
    let version = match be32(attributes, SET_KEY_LEN) {
        Some(4) if ours => Some(IpVersion::V4),
        Some(16) if ours => Some(IpVersion::V6),
        _ => None,
    };
    Some(SeenSet { name, version, elements: Vec::new() })
}

pub(super) fn decode_elements(of_set: &[u8], set: &mut SeenSet) {
    for (_, element) in attributes(find(of_set, LIST_ELEMENTS).unwrap_or_default()) {
        let addr = find(element, ELEMENT_KEY).and_then(|key| find(key, DATA_VALUE)).and_then(netlink::ip);
        let Some(addr) = addr else { continue };
        // Newer kernels say 0 for one without.
        let timeout = be64(element, ELEMENT_TIMEOUT).filter(|time| *time != 0);
        let left = be64(element, ELEMENT_EXPIRATION);
        let time = timeout.map(|timeout| (timeout, left.unwrap_or(timeout).max(1)));
        set.elements.push(Element { addr, time });
    }
}

/// How many elements there are in our sets.
pub(crate) fn sizes(socket: &mut Socket) -> Result<Vec<SetSize>, Error> {
    // Those of the other tables are the same.
    let seen = observe(socket)?;
    let size = |set: &SeenSet| SetSize { elements: set.elements.len(), name: set.name.clone() };
    Ok(seen.sets_of(Family::Inet).iter().map(size).collect())
}

/// `NFT_SET_TIMEOUT`, `NFT_SET_EVAL`.
const TIMEOUT: u32 = 0x10;
const DYNAMIC: u32 = 0x20;
/// Types of nft(8): for people, the kernel keeps them only.
const IPV4_ADDR: u32 = 7;
const IPV6_ADDR: u32 = 8;
/// Attributes of sets and of their elements (linux/netfilter/nf_tables.h).
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_DESC: u16 = 9;
const SET_ID: u16 = 10;
const DESC_SIZE: u16 = 1;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
