//! `resolv.conf`: lines of `nameserver ADDR[%dev]`, as DHCP clients, netifd and Gluon write them and libcs and dnsmasq read them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use narrowgate_model::Server;

/// What a `resolv.conf` says of interest here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// In their order, each once.
    pub servers: Vec<Server>,
    /// Lines that mean nothing: no known word, or no address behind `nameserver`.
    pub garbage: usize,
}

/// Reads the text, which is anything: what cannot be understood is counted and passed over, as libcs do.
///
/// `search`, `domain`, `options` and `sortlist` are known and of no interest. What stands behind the address is a comment.
/// Ports (`ADDR#PORT`) are dnsmasq's addition.
pub fn parse(text: &[u8]) -> ResolvConf {
    let mut found = ResolvConf::default();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None | Some("search" | "domain" | "options" | "sortlist") => {}
            Some(word) if word.starts_with(['#', ';']) => {}
            Some("nameserver") => match words.next().map(str::parse::<Server>) {
                Some(Ok(server)) if !found.servers.contains(&server) => found.servers.push(server),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => found.garbage += 1,
            },
            Some(_) => found.garbage += 1,
        }
    }
    found
}

/// A server that may be asked: no address that means nobody, or many.
#[cfg(any(feature = "networkmanager", feature = "hook"))]
pub(crate) fn nameserver(word: &str) -> Option<Server> {
    let server: Server = word.parse().ok()?;
    (!server.addr.is_unspecified() && !server.addr.is_multicast()).then_some(server)
}

/// The servers as text that [`parse`] reads as the same: a line each. A port other than 53 is written as dnsmasq's `#PORT`, which no
/// libc understands; and a device that the address would do without, which we have where there are several uplinks, would make it
/// none for most readers, and is left out.
pub fn write(servers: &[Server]) -> String {
    let mut out = String::new();
    let same = |a: &Server, b: &Server| (a.addr, a.port) == (b.addr, b.port) && !a.is_link_local();
    for (at, server) in servers.iter().enumerate() {
        if servers.iter().take(at).any(|before| same(before, server)) {
            continue;
        }
        let scope = server.scope.as_deref().filter(|_| server.is_link_local());
        let scope = scope.map(|s| ("%", s)).unwrap_or_default();
        let _ = write!(out, "nameserver {}{}{}", server.addr, scope.0, scope.1);
        if server.port != 53 {
            let _ = write!(out, "#{}", server.port);
        }
        out.push('\n');
    }
    out
}
