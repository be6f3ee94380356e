//! Our part of nftables as data: what policy wants and `kernel` loads over its own netlink socket.
//!
//! Only the matches that the guard needs. Every rule has a comment that begins with its label and ends with a hash of what
//! it does, so that what the kernel has can be compared with what we want by names alone ([`Ruleset::fingerprint`]).

use crate::sort::sort;
use crate::{Gather, Prefix};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, SocketAddr};

/// All our tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    /// At most one in each family; all are named [`crate::NFT_TABLE`].
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Named counter objects, which outlive a change of the rules.
    pub counters: Vec<&'static str>,
    /// Named sets of addresses, whose elements outlive a change of the rules.
    pub sets: Vec<Set>,
    /// Its base chains.
    pub chains: Vec<Chain>,
}

/// An nftables family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// ARP.
    Arp,
    /// One device's frames.
    Netdev,
}

/// A set of addresses of one IP version, which rules look destinations up in (`flags dynamic,timeout`). Beside the elements that
/// it always has it gets others later, for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name; no chain of the table has the same.
    pub name: &'static str,
    /// Of its elements.
    pub version: IpVersion,
    /// What is in it always, each once. Others may come and go.
    pub elements: Vec<IpAddr>,
}

impl Set {
    /// The IPv4 addresses that marked packets may go to under `option strict`.
    pub const PEERS4: &'static str = "peers4";
    /// The IPv6 addresses.
    pub const PEERS6: &'static str = "peers6";
    /// Elements at most: a name has a handful of addresses, and what asks for more shall not fill the memory.
    pub const SIZE: u32 = 4096;
    /// How long, in seconds, an element stays that no packet has gone to: a week, which is the longest lifetime that a resolver has to honour (RFC 8767, 4), since
    /// a WireGuard asks but once and may be silent for days.
    pub const TIMEOUT: u32 = 604_800;

    /// The set of the peers that an address belongs in.
    pub fn peers(addr: &IpAddr) -> &'static str {
        if addr.is_ipv6() { Set::PEERS6 } else { Set::PEERS4 }
    }
}

/// A base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub kind: ChainKind,
    /// Where it is hooked.
    pub hook: Hook,
    /// Its place among the chains of that hook; lower is earlier.
    pub priority: i32,
    /// Verdict for what no rule decides.
    pub policy: Policy,
    /// `netdev` only: the devices. Only devices that exist.
    pub devices: Vec<String>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Chain types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// `type filter`.
    Filter,
    /// `type nat`.
    Nat,
}

/// Hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Ingress,
    Egress,
}

/// Chain policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Policy {
    Accept,
    Drop,
}

/// One rule: all matches, then the counter, then the action.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What it is for, in a word or three; not part of what it does.
    pub label: &'static str,
    /// All of them must match. In the order given.
    pub matches: Vec<Match>,
    /// A named counter of its table.
    pub counter: Option<&'static str>,
    /// The end.
    pub action: Action,
}

/// What a packet must be like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Match {
    /// `oifname NAME`.
    Oif(String),
    /// `iifname NAME`.
    Iif(String),
    /// `oif INDEX`: the device of that number, whatever it is called.
    OifIndex(u32),
    /// `iif INDEX`.
    IifIndex(u32),
    /// `meta mark & mask == value` (or `!=` where `eq` is false).
    Mark {
        /// Compared with.
        value: u32,
        /// Bits that count.
        mask: u32,
        /// `==`, or else `!=`.
        eq: bool,
    },
    /// `meta nfproto ipv4`/`ipv6` (family inet).
    NfProto(IpVersion),
    /// `meta protocol`: the EtherType (family netdev).
    EtherType(u16),
    /// `meta l4proto`.
    L4Proto(u8),
    /// `meta skuid >= 0`: it comes from a socket of a process on this host, packet sockets among them.
    Socket,
    /// `meta skgid`: group that the socket was made with.
    SkGid(u32),
    /// Transport source port, after [`Match::L4Proto`].
    SrcPort(u16),
    /// Transport destination port, after [`Match::L4Proto`].
    DstPort(u16),
    /// First byte of the transport header: the type of ICMP (after `L4Proto(1)`), ICMPv6 (58) or IGMP (2).
    IcmpType(u8),
    /// `ip`/`ip6 saddr` in a prefix; implies the IP version in family inet, else put [`Match::EtherType`] before it.
    SrcAddr(Prefix),
    /// `ip`/`ip6 daddr` in a prefix.
    DstAddr(Prefix),
    /// `ip`/`ip6 daddr` is an element of the [`Set`] of that name and version; implies the IP version as [`Match::DstAddr`] does.
    DstInSet(&'static str, IpVersion),
    /// Target address of a Neighbor Solicitation (RFC 4861, 4.3), after its ICMPv6 type.
    NdTarget(Prefix),
    /// `ct direction`.
    CtDirection(CtDirection),
    /// `ct state` has one of these bits ([`CT_ESTABLISHED`] and the others).
    CtState(u32),
    /// `arp operation` (1 request, 2 reply).
    ArpOp(u16),
    /// `arp saddr ip` in a prefix.
    ArpSender(Prefix),
    /// `arp daddr ip` in a prefix.
    ArpTarget(Prefix),
}

