//! Making our tables exactly what is wanted, in one transaction.

use super::expression::{self, NF_ACCEPT, NF_DROP};
use super::observe::{Seen, SeenChain, SeenTable, USERDATA_COMMENT, decode_comment, observe};
use super::sets;
use super::{
    BATCH_BEGIN, BATCH_END, Capabilities, DELCHAIN, DELOBJ, DELRULE, DELSET, DELSETELEM, DELTABLE,
    NETDEV_EGRESS, NEWCHAIN, NEWOBJ, NEWRULE, NEWSET, NEWSETELEM, OBJECT_COUNTER, OWNER, PERSIST, batch_mark,
    family_name, header, kind, new_table,
};
use crate::Error;
use narrowgate_model::NFT_TABLE;
use narrowgate_model::nft::{Chain, ChainKind, Family, Hook, Policy, Rule, Ruleset, Table};
use narrowgate_sys::netlink::{Message, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, Requests, Socket};
use netlink_bindings::nftables::{
    Nfgenmsg, OpDelchainDo, OpDelobjDo, OpDelruleDo, OpDeltableDo, OpNewchainDo, OpNewobjDo, OpNewruleDo,
};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::find_attr;

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
            let thing = format!("{what} the nftables table {} {NFT_TABLE}", family_name(table));
            let cause = format!(
                "it belongs to another process (netlink port {owner}): is another narrowgate running?"
            );
            return Err(Error::other(thing, Some(EPERM), cause));
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
                let culprit = culprit.map_or(String::new(), |name| format!(", {name}"));
                return Err(Error::refused(
                    format!("{what} the nftables tables {NFT_TABLE}{culprit}"),
                    &error,
                ));
            }
        }
    }
}

/// What a message of the transaction is about: the table, and the chain, rule or counter.
fn culprit(message: Message<'_>) -> Option<String> {
    let (header, attributes) = message.body.split_at_checked(Nfgenmsg::len())?;
    let family = family_name(super::family(*header.first()?)?);
    let text = |kind| {
        let value = find_attr(attributes, kind).unwrap_or_default();
        String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned()
    };
    let rest = match message.kind & 0xff {
        NEWCHAIN | DELCHAIN => format!(" chain {}", text(CHAIN_NAME)),
        NEWRULE => {
            let comment = find_attr(attributes, RULE_USERDATA).and_then(decode_comment).unwrap_or_default();
            format!(" chain {} rule {comment:?}", text(RULE_CHAIN))
        }
        NEWOBJ | DELOBJ => format!(" counter {}", text(OBJECT_NAME)),
        NEWSET | DELSET | NEWSETELEM | DELSETELEM => format!(" set {}", text(SET_NAME)),
        _ => String::new(),
    };
    Some(format!("table {family}{rest}"))
}

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
        delete_all_rules(requests, wanted.family);
    }
    let old_chains = keep.map_or(&[][..], |t| &t.chains);
    for old in old_chains {
        if !wanted.chains.iter().any(|c| fits(wanted.family, c, old)) {
            delete_chain(requests, wanted.family, &old.name);
        }
    }
    set_counters(requests, wanted, seen, keep.is_some());
    sets::set(requests, wanted, all, keep.is_some());
    for chain in &wanted.chains {
        match old_chains.iter().find(|old| fits(wanted.family, chain, old)) {
            Some(old) if old.policy == policy(chain) => {}
            Some(_) => set_policy(requests, wanted.family, chain),
            None => new_chain(requests, wanted.family, chain),
        }
        for rule in &chain.rules {
            new_rule(requests, wanted.family, chain.name, rule);
        }
    }
}

/// Counters that are there stay; a table that is made anew gets the numbers of the old one.
fn set_counters(requests: &mut Requests, wanted: &Table, seen: Option<&SeenTable>, kept: bool) {
    let old = seen.map_or(&[][..], |t| &t.counters);
    for name in &wanted.counters {
        let before = old.iter().find(|c| c.name == *name);
        if kept && before.is_some() {
            continue;
        }
        requests.push(kind(NEWOBJ), NLM_F_CREATE, |body| {
            OpNewobjDo::encode_request(body, &header(wanted.family))
                .push_table_bytes(NFT_TABLE.as_bytes())
                .push_name_bytes(name.as_bytes())
                .push_type(OBJECT_COUNTER)
                .nested_data_counter()
                .push_packets(before.map_or(0, |c| c.packets))
                .push_bytes(before.map_or(0, |c| c.bytes));
        });
    }
    for counter in old.iter().filter(|c| kept && !wanted.counters.contains(&c.name.as_str())) {
        requests.push(kind(DELOBJ), 0, |body| {
            OpDelobjDo::encode_request(body, &header(wanted.family))
                .push_table_bytes(NFT_TABLE.as_bytes())
                .push_name_bytes(counter.name.as_bytes())
                .push_type(OBJECT_COUNTER);
        });
    }
}

