//! Making our tables exactly what is wanted, in one transaction.

use super::expression::{self, NF_ACCEPT, NF_DROP};
use super::observe::{Seen, SeenChain, SeenTable, USERDATA_COMMENT, decode_comment, observe};
use super::sets;
use super::{
    BATCH_BEGIN, BATCH_END, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, COUNTER_BYTES, COUNTER_PACKETS,
    Capabilities, DELCHAIN, DELOBJ, DELRULE, DELSET, DELSETELEM, DELTABLE, NETDEV_EGRESS, NEWCHAIN, NEWOBJ,
    NEWRULE, NEWSET, NEWSETELEM, OBJECT_COUNTER, OBJECT_DATA, OBJECT_NAME, OBJECT_TYPE, OWNER, PERSIST,
    RULE_CHAIN, RULE_EXPRESSIONS, RULE_USERDATA, SET_NAME, batch_mark, family_name, message, new_table, ours,
    put_hook, refused,
};
use crate::Error;
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::NFT_TABLE;
use narrowgate_model::nft::{Chain, ChainKind, Family, Hook, Policy, Rule, Ruleset, Table};
use narrowgate_sys::netlink::{
    Message, NESTED, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, Put, Requests, Socket, find, text,
};

/// Makes our tables those of `wanted`. Without egress hooks in this kernel, the table of family netdev is left out.
pub(crate) fn set(socket: &mut Socket, can: Capabilities, wanted: &Ruleset) -> Result<(), Error> {
    if can.persist {
        adopt(socket)?;
    }
    transaction(socket, "loading", &mut |seen, requests| {
        for table in &wanted.tables {
            if table.family != Family::Netdev || can.egress {
                set_table(requests, can, table, seen);
            }
        }
        let unwanted = |t: &&SeenTable| !wanted.tables.iter().any(|w| w.family == t.family);
        seen.tables.iter().filter(unwanted).for_each(|t| delete_table(requests, t.family));
    })
}

/// Takes orphans over as they are. A transaction of its own: in one that changes a table's flags, the kernel takes no new
/// base chains for it (EINVAL).
fn adopt(socket: &mut Socket) -> Result<(), Error> {
    transaction(socket, "adopting", &mut |seen, requests| {
        let orphans = seen.tables.iter().filter(|t| t.flags == PERSIST);
        orphans.for_each(|t| new_table(requests, NFT_TABLE, t.family, OWNER | PERSIST));
    })
}

/// Removes our tables.
pub(crate) fn remove(socket: &mut Socket) -> Result<(), Error> {
    transaction(socket, "removing", &mut |seen, requests| {
        seen.tables.iter().for_each(|t| delete_table(requests, t.family));
    })
}

/// Looks, builds and commits; again, if somebody changed the ruleset between the look and the commit.
pub(super) fn transaction(
    socket: &mut Socket,
    what: &str,
    build: &mut dyn FnMut(&Seen, &mut Requests),
) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        let seen = observe(socket)?;
        if let Some((table, owner)) = seen.foreign_owner(socket.port()) {
            return Err(Error::other(
                format_args!("{what} the nftables table {} {NFT_TABLE}", family_name(table)),
                Some(EPERM),
                format_args!(
                    "it belongs to another process (netlink port {owner}): is another narrowgate running?"
                ),
            ));
        }
        let mut requests = Requests::default();
        batch_mark(&mut requests, BATCH_BEGIN, Some(seen.generation).filter(|g| *g != 0));
        build(&seen, &mut requests);
        if requests.len() == 1 {
            return Ok(());
        }
        batch_mark(&mut requests, BATCH_END, None);
        match socket.transact(&mut requests) {
            Err(error) if error.errno == ERESTART && tries < MAX_TRIES => tries += 1,
            Ok(()) => return Ok(()),
            Err(error) => {
                let culprit = error.index.and_then(|i| culprit(requests.get(i)?));
                return Err(refused(what, &culprit.unwrap_or_default(), &error));
            }
        }
    }
}

/// What a message of the transaction is about, behind a comma: the table, and the chain, rule or counter.
#[inline(never)]
fn culprit(message: Message<'_>) -> Option<String> {
    let (family, attributes) = ours(message.body)?;
    let (what, name) = match message.kind & 0xff {
        NEWCHAIN | DELCHAIN => (" chain ", CHAIN_NAME),
        NEWRULE => (" chain ", RULE_CHAIN),
        NEWOBJ | DELOBJ => (" counter ", OBJECT_NAME),
        NEWSET | DELSET | NEWSETELEM | DELSETELEM => (" set ", SET_NAME),
        _ => ("", 0),
    };
    let name = text(find(attributes, name).unwrap_or_default());
    let mut words = format!(", table {}{what}{name}", family_name(family));
    if message.kind & 0xff == NEWRULE {
        let comment = find(attributes, RULE_USERDATA).and_then(decode_comment);
        words += &format!(" rule \"{}\"", comment.unwrap_or_default());
    }
    Some(words)
}

