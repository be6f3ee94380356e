//! The options of a Router Advertisement. One whose content makes no sense is skipped, as RFC 4861, 4.6, demands of
//! unknown ones: what the rest of the message says still holds.

use super::{PrefixInfo, RouteInfo, RouterAdvert, preference};
use crate::domain::push_label;
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::net::Ipv6Addr;
use narrowgate_model::Prefix;

/// Reads one option, type and length included, into `advert`.
pub(super) fn read(kind: u8, option: &[u8], advert: &mut RouterAdvert) {
    // Every option has 8 bytes at least: type, length and six more.
    let Some((_, body)) = option.split_first_chunk::<2>() else { return };
    match kind {
        SOURCE_MAC => advert.source_mac = body.try_into().ok(),
        MTU => advert.mtu = be32(body, 2).or(advert.mtu),
        PREFIX_INFO => advert.prefixes.extend(prefix_info(body)),
        ROUTE_INFO => advert.routes.extend(route_info(body)),
        RDNSS => {
            if let Some((lifetime, servers)) = be32(body, 2).zip(body.get(6..)) {
                let servers = servers.chunks_exact(16).filter_map(|c| <[u8; 16]>::try_from(c).ok());
                advert.dns.extend(servers.map(|s| (Ipv6Addr::from(s), lifetime)));
            }
        }
        DNSSL => {
            if let Some((lifetime, names)) = be32(body, 2).zip(body.get(6..)) {
                advert.search.extend(domains(names).map(|name| (name, lifetime)));
            }
        }
        PORTAL => advert.portal = portal(body).or(advert.portal.take()),
        PREF64 => advert.nat64.extend(nat64(body)),
        _ => {}
    }
}

fn prefix_info(body: &[u8]) -> Option<PrefixInfo> {
    let (&[len, flags], _) = body.split_first_chunk::<2>()?;
    let addr: [u8; 16] = body.get(14..30)?.try_into().ok()?;
    if len > 128 {
        return None;
    }
    Some(PrefixInfo {
        prefix: Prefix::new(Ipv6Addr::from(addr), len).network(),
        on_link: flags & 0x80 != 0,
        autonomous: flags & 0x40 != 0,
        valid: be32(body, 2)?,
        preferred: be32(body, 6)?,
    })
}

/// The prefix takes 0, 8 or 16 bytes, but never less than its length needs (RFC 4191, 2.3).
fn route_info(body: &[u8]) -> Option<RouteInfo> {
    let (&[len, flags], _) = body.split_first_chunk::<2>()?;
    let told = body.get(6..)?;
    if len > 128 || usize::from(len) > told.len() * 8 {
        return None;
    }
    let mut addr = [0; 16];
    for (to, from) in addr.iter_mut().zip(told) {
        *to = *from;
    }
    Some(RouteInfo {
        prefix: Prefix::new(Ipv6Addr::from(addr), len).network(),
        preference: preference(flags)?,
        lifetime: be32(body, 2)?,
    })
}

/// Lifetime in units of 8 s, a code for the prefix's length, its first 96 bits (RFC 8781, 4).
fn nat64(body: &[u8]) -> Option<(Prefix, u16)> {
    let (head, rest) = body.split_first_chunk::<2>()?;
    let told: &[u8; 12] = rest.first_chunk()?;
    let head = u16::from_be_bytes(*head);
    let len = match head & 7 {
        0 => 96,
        code @ 1..=5 => 72 - 8 * code as u8,
        _ => return None,
    };
    let mut addr = [0; 16];
    for (to, from) in addr.iter_mut().zip(told) {
        *to = *from;
    }
    Some((Prefix::new(Ipv6Addr::from(addr), len).network(), head & !7))
}

/// The URI of a captive portal's API (RFC 8910, 2), behind which zero bytes may stand; none if it says that there is none,
/// or if it is no URI: it is shown to people.
pub(crate) fn portal(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let uri = core::str::from_utf8(bytes.get(..end)?).ok()?;
    let fits = (1..=255).contains(&uri.len()) && uri.bytes().all(|b| b.is_ascii_graphic());
    (fits && uri != "urn:ietf:params:capport:unrestricted").then(|| uri.to_owned())
}

/// Names as in DNS, uncompressed, one behind the other, zero bytes behind the last (RFC 8106, 5.2).
pub(crate) fn domains(mut bytes: &[u8]) -> impl Iterator<Item = String> {
    core::iter::from_fn(move || {
        let mut name = String::new();
        loop {
            let (&len, rest) = bytes.split_first()?;
            let Some((label, rest)) = rest.split_at_checked(usize::from(len)) else {
                bytes = &[];
                return None;
            };
            bytes = rest;
            match len {
                0 if name.is_empty() => return None, // padding
                0 => return Some(name),
                64.. => return None,
                _ => {}
            }
            if !push_label(&mut name, label) {
                bytes = &[];
                return None;
            }
        }
    })
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) const SOURCE_MAC: u8 = 1;
const PREFIX_INFO: u8 = 3;
const MTU: u8 = 5;
const ROUTE_INFO: u8 = 24;
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
const PORTAL: u8 = 37;
const PREF64: u8 = 38;
