//! What there is of our tables.

use super::sets::{self, SeenSet};
use super::{
    Counter, GETCHAIN, GETGEN, GETOBJ, GETRULE, GETTABLE, OBJECT_COUNTER, OWNER, PERSIST, family, header,
    kind, refused,
};
use crate::Error;
use narrowgate_model::nft::{ChainPrint, Family};
use narrowgate_model::state::ObservedGuard;
use narrowgate_model::{Gather, NFT_TABLE};
use narrowgate_sys::netlink::{self, Message, Socket};
use netlink_bindings::nftables::{
    ChainAttrs, CounterAttrs, HookDevAttrs, Nfgenmsg, NftHookAttrs, ObjAttrs, ObjData, OpGetchainDump,
    OpGetgenDo, OpGetobjDump, OpGetruleDump, OpGettableDump, PushObjAttrs, PushRuleAttrs, RuleAttrs,
    TableAttrs,
};
use netlink_bindings::utils::IterableChunks;
use std::ffi::CStr;

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
    /// `filter`, `nat`; empty for a chain without a hook.
    pub kind: String,
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
    read(socket).map_err(|e| refused("reading", &e))
}

impl Seen {
    /// The model's view of it. `port` is our socket's.
    pub(crate) fn guard(self, port: u32) -> ObservedGuard {
        let all = |test: &dyn Fn(&SeenTable) -> bool| !self.tables.is_empty() && self.tables.iter().all(test);
        let owned = all(&|t| t.owner == Some(port));
        let persistent = all(&|t| t.flags & PERSIST != 0);
        let mut chains = Vec::new();
        for table in self.tables {
            for chain in table.chains {
                let SeenChain { name, devices, comments, .. } = chain;
                chains.push(ChainPrint { family: table.family, name, devices, comments });
            }
            for set in table.sets {
                let permanent = set.elements.iter().filter(|e| e.time.is_none());
                let mut comments: Vec<String> = permanent.map(|e| e.addr.to_string()).collect();
                narrowgate_model::sort::sort(&mut comments);
                let devices = Vec::new();
                chains.push(ChainPrint { family: table.family, name: set.name, devices, comments });
            }
        }
        narrowgate_model::sort::sort(&mut chains);
        ObservedGuard { chains, owned, persistent }
    }
}

/// Whether a message of the nftables multicast group is about a table of ours: in all of them, the first attribute names
/// the table.
pub(crate) fn is_ours(message: &Message<'_>) -> bool {
    let Some((header, attributes)) = message.body.split_at_checked(Nfgenmsg::len()) else { return false };
    header.first().is_some_and(|number| family(*number).is_some())
        && IterableChunks::new(attributes).any(|(h, value)| {
            h.r#type == TABLE_NAME && value.strip_suffix(b"\0") == Some(NFT_TABLE.as_bytes())
        })
}

fn read(socket: &mut Socket) -> Result<Seen, netlink::Error> {
    let any = Nfgenmsg::new();
    let mut seen = Seen { generation: generation(socket)?, tables: Vec::new() };
    for message in socket.dump(kind(GETTABLE), any.as_slice())?.messages() {
        decode_table(message.body).into_iter().add_to(&mut seen.tables);
    }
    if seen.tables.is_empty() {
        return Ok(seen);
    }
    for message in socket.dump(kind(GETCHAIN), any.as_slice())?.messages() {
        if let Some((table, chain)) = decode_chain(message.body).and_then(|(f, c)| Some((seen.table(f)?, c)))
        {
            table.chains.push(chain);
        }
    }
    for table in &mut seen.tables {
        read_contents(socket, table)?;
    }
    Ok(seen)
}

/// Rules and counters of one table. Asked for by the table's name alone, the kernel would stop at the first family that has it.
fn read_contents(socket: &mut Socket, table: &mut SeenTable) -> Result<(), netlink::Error> {
    let any = header(table.family);
    let mut body = any.as_slice().to_vec();
    PushRuleAttrs::new(&mut body).push_table_bytes(NFT_TABLE.as_bytes());
    for message in socket.dump(kind(GETRULE), &body)?.messages() {
        let Some((_, name, comment)) = decode_rule(message.body).filter(|(f, ..)| *f == table.family) else {
            continue;
        };
        if let Some(chain) = table.chains.iter_mut().find(|c| c.name.as_bytes() == name) {
            chain.comments.push(comment);
        }
    }
    let mut body = any.as_slice().to_vec();
    PushObjAttrs::new(&mut body).push_table_bytes(NFT_TABLE.as_bytes()).push_type(OBJECT_COUNTER);
    let dump = socket.dump(kind(GETOBJ), &body)?;
    let counters = dump.messages().filter_map(|m| decode_counter(m.body));
    counters.filter(|c| c.family == table.family).add_to(&mut table.counters);
    table.sets = sets::read(socket, table.family)?;
    Ok(())
}

impl Seen {
    /// The sets of a table; none if there is no such table.
    pub(super) fn sets_of(&self, family: Family) -> &[SeenSet] {
        self.tables.iter().find(|t| t.family == family).map_or(&[], |t| &t.sets)
    }