#[inline(never)]
fn set_table(requests: &mut Requests, can: Capabilities, wanted: &Table, all: &Seen) {
    let seen = all.tables.iter().find(|t| t.family == wanted.family);
    // Never owner alone: such a table dies with its process.
    let flags = if can.persist { OWNER | PERSIST } else { 0 };
    let keep = seen.filter(|t| t.flags == flags);
    if keep.is_none() {
        seen.iter().for_each(|old| delete_table(requests, old.family));
        new_table(requests, NFT_TABLE, wanted.family, flags);
    }
    if keep.is_some() {
        message(requests, DELRULE, NLM_F_ACK, wanted.family);
    }
    let old_chains = keep.map_or(&[][..], |t| &t.chains);
    for old in old_chains {
        if !wanted.chains.iter().any(|c| fits(wanted.family, c, old)) {
            message(requests, DELCHAIN, 0, wanted.family).put_text(CHAIN_NAME, &old.name);
        }
    }
    set_counters(requests, wanted, seen, keep.is_some());
    sets::set(requests, wanted, all, keep.is_some());
    for chain in &wanted.chains {
        match old_chains.iter().find(|old| fits(wanted.family, chain, old)) {
            Some(old) if old.policy == policy(chain) => {}
            Some(_) => {
                set_policy(requests, wanted.family, chain);
            }
            None => new_chain(requests, wanted.family, chain),
        }
        for rule in &chain.rules {
            new_rule(requests, wanted.family, chain.name, rule);
        }
    }
}

/// Counters that are there stay; a table that is made anew gets the numbers of the old one.
#[inline(never)]
fn set_counters(requests: &mut Requests, wanted: &Table, seen: Option<&SeenTable>, kept: bool) {
    let old = seen.map_or(&[][..], |t| &t.counters);
    for name in &wanted.counters {
        let before = old.iter().find(|c| c.name == *name);
        if kept && before.is_some() {
            continue;
        }
        let body = message(requests, NEWOBJ, NLM_F_CREATE, wanted.family);
        body.put_text(OBJECT_NAME, name);
        body.put_number(OBJECT_TYPE, OBJECT_COUNTER.to_be());
        let data = body.open(OBJECT_DATA | NESTED);
        let (packets, bytes) = before.map_or((0, 0), |c| (c.packets, c.bytes));
        body.put(COUNTER_PACKETS, &packets.to_be_bytes());
        body.put(COUNTER_BYTES, &bytes.to_be_bytes());
        body.close(data);
    }
    for counter in old.iter().filter(|c| kept && !wanted.counters.contains(&c.name.as_str())) {
        let body = message(requests, DELOBJ, 0, wanted.family);
        body.put_text(OBJECT_NAME, &counter.name);
        body.put_number(OBJECT_TYPE, OBJECT_COUNTER.to_be());
    }
}

/// Whether a chain that is there can stay and only needs other rules, and perhaps another policy.
fn fits(family: Family, wanted: &Chain, seen: &SeenChain) -> bool {
    seen.name == wanted.name
        && chain_type(wanted.kind).bytes().next() == Some(seen.kind)
        && seen.hook == hook(family, wanted.hook)
        && seen.priority == wanted.priority
        && wanted.devices.iter().all(|device| seen.devices.contains(device))
        && seen.devices.iter().all(|device| wanted.devices.contains(device))
}

fn new_chain(requests: &mut Requests, family: Family, chain: &Chain) {
    let body = set_policy(requests, family, chain);
    body.put_text(CHAIN_TYPE, chain_type(chain.kind));
    put_hook(body, family, hook(family, chain.hook), chain.priority, &chain.devices);
}

fn set_policy<'a>(requests: &'a mut Requests, family: Family, chain: &Chain) -> &'a mut Vec<u8> {
    let body = message(requests, NEWCHAIN, NLM_F_CREATE, family);
    body.put_text(CHAIN_NAME, chain.name);
    body.put_number(CHAIN_POLICY, policy(chain).to_be());
    body
}

fn new_rule(requests: &mut Requests, family: Family, chain: &str, rule: &Rule) {
    let body = message(requests, NEWRULE, NLM_F_CREATE | NLM_F_APPEND, family);
    body.put_text(RULE_CHAIN, chain);
    put_comment(body, &rule.comment());
    let list = body.open(RULE_EXPRESSIONS | NESTED);
    expression::encode(body, family, rule);
    body.close(list);
}

fn delete_table(requests: &mut Requests, family: Family) {
    message(requests, DELTABLE, NLM_F_ACK, family);
}

impl Seen {
    /// A table of ours that a living socket other than `port` owns, and that socket's port.
    fn foreign_owner(&self, port: u32) -> Option<(Family, u32)> {
        self.tables.iter().find_map(|t| t.owner.filter(|o| *o != port).map(|o| (t.family, o)))
    }
}

fn put_comment(body: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    let text = text.get(..MAX_COMMENT).unwrap_or(text);
    let data = body.open(RULE_USERDATA);
    body.extend_from_slice(&[USERDATA_COMMENT, text.len() as u8 + 1]);
    body.extend_from_slice(text);
    body.push(0);
    body.close(data);
}

fn chain_type(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    }
}

fn policy(chain: &Chain) -> u32 {
    match chain.policy {
        Policy::Accept => NF_ACCEPT,
        Policy::Drop => NF_DROP,
    }
}

/// The hooks have other numbers in each family. A hook that a family has not gets one that the kernel refuses.
fn hook(family: Family, hook: Hook) -> u32 {
    match (family, hook) {
        (Family::Inet, Hook::Prerouting) => 0,
        (Family::Inet, Hook::Input) => 1,
        (Family::Inet, Hook::Forward) => 2,
        (Family::Inet, Hook::Output) => 3,
        (Family::Inet, Hook::Postrouting) => 4,
        (Family::Arp, Hook::Input) => 0,
        (Family::Arp, Hook::Output) => 1,
        (Family::Netdev, Hook::Ingress) => 0,
        (Family::Netdev, Hook::Egress) => NETDEV_EGRESS,
        _ => NO_HOOK,
    }
}

const NO_HOOK: u32 = 0xff;
const MAX_COMMENT: usize = 200;
const MAX_TRIES: u32 = 20;
const EPERM: i32 = 1;
const ERESTART: i32 = 85;
