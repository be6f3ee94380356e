//! Router Advertisements and Solicitations: RFC 4861 (4.1, 4.2, 4.6), with the options of RFC 4191 (preference, route
//! information), RFC 8106 (RDNSS, DNSSL), RFC 8781 (PREF64) and RFC 8910 (captive portal).
//!
//! Written by hand: of the crates that parse ICMPv6 none knows all of these options, and what is needed is small.
//! [`packet`] has the IPv6 header around it, for packet sockets.
//!
//! Lifetimes are seconds as on the wire; `u32::MAX` is infinity.

mod options;
pub mod packet;

pub(crate) use options::{domains, portal};

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use narrowgate_model::Prefix;
use narrowgate_model::facts::Preference;

/// A Router Advertisement that passed every check of RFC 4861, 6.1.2, that can be made on the message alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouterAdvert {
    /// Hop limit for packets of the host's own; 0: unspecified.
    pub hop_limit: u8,
    /// M flag: addresses by DHCPv6.
    pub managed: bool,
    /// O flag: other configuration by DHCPv6.
    pub other: bool,
    /// Preference as default router (RFC 4191, 2.2); the reserved value reads as medium.
    pub preference: Preference,
    /// Seconds for which the sender is a default router; 0: it is none.
    pub lifetime: u16,
    /// Source link-layer address option, if it is of 6 bytes.
    pub source_mac: Option<[u8; 6]>,
    /// MTU option, bytes.
    pub mtu: Option<u32>,
    /// Prefix information options.
    pub prefixes: Vec<PrefixInfo>,
    /// Route information options.
    pub routes: Vec<RouteInfo>,
    /// RDNSS options: servers, each with the lifetime of its option.
    pub dns: Vec<(Ipv6Addr, u32)>,
    /// DNSSL options: domains in text without a trailing dot, each with the lifetime of its option.
    pub search: Vec<(String, u32)>,
    /// Captive-portal option: where its API is asked. None if the network says that there is none.
    pub portal: Option<String>,
    /// PREF64 options: the prefixes of a NAT64, each with its lifetime in seconds.
    pub nat64: Vec<(Prefix, u16)>,
}

/// Prefix information (RFC 4861, 4.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInfo {
    /// The prefix, host bits cleared.
    pub prefix: Prefix,
    /// L flag: what is in the prefix is reached without a router.
    pub on_link: bool,
    /// A flag: addresses may be made from it (RFC 4862).
    pub autonomous: bool,
    /// Seconds.
    pub valid: u32,
    /// Seconds.
    pub preferred: u32,
}

/// Route information (RFC 4191, 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    /// The prefix, host bits cleared.
    pub prefix: Prefix,
    /// Preference of the sender as router to it.
    pub preference: Preference,
    /// Seconds.
    pub lifetime: u32,
}

/// The message is not what it should be; it has to be dropped as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than its headers say.
    Short,
    /// Not a Router Advertisement, or code not 0.
    Type,
    /// An option has the length 0, or reaches beyond the message.
    Option,
    /// The IPv6 header does not belong to a neighbour's ICMPv6 message: version, next header, hop limit or source.
    Header,
    /// The checksum is wrong.
    Checksum,
}

/// Reads an ICMPv6 message that begins with its type.
pub fn parse(icmp: &[u8]) -> Result<RouterAdvert, Malformed> {
    let (head, mut rest) = icmp.split_first_chunk::<16>().ok_or(Malformed::Short)?;
    let [kind, code, _, _, hop_limit, flags, life_hi, life_lo, ..] = *head;
    if kind != ROUTER_ADVERT || code != 0 {
        return Err(Malformed::Type);
    }
    let mut advert = RouterAdvert {
        hop_limit,
        managed: flags & 0x80 != 0,
        other: flags & 0x40 != 0,
        preference: preference(flags).unwrap_or_default(),
        lifetime: u16::from_be_bytes([life_hi, life_lo]),
        ..RouterAdvert::default()
    };
    while let [kind, units, ..] = *rest {
        let len = usize::from(units) * 8;
        if len == 0 {
            return Err(Malformed::Option);
        }
        let (option, after) = rest.split_at_checked(len).ok_or(Malformed::Option)?;
        options::read(kind, option, &mut advert);
        rest = after;
    }
    if rest.is_empty() { Ok(advert) } else { Err(Malformed::Option) }
}

/// A Router Solicitation that begins with its type, checksum 0; with the source link-layer address option if `mac` is
/// given, which must not be from an unspecified or optimistic source address (RFC 4861, 4.1; RFC 4429, 3.2).
pub fn solicit(mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut message = vec![ROUTER_SOLICIT, 0, 0, 0, 0, 0, 0, 0];
    if let Some(mac) = mac {
        message.extend([options::SOURCE_MAC, 1]);
        message.extend(mac);
    }
    message
}

/// The two preference bits; the reserved value is `None`.
fn preference(flags: u8) -> Option<Preference> {
    match flags >> 3 & 3 {
        0 => Some(Preference::Medium),
        1 => Some(Preference::High),
        3 => Some(Preference::Low),
        _ => None,
    }
}

const ROUTER_SOLICIT: u8 = 133;
const ROUTER_ADVERT: u8 = 134;
