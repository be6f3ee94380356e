//! Links, addresses, routes, rules: rtnetlink's objects, as far as narrowgate sets or reads them.

use crate::{Mark, Prefix, Time};
use alloc::string::String;
use core::net::{IpAddr, Ipv4Addr};

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address, if it has one of 6 bytes.
    pub mac: Option<[u8; 6]>,
    /// `IFF_UP`: switched on by the administrator.
    pub up: bool,
    /// `IFF_LOWER_UP`: something is at the other end.
    pub carrier: bool,
    /// `IFLA_CARRIER_DOWN_COUNT`: how often the carrier was lost, which tells of a loss that was over before anybody looked.
    pub carrier_losses: u32,
    /// Bytes.
    pub mtu: u32,
    /// Index of the bridge that it is a port of.
    pub bridge: Option<u32>,
}

/// An address on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Device index.
    pub link: u32,
    /// The address with its prefix length.
    pub prefix: Prefix,
    /// IPv4 broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// `None`: for ever.
    pub preferred_until: Option<Time>,
    /// `None`: for ever.
    pub valid_until: Option<Time>,
    /// `IFA_F_NOPREFIXROUTE`: the kernel makes no prefix route in the main table.
    pub no_prefix_route: bool,
    /// `IFA_PROTO` (Linux 5.18): [`crate::PROTOCOL`] if it is ours.
    pub protocol: u8,
    /// Observed only: duplicate address detection failed.
    pub dad_failed: bool,
    /// Observed only: duplicate address detection is still under way and the address is not optimistic.
    pub tentative: bool,
}

/// A route. IPv4 routes are told apart by table, destination and metric; IPv6 ones also by gateway and device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Table.
    pub table: u32,
    /// Where to; host bits clear.
    pub dst: Prefix,
    /// What happens to the packet.
    pub kind: RouteKind,
    /// By which router.
    pub via: Option<IpAddr>,
    /// By which device.
    pub link: Option<u32>,
    /// `RTA_PRIORITY`.
    pub metric: u32,
    /// `RTNH_F_ONLINK`: the router counts as on-link though no prefix says so.
    pub onlink: bool,
    /// `RTA_PREFSRC`.
    pub source: Option<IpAddr>,
    /// `rtm_protocol`: [`crate::PROTOCOL`] if it is ours.
    pub protocol: u8,
}

/// What a route does with a packet (`RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Send it on.
    Unicast,
    /// ENETUNREACH/EHOSTUNREACH to the sender.
    Unreachable,
    /// Any other type, as its number.
    Other(u8),
}

/// A rule of the routing policy database (`ip rule`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Whether it is IPv6's.
    pub ipv6: bool,
    /// Its place; lower is earlier.
    pub priority: u32,
    /// Which packets.
    pub selector: Selector,
    /// What to do.
    pub action: RuleAction,
    /// `suppress_prefixlength`: routes this short do not count.
    pub suppress_prefix_len: Option<u32>,
    /// `FRA_PROTOCOL`: [`crate::PROTOCOL`] if it is ours.
    pub protocol: u8,
}

/// Which packets a rule is for. All that is `Some` has to match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Selector {
    /// `not`: the rule is for packets that do *not* match.
    pub invert: bool,
    /// `from`.
    pub src: Option<Prefix>,
    /// `to`.
    pub dst: Option<Prefix>,
    /// `iif`; `lo` means packets of this host.
    pub iif: Option<String>,
    /// `oif`; matches sockets bound to that device.
    pub oif: Option<String>,
    /// `fwmark VALUE/MASK`; here, other than in [`Mark`], the value may be 0.
    pub mark: Option<FwMark>,
    /// `ipproto`.
    pub ip_proto: Option<u8>,
    /// `sport`, first and last.
    pub sport: Option<(u16, u16)>,
    /// `dport`, first and last.
    pub dport: Option<(u16, u16)>,
    /// `uidrange`, first and last.
    pub uid: Option<(u32, u32)>,
    /// `tos` / `dscp`, the raw byte.
    pub tos: Option<u8>,
    /// `tun_id`.
    pub tun_id: Option<u64>,
    /// `l3mdev`.
    pub l3mdev: bool,
    /// Attributes that we do not know are there: the rule cannot be judged.
    pub unknown: bool,
}

/// A mark in a rule: value and mask, any value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FwMark {
    /// `FRA_FWMARK`.
    pub value: u32,
    /// `FRA_FWMASK`.
    pub mask: u32,
}

impl From<Mark> for FwMark {
    fn from(m: Mark) -> FwMark {
        FwMark { value: m.value, mask: m.mask }
    }
}

/// What a rule does (`FR_ACT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAction {
    /// Look the destination up in this table; go on with the next rule if it is not there.
    Lookup(u32),
    /// Go on with the first rule at this priority.
    Goto(u32),
    /// Go on with the next rule.
    Nop,
    /// Refuse: ENETUNREACH.
    Unreachable,
    /// Refuse: EACCES.
    Prohibit,
    /// Drop silently.
    Blackhole,
    /// Any other, as its number.
    Other(u8),
}
