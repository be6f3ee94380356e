//! Our tables in nftables, over a netlink socket of our own.
//!
//! **Ownership.** The tables are made with the flags `owner` (Linux 5.12) and `persist` (6.9). While our socket is open,
//! nobody else can change or flush them. When it is closed, by us or by our death, the kernel takes `owner` away and leaves the
//! tables and their hooks standing: an orphan. A later process adopts an orphan by sending `NEWTABLE` with both flags
//! (measured on 6.18: the flags are `owner,persist` again, chains and rules are as they were, the counters go on counting). `owner` without `persist` would take the tables down with
//! the process, so a kernel that has not both gets a table with neither flag. The kernel adds neither flag to a table that
//! was made without: such a one, of an older run or kernel, is deleted and made again in the same transaction.
//!
//! **Replacing.** Whatever changes, changes in one transaction: packets meet the old rules or the new ones. Chains that stay
//! the same keep their hooks and get new rules; counters are named objects of their own and go on counting; sets keep their elements.

mod apply;
mod expression;
mod observe;
mod sets;
#[cfg(test)]
mod tests;

pub use sets::SetSize;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use apply::transaction;
pub(crate) use apply::{remove, set};
pub(crate) use observe::observe;
pub(crate) use sets::{add as add_elements, sizes as set_sizes};

use crate::Error;
use narrowgate_model::NFT_TABLE;
use narrowgate_model::nft::Family;
use narrowgate_sys::netlink::{self, NESTED, NLM_F_ACK, NLM_F_CREATE, Put, Requests, Socket, find};

/// What this kernel's nftables can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Tables can belong to a socket (Linux 5.12).
    pub owner: bool,
    /// Tables can belong to a socket and outlive it (6.9).
    pub persist: bool,
    /// There are egress hooks on devices (5.16, where built in).
    pub egress: bool,
    /// An egress chain can name a device that is not there: it is guarded from the moment that it comes (6.16). Without, naming one
    /// makes the whole [`SetGuard`](narrowgate_model::state::Step::SetGuard) fail, and a device that goes takes its hook away.
    pub absent_devices: bool,
}

/// A named counter of one of our tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// Family of its table.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Tries things out in a transaction that is never committed, so that nothing is seen of it. An error if the kernel was too
/// short of something to tell.
#[inline(never)]
pub(crate) fn probe(socket: &mut Socket) -> Result<Capabilities, Error> {
    let mut requests = Requests::default();
    batch_mark(&mut requests, BATCH_BEGIN, None);
    new_table(&mut requests, "narrowgate-probe-1", Family::Inet, OWNER);
    new_table(&mut requests, "narrowgate-probe-2", Family::Inet, OWNER | PERSIST);
    new_table(&mut requests, "narrowgate-probe", Family::Netdev, 0);
    for (chain, device) in [("egress", "lo"), ("absent", "narrowgate-none")] {
        let body = requests.add(kind(NEWCHAIN), NLM_F_ACK | NLM_F_CREATE);
        begin(body, Family::Netdev, "narrowgate-probe");
        body.put_text(CHAIN_NAME, chain);
        body.put_text(CHAIN_TYPE, "filter");
        put_hook(body, Family::Netdev, NETDEV_EGRESS, 0, &[device.to_owned()]);
    }
    // No end of the batch: the kernel does it all, tells of every error, and takes it back.
    socket
        .try_all(&mut requests)
        .and_then(judge)
        .map_err(|e| Error::refused(format_args!("trying out nftables"), &e))
}

/// What the refusals of [`probe`]'s messages mean. Who is short of memory, or not root, has not been told what there is: a guard made
/// without the egress chain, because of that, would let packet sockets through for as long as we run.
#[inline(never)]
fn judge(refusals: Vec<netlink::Error>) -> Result<Capabilities, netlink::Error> {
    let mut refused = 0u32;
    for index in refusals.iter().filter_map(|e| e.index) {
        refused |= 1u32.checked_shl(index as u32).unwrap_or(0);
    }
    let works = |index: u32| refused & (1 | 1 << index) == 0;
    let egress = works(3) && works(4);
    let can = Capabilities { owner: works(1), persist: works(2), egress, absent_devices: egress && works(5) };
    let short = |e: &netlink::Error| matches!(e.errno, EPERM | EINTR | EAGAIN | ENOMEM | ENOBUFS);
    refusals.into_iter().find(short).map_or(Ok(can), Err)
}

fn new_table(requests: &mut Requests, name: &str, family: Family, flags: u32) {
    let body = requests.add(kind(NEWTABLE), NLM_F_ACK | NLM_F_CREATE);
    begin(body, family, name);
    body.put_number(TABLE_FLAGS, flags.to_be());
}

