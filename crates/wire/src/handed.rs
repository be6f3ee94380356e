//! What a hook of another network manager hands over: a `resolv.conf` with a few words more. A line each:
//!
//! ```text
//! manager dhcpcd
//! nameserver 192.0.2.53
//! search home.example
//! gateway 192.0.2.1
//! route 198.51.100.0/24 192.0.2.7
//! portal https://portal.example/api
//! ```

use crate::resolv::nameserver;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::{Prefix, Server};

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handed {
    /// Who has written it.
    pub manager: Option<String>,
    /// In their order, each once.
    pub dns: Vec<Server>,
    /// `search` and `domain`.
    pub search: Vec<String>,
    /// Routes that the manager keeps out of the kernel; without a router they are on-link. `gateway` is a default route.
    pub routes: Vec<(Prefix, Option<IpAddr>)>,
    /// Where the API of a captive portal is asked (RFC 8910).
    pub portal: Option<String>,
    /// Lines that mean nothing.
    pub garbage: usize,
}

/// Reads the text, which is anything: what cannot be understood is counted and passed over. What stands behind a line's last
/// word is a comment, as libcs have it. Routes without sense (a router of the other family) are garbage.
pub fn parse(text: &[u8]) -> Handed {
    let mut found = Handed::default();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(word) = words.next().filter(|word| !word.starts_with(['#', ';'])) else { continue };
        let understood = match word {
            "manager" => words.next().map(|name| found.manager = Some(name.chars().take(64).collect())),
            "nameserver" => words.next().and_then(nameserver).map(|s| once(&mut found.dns, s)),
            "search" | "domain" => {
                words.take(MAX).for_each(|name| once(&mut found.search, name.to_owned()));
                Some(())
            }
            "gateway" => words.next().and_then(|via| via.parse().ok()).map(|via: IpAddr| {
                let any = if via.is_ipv6() { Prefix::DEFAULT_V6 } else { Prefix::DEFAULT_V4 };
                once(&mut found.routes, (any, Some(via)));
            }),
            "route" => route(words.next(), words.next()).map(|route| once(&mut found.routes, route)),
            "portal" => words.next().map(|uri| found.portal = Some(uri.chars().take(255).collect())),
            "options" | "sortlist" => Some(()),
            _ => None,
        };
        found.garbage += usize::from(understood.is_none());
    }
    found
}

fn route(dst: Option<&str>, via: Option<&str>) -> Option<(Prefix, Option<IpAddr>)> {
    let dst: Prefix = dst?.parse().ok()?;
    let via: Option<IpAddr> = via.filter(|via| !via.starts_with('#')).map(str::parse).transpose().ok()?;
    // On-link is what the uplink has a prefix of its own for: not everything.
    let sane = via.map_or(!dst.is_default(), |via| via.is_ipv6() == dst.is_ipv6());
    sane.then(|| (dst.network(), via))
}

fn once<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if list.len() < MAX && !list.contains(&value) {
        list.push(value);
    }
}

/// So many of each are believed.
const MAX: usize = 32;