    fn table(&mut self, family: Family) -> Option<&mut SeenTable> {
        self.tables.iter_mut().find(|t| t.family == family)
    }
}

fn generation(socket: &mut Socket) -> Result<u32, netlink::Error> {
    let answer = socket.ask(kind(GETGEN), Nfgenmsg::new().as_slice())?;
    Ok(answer.messages().find_map(|m| OpGetgenDo::decode_request(m.body).1.get_id().ok()).unwrap_or(0))
}

fn decode_table(body: &[u8]) -> Option<SeenTable> {
    let family = family_of(body)?;
    let (mut ours, mut flags, mut owner) = (false, 0, None);
    for attribute in OpGettableDump::decode_request(body).1.flatten() {
        match attribute {
            TableAttrs::Name(name) => ours = is_our_table(name),
            TableAttrs::Flags(bits) => flags = bits,
            TableAttrs::Owner(port) => owner = Some(port),
            _ => {}
        }
    }
    let owner = owner.filter(|_| flags & OWNER != 0);
    ours.then_some(SeenTable {
        family,
        flags,
        owner,
        chains: Vec::new(),
        counters: Vec::new(),
        sets: Vec::new(),
    })
}

fn decode_chain(body: &[u8]) -> Option<(Family, SeenChain)> {
    let family = family_of(body)?;
    let mut ours = false;
    let mut chain = SeenChain::default();
    for attribute in OpGetchainDump::decode_request(body).1.flatten() {
        match attribute {
            ChainAttrs::Table(name) => ours = is_our_table(name),
            ChainAttrs::Name(name) => chain.name = name.to_string_lossy().into_owned(),
            ChainAttrs::Type(name) => chain.kind = name.to_string_lossy().into_owned(),
            ChainAttrs::Policy(policy) => chain.policy = policy,
            ChainAttrs::Hook(hook) => hook.flatten().for_each(|attribute| chain.add_hook(attribute)),
            _ => {}
        }
    }
    narrowgate_model::sort::sort(&mut chain.devices);
    chain.devices.dedup();
    ours.then_some((family, chain))
}

impl SeenChain {
    fn add_hook(&mut self, attribute: NftHookAttrs<'_>) {
        match attribute {
            NftHookAttrs::Num(number) => self.hook = number,
            NftHookAttrs::Priority(priority) => self.priority = priority,
            // A chain with one device shows it both ways.
            NftHookAttrs::Dev(name) => self.devices.push(name.to_string_lossy().into_owned()),
            NftHookAttrs::Devs(names) => {
                let names = names.flatten().map(|HookDevAttrs::Name(n)| n.to_string_lossy().into_owned());
                names.add_to(&mut self.devices);
            }
        }
    }
}

fn decode_rule(body: &[u8]) -> Option<(Family, &[u8], String)> {
    let family = family_of(body)?;
    let (mut ours, mut chain, mut comment) = (false, None, String::new());
    for attribute in OpGetruleDump::decode_request(body).1.flatten() {
        match attribute {
            RuleAttrs::Table(name) => ours = is_our_table(name),
            RuleAttrs::Chain(name) => chain = Some(name.to_bytes()),
            RuleAttrs::Userdata(data) => comment = decode_comment(data).unwrap_or_default(),
            _ => {}
        }
    }
    Some((family, chain.filter(|_| ours)?, comment))
}

fn decode_counter(body: &[u8]) -> Option<Counter> {
    let family = family_of(body)?;
    let mut ours = false;
    let mut counter = Counter { family, name: String::new(), packets: 0, bytes: 0 };
    for attribute in OpGetobjDump::decode_request(body).1.flatten() {
        match attribute {
            ObjAttrs::Table(name) => ours = is_our_table(name),
            ObjAttrs::Name(name) => counter.name = name.to_string_lossy().into_owned(),
            ObjAttrs::Data(ObjData::Counter(data)) => {
                for attribute in data.flatten() {
                    match attribute {
                        CounterAttrs::Packets(number) => counter.packets = number,
                        CounterAttrs::Bytes(number) => counter.bytes = number,
                        CounterAttrs::Pad(_) => {}
                    }
                }
            }
            _ => {}
        }
    }
    ours.then_some(counter)
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

fn family_of(body: &[u8]) -> Option<Family> {
    family(*body.first()?).filter(|_| body.len() >= Nfgenmsg::len())
}

fn is_our_table(name: &CStr) -> bool {
    name.to_bytes() == NFT_TABLE.as_bytes()
}

pub(super) const USERDATA_COMMENT: u8 = 0;
const TABLE_NAME: u16 = 1;

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
            for body in [&body[..], &body[..body.len() / 2]] {
                let _ = (decode_table(body), decode_chain(body), decode_rule(body), decode_counter(body));
                let _ = decode_comment(body);
                let _ = sets::decode_set(body, Family::Inet);
                sets::decode_elements(body, &mut Vec::new());
                is_ours(&Message { kind: 0, flags: 0, sequence: 0, port: 0, body });
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
