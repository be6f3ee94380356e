//! What there is of our tables.

use super::sets::{self, SeenSet};
use super::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, COUNTER_BYTES, COUNTER_PACKETS, Counter, DEVICE_NAME,
    GETCHAIN, GETGEN, GETOBJ, GETRULE, GETTABLE, HEADER_LEN, HOOK_DEVICE, HOOK_DEVICES, HOOK_NUMBER,
    HOOK_PRIORITY, OBJECT_COUNTER, OBJECT_DATA, OBJECT_NAME, OBJECT_TYPE, OWNER, PERSIST, RULE_CHAIN,
    RULE_USERDATA, TABLE_FLAGS, be32, be64, begin, each, kind, refused,
};
use crate::Error;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use narrowgate_model::NFT_TABLE;
use narrowgate_model::nft::{ChainPrint, Family};
use narrowgate_model::state::ObservedGuard;
use narrowgate_sys::netlink::{self, Put, Socket, attributes, find, text};

/// Our tables as they are in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The generation of the whole ruleset, read before all else.
    pub generation: u32,
    pub tables: Vec<SeenTable>,
}

#[derive(Debug)]
pub(crate) struct SeenTable {
    pub family: Family,
    pub flags: u32,
    /// Port of the socket that owns it.
    pub owner: Option<u32>,
    pub chains: Vec<SeenChain>,
    pub counters: Vec<Counter>,
    pub sets: Vec<SeenSet>,
}

#[derive(Debug, Default)]
pub(crate) struct SeenChain {
    pub name: String,
    /// First letter of `filter`, `nat` or `route`; 0 for a chain without a hook.
    pub kind: u8,
    pub hook: u32,
    pub priority: i32,
    /// `NF_DROP` or `NF_ACCEPT`.
    pub policy: u32,
    /// Sorted.
    pub devices: Vec<String>,
    pub comments: Vec<String>,
}

/// Reads all there is of our tables.
pub(crate) fn observe(socket: &mut Socket) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    match read(socket, &mut seen) {
        Ok(()) => Ok(seen),
        Err(e) => Err(refused("reading", "", &e)),
    }
}

fn read(socket: &mut Socket, seen: &mut Seen) -> Result<(), netlink::Error> {
    seen.generation = generation(socket)?;
    each(socket, GETTABLE, &[0; HEADER_LEN], &mut |family, attributes| {
        let flags = be32(attributes, TABLE_FLAGS).unwrap_or(0);
        let owner = be32(attributes, TABLE_OWNER).filter(|_| flags & OWNER != 0);
        let (chains, counters, sets) = (Vec::new(), Vec::new(), Vec::new());
        seen.tables.push(SeenTable { family, flags, owner, chains, counters, sets });
    })?;
    seen.tables.iter_mut().try_for_each(|table| read_contents(socket, table))
}

/// All that is in one table. Asked for by the table's name alone, the kernel would stop at the first family that has it.
fn read_contents(socket: &mut Socket, table: &mut SeenTable) -> Result<(), netlink::Error> {
    let SeenTable { family, chains, counters, .. } = table;
    let family = *family;
    let mut question = Vec::new();
    begin(&mut question, family, NFT_TABLE);
    each(socket, GETCHAIN, &question, &mut |_, attributes| chains.push(decode_chain(attributes)))?;
    each(socket, GETRULE, &question, &mut |_, attributes| decode_rule(attributes, chains))?;
    sets::read(socket, &mut question, &mut table.sets)?;
    question.put_number(OBJECT_TYPE, OBJECT_COUNTER.to_be());
    each(socket, GETOBJ, &question, &mut |_, attributes| counters.push(decode_counter(family, attributes)))
}

impl Seen {
    /// The model's view of it. `port` is our socket's.
    #[inline(never)]
    pub(crate) fn guard(mut self, port: u32, guard: &mut ObservedGuard) {
        (guard.owned, guard.persistent) = (!self.tables.is_empty(), !self.tables.is_empty());
        for table in &mut self.tables {
            let family = table.family;
            guard.owned &= table.owner == Some(port);
            guard.persistent &= table.flags & PERSIST != 0;
            while let Some(SeenChain { name, devices, comments, .. }) = table.chains.pop() {
                guard.chains.push(ChainPrint { family, name, devices, comments });
            }
            while let Some(set) = table.sets.pop() {
                let mut comments = Vec::new();
                for element in set.elements.iter().filter(|e| e.time.is_none()) {
                    comments.push(element.addr.to_string());
                }
                narrowgate_model::sort::sort(&mut comments);
                let devices = Vec::new();
                guard.chains.push(ChainPrint { family, name: set.name, devices, comments });
            }
        }
        narrowgate_model::sort::sort(&mut guard.chains);
    }