/// Whether a chain that is there can stay and only needs other rules, and perhaps another policy.
fn fits(family: Family, wanted: &Chain, seen: &SeenChain) -> bool {
    let mut devices = wanted.devices.clone();
    narrowgate_model::sort::sort(&mut devices);
    devices.dedup();
    seen.name == wanted.name
        && seen.kind.as_bytes() == chain_type(wanted.kind).to_bytes()
        && seen.hook == hook(family, wanted.hook)
        && seen.priority == wanted.priority
        && seen.devices == devices
}

fn new_chain(requests: &mut Requests, family: Family, chain: &Chain) {
    requests.push(kind(NEWCHAIN), NLM_F_CREATE, |body| {
        let mut hook = OpNewchainDo::encode_request(body, &header(family))
            .push_table_bytes(NFT_TABLE.as_bytes())
            .push_name_bytes(chain.name.as_bytes())
            .push_type(chain_type(chain.kind))
            .push_policy(policy(chain))
            .nested_hook()
            .push_num(hook(family, chain.hook))
            .push_priority(chain.priority);
        // Kernels before 5.5 know one device only; none of them has an egress hook.
        if family == Family::Netdev {
            let mut names = hook.nested_devs();
            for device in &chain.devices {
                names = names.push_name_bytes(device.as_bytes());
            }
            hook = names.end_nested();
        }
        drop(hook);
    });
}

fn set_policy(requests: &mut Requests, family: Family, chain: &Chain) {
    requests.push(kind(NEWCHAIN), NLM_F_CREATE, |body| {
        OpNewchainDo::encode_request(body, &header(family))
            .push_table_bytes(NFT_TABLE.as_bytes())
            .push_name_bytes(chain.name.as_bytes())
            .push_policy(policy(chain));
    });
}

fn new_rule(requests: &mut Requests, family: Family, chain: &str, rule: &Rule) {
    requests.push(kind(NEWRULE), NLM_F_CREATE | NLM_F_APPEND, |body| {
        let mut list = OpNewruleDo::encode_request(body, &header(family))
            .push_table_bytes(NFT_TABLE.as_bytes())
            .push_chain_bytes(chain.as_bytes())
            .push_userdata(&encode_comment(&rule.comment()))
            .nested_expressions();
        list.as_vec_mut().extend_from_slice(&expression::encode(family, rule));
    });
}

fn delete_all_rules(requests: &mut Requests, family: Family) {
    requests.push(kind(DELRULE), NLM_F_ACK, |body| {
        OpDelruleDo::encode_request(body, &header(family)).push_table_bytes(NFT_TABLE.as_bytes());
    });
}

fn delete_chain(requests: &mut Requests, family: Family, name: &str) {
    requests.push(kind(DELCHAIN), 0, |body| {
        OpDelchainDo::encode_request(body, &header(family))
            .push_table_bytes(NFT_TABLE.as_bytes())
            .push_name_bytes(name.as_bytes());
    });
}

fn delete_table(requests: &mut Requests, family: Family) {
    requests.push(kind(DELTABLE), NLM_F_ACK, |body| {
        OpDeltableDo::encode_request(body, &header(family)).push_name_bytes(NFT_TABLE.as_bytes());
    });
}

impl Seen {
    /// A table of ours that a living socket other than `port` owns, and that socket's port.
    fn foreign_owner(&self, port: u32) -> Option<(Family, u32)> {
        self.tables.iter().find_map(|t| t.owner.filter(|o| *o != port).map(|o| (t.family, o)))
    }
}

fn encode_comment(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let text = text.get(..MAX_COMMENT).unwrap_or(text);
    let mut data = vec![USERDATA_COMMENT, text.len() as u8 + 1];
    data.extend_from_slice(text);
    data.push(0);
    data
}

fn chain_type(kind: ChainKind) -> &'static std::ffi::CStr {
    match kind {
        ChainKind::Filter => c"filter",
        ChainKind::Nat => c"nat",
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

/// `NFTA_CHAIN_NAME`, `NFTA_RULE_CHAIN`, `NFTA_RULE_USERDATA`, `NFTA_OBJ_NAME`; `NFTA_SET_NAME` and `NFTA_SET_ELEM_LIST_SET`.
const CHAIN_NAME: u16 = 3;
const RULE_CHAIN: u16 = 2;
const RULE_USERDATA: u16 = 7;
const OBJECT_NAME: u16 = 2;
const SET_NAME: u16 = 2;
const NO_HOOK: u32 = 0xff;
const MAX_COMMENT: usize = 200;
const MAX_TRIES: u32 = 20;
const EPERM: i32 = 1;
const ERESTART: i32 = 85;