/// `ct state` bits as nftables numbers them.
pub const CT_INVALID: u32 = 1;
/// See [`CT_INVALID`].
pub const CT_ESTABLISHED: u32 = 2;
/// See [`CT_INVALID`].
pub const CT_RELATED: u32 = 4;
/// See [`CT_INVALID`].
pub const CT_NEW: u32 = 8;
/// See [`CT_INVALID`].
pub const CT_UNTRACKED: u32 = 64;

/// IP versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum IpVersion {
    V4,
    V6,
}

/// Which way a packet goes, seen from the one that opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CtDirection {
    Original,
    Reply,
}

/// What becomes of a packet that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing: go on with the next rule.
    Continue,
    /// Let it pass this chain.
    Accept,
    /// Let it pass this chain, and give the element for its destination in this set its `seconds` anew (`update @SET { ip daddr timeout … }`).
    /// Only behind [`Match::DstInSet`] of the same.
    AcceptAndRefresh {
        /// The set.
        set: &'static str,
        /// Its version.
        version: IpVersion,
        /// How long the element stays from now.
        seconds: u32,
    },
    /// Drop it.
    Drop,
    /// `meta mark set meta mark & ~mask | value`, and go on.
    SetMark {
        /// Bits to set.
        value: u32,
        /// Bits that are ours.
        mask: u32,
    },
    /// `dnat ip to ADDR:PORT` / `dnat ip6 to`; only behind a match on the IP version.
    Dnat(SocketAddr),
}

/// What of a chain can be seen in the kernel, enough to know whether it is the one we want. A set is shown as a chain of its name, whose
/// comments are the elements that it has without a timeout, in text and sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainPrint {
    /// Family of its table.
    pub family: Family,
    /// Name.
    pub name: String,
    /// `netdev` only: the devices that it is hooked to, sorted.
    pub devices: Vec<String>,
    /// Comment of every rule, in order.
    pub comments: Vec<String>,
}

impl Rule {
    /// The comment that the rule carries in the kernel: its label and a hash of what it does.
    pub fn comment(&self) -> String {
        let mut hash = Fnv(0x811c_9dc5);
        self.matches.hash(&mut hash);
        self.counter.hash(&mut hash);
        self.action.hash(&mut hash);
        format!("{} {:08x}", self.label, hash.0)
    }
}

impl Ruleset {
    /// What a kernel that has exactly this ruleset shows, sorted.
    pub fn fingerprint(&self) -> Vec<ChainPrint> {
        let mut prints = Vec::new();
        for table in &self.tables {
            table.chains.iter().for_each(|chain| prints.push(chain.print(table.family)));
            table.sets.iter().for_each(|set| prints.push(set.print(table.family)));
        }
        sort(&mut prints);
        prints
    }
}

impl Set {
    fn print(&self, family: Family) -> ChainPrint {
        let mut comments: Vec<String> = self.elements.iter().map(|addr| format!("{addr}")).gather();
        sort(&mut comments);
        ChainPrint { family, name: self.name.to_owned(), devices: Vec::new(), comments }
    }
}

impl Chain {
    /// Of the `netdev` chain whose first rule may set a bit of the mark, which tells whoever stands behind nftables that the
    /// frame came by the guard. The bit is taken off again there.
    pub const SEEN: &'static str = "egress";

    fn print(&self, family: Family) -> ChainPrint {
        let mut devices = self.devices.clone();
        sort(&mut devices);
        ChainPrint {
            family,
            name: self.name.to_owned(),
            devices,
            comments: self.rules.iter().map(Rule::comment).gather(),
        }
    }
}

/// 32 bit FNV-1a: the comment has to be the same on every machine and in every version of the standard library.
struct Fnv(u32);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
    fn finish(&self) -> u64 {
        u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_changes_with_what_the_rule_does_and_not_with_its_label() {
        let rule = |label, action| Rule { label, matches: vec![Match::L4Proto(17)], counter: None, action };
        let hash = |r: Rule| r.comment().rsplit_once(' ').unwrap().1.to_owned();
        assert_eq!(hash(rule("a", Action::Drop)), hash(rule("b", Action::Drop)));
        assert_ne!(hash(rule("a", Action::Drop)), hash(rule("a", Action::Accept)));
    }
}