    /// The sets of a table; none if there is no such table.
    pub(super) fn sets_of(&self, family: Family) -> &[SeenSet] {
        self.tables.iter().find(|t| t.family == family).map_or(&[], |t| &t.sets)
    }
}

fn generation(socket: &mut Socket) -> Result<u32, netlink::Error> {
    let answer = socket.ask(kind(GETGEN), &[0; HEADER_LEN])?;
    let body = answer.messages().next().map(|message| message.body);
    Ok(body.and_then(|body| be32(body.get(HEADER_LEN..)?, GENERATION)).unwrap_or(0))
}

fn decode_chain(of_chain: &[u8]) -> SeenChain {
    let value = |kind| find(of_chain, kind).unwrap_or_default();
    let hook = value(CHAIN_HOOK);
    let mut devices = Vec::new();
    let mut add = |name: &[u8]| {
        let name = text(name);
        // A chain with one device shows it both ways.
        if !devices.contains(&name) {
            devices.push(name);
        }
    };
    find(hook, HOOK_DEVICE).into_iter().for_each(&mut add);
    for (kind, name) in attributes(find(hook, HOOK_DEVICES).unwrap_or_default()) {
        if kind == DEVICE_NAME {
            add(name);
        }
    }
    narrowgate_model::sort::sort(&mut devices);
    SeenChain {
        name: text(value(CHAIN_NAME)),
        kind: value(CHAIN_TYPE).first().copied().unwrap_or(0),
        hook: be32(hook, HOOK_NUMBER).unwrap_or(0),
        priority: be32(hook, HOOK_PRIORITY).unwrap_or(0) as i32,
        policy: be32(of_chain, CHAIN_POLICY).unwrap_or(0),
        devices,
        comments: Vec::new(),
    }
}

/// Adds the comment of a rule to those of its chain.
fn decode_rule(attributes: &[u8], chains: &mut [SeenChain]) {
    let chain = text(find(attributes, RULE_CHAIN).unwrap_or_default());
    let comment = find(attributes, RULE_USERDATA).and_then(decode_comment);
    if let Some(chain) = chains.iter_mut().find(|c| c.name == chain) {
        chain.comments.push(comment.unwrap_or_default());
    }
}

fn decode_counter(family: Family, attributes: &[u8]) -> Counter {
    let value = |kind| find(attributes, kind).unwrap_or_default();
    let number = |kind| be64(value(OBJECT_DATA), kind).unwrap_or(0);
    Counter {
        family,
        name: text(value(OBJECT_NAME)),
        packets: number(COUNTER_PACKETS),
        bytes: number(COUNTER_BYTES),
    }
}

/// The comment in libnftables' user data: items of type, length, value, the comment's type being 0.
pub(super) fn decode_comment(mut data: &[u8]) -> Option<String> {
    while let Some(([kind, len], rest)) = data.split_first_chunk() {
        let (value, rest) = rest.split_at_checked(usize::from(*len))?;
        if *kind == USERDATA_COMMENT {
            let text = value.strip_suffix(b"\0").unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        data = rest;
    }
    None
}

pub(super) const USERDATA_COMMENT: u8 = 0;
const TABLE_OWNER: u16 = 7;
/// `NFTA_GEN_ID`.
const GENERATION: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_a_panic(
            family in prop_oneof![Just(1u8), Just(3), Just(5), any::<u8>()],
            attributes in prop::collection::vec((0u16..16, prop::collection::vec(0u8..24, 0..32), any::<bool>()), 0..6),
        ) {
            let mut body = vec![family, 0, 0, 0];
            for (kind, value, cut) in attributes {
                body.extend((value.len() as u16 + if cut { 9 } else { 4 }).to_ne_bytes());
                body.extend(kind.to_ne_bytes());
                body.extend(&value);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            for body in [&body[..], &body[..(body.len() / 2).max(4)]] {
                crate::nft::ours(body);
                let attributes = &body[4..];
                decode_rule(attributes, &mut [decode_chain(attributes)]);
                decode_counter(Family::Inet, attributes);
                decode_comment(body);
                let mut set = sets::decode_set(attributes).unwrap_or_default();
                sets::decode_elements(attributes, &mut set);
            }
        }
    }

    #[test]
    fn the_comment_is_found_among_other_user_data() {
        assert_eq!(decode_comment(b"\x05\x02ab\x00\x03hi\0"), Some("hi".to_owned()));
        assert_eq!(decode_comment(b"\x00\x02hi"), Some("hi".to_owned()), "also without its NUL");
        assert_eq!(decode_comment(b"\x00\x09hi\0"), None, "cut off");
        assert_eq!(decode_comment(b"\x05\x02ab"), None);
        assert_eq!(decode_comment(b""), None);
    }
}