/// What a chain is hooked to.
fn put_hook(body: &mut Vec<u8>, family: Family, number: u32, priority: i32, devices: &[String]) {
    let hook = body.open(CHAIN_HOOK | NESTED);
    body.put_number(HOOK_NUMBER, number.to_be());
    body.put(HOOK_PRIORITY, &priority.to_be_bytes());
    // Kernels before 5.5 know one device only; none of them has an egress hook.
    if family == Family::Netdev {
        let list = body.open(HOOK_DEVICES | NESTED);
        devices.iter().for_each(|device| body.put_text(DEVICE_NAME, device));
        body.close(list);
    }
    body.close(hook);
}

/// The first or the last message of a transaction; with a generation, it fails (ERESTART) if that has passed.
fn batch_mark(requests: &mut Requests, which: u16, generation: Option<u32>) {
    let body = requests.add(which, 0);
    let [s0, s1] = SUBSYSTEM.to_be_bytes();
    body.extend_from_slice(&[0, 0, s0, s1]);
    if let Some(generation) = generation {
        body.put_number(BATCH_GENERATION, generation.to_be());
    }
}

fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// A message about our table of a family, or something in it: what follows comes behind the table's name.
fn message(requests: &mut Requests, what: u16, flags: u16, family: Family) -> &mut Vec<u8> {
    let body = requests.add(kind(what), flags);
    begin(body, family, NFT_TABLE);
    body
}

/// `struct nfgenmsg`, and the table's name, which is the first attribute of all messages.
fn begin(body: &mut Vec<u8>, family: Family, table: &str) {
    body.extend_from_slice(&[number(family), 0, 0, 0]);
    body.put_text(TABLE_NAME, table);
}

/// The attributes of a message about a table of ours, and its family.
fn ours(body: &[u8]) -> Option<(Family, &[u8])> {
    let ([number, ..], attributes) = body.split_first_chunk::<HEADER_LEN>()?;
    let family = family(*number)?;
    let ours = find(attributes, TABLE_NAME)?.strip_suffix(b"\0") == Some(NFT_TABLE.as_bytes());
    ours.then_some((family, attributes))
}

/// Asks for things of one kind, and hands on the attributes of those that are of our tables, of the question's family if it has one.
fn each(
    socket: &mut Socket,
    what: u16,
    question: &[u8],
    take: &mut dyn FnMut(Family, &[u8]),
) -> Result<(), netlink::Error> {
    let wanted = question.first().and_then(|number| family(*number));
    for message in socket.dump(kind(what), question)?.messages() {
        if let Some((family, attributes)) = ours(message.body)
            && wanted.is_none_or(|wanted| wanted == family)
        {
            take(family, attributes);
        }
    }
    Ok(())
}

/// The value of an attribute as a number.
fn be32(attributes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(*find(attributes, kind)?.first_chunk()?))
}

fn be64(attributes: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(*find(attributes, kind)?.first_chunk()?))
}

fn number(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Arp => 3,
        Family::Netdev => 5,
    }
}

fn family(number: u8) -> Option<Family> {
    [Family::Inet, Family::Arp, Family::Netdev].into_iter().find(|f| self::number(*f) == number)
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Inet => "inet",
        Family::Arp => "arp",
        Family::Netdev => "netdev",
    }
}

/// Whether a message of the nftables multicast group is about a table of ours.
pub(crate) fn is_ours(message: &netlink::Message<'_>) -> bool {
    ours(message.body).is_some()
}

fn refused(what: &str, culprit: &str, error: &netlink::Error) -> Error {
    Error::refused(format_args!("{what} the nftables tables {NFT_TABLE}{culprit}"), error)
}

const SUBSYSTEM: u16 = 10;
const HEADER_LEN: usize = 4;
/// `NFNL_BATCH_GENID`; `NFTA_TABLE_NAME`, which is `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE` and so on too; others (linux/netfilter/nf_tables.h).
const BATCH_GENERATION: u16 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const HOOK_DEVICES: u16 = 4;
const DEVICE_NAME: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;
/// `NFTA_SET_NAME`, and `NFTA_SET_ELEM_LIST_SET`.
const SET_NAME: u16 = 2;
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const GETSET: u16 = 10;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;
const GETGEN: u16 = 16;
const NEWOBJ: u16 = 18;
const GETOBJ: u16 = 19;
const DELOBJ: u16 = 20;
const OBJECT_COUNTER: u32 = 1;
const OWNER: u32 = 2;
const PERSIST: u32 = 4;
const NETDEV_EGRESS: u32 = 1;
const EPERM: i32 = 1;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ENOBUFS: i32 = 105;
