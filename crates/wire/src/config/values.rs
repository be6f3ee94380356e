//! From a value's text to its type, or why not.

use super::keys::{is_one_of, suggestion};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use narrowgate_model::config::{Group, Host, Inbound, Peer, ProviderKind, Via};
use narrowgate_model::{
    Gather, Mark, ParseServerError, Prefix, Server, cut, cut_last, decimal, ip, is_device_name, join, number,
};

/// Why a value is refused and what to write instead.
pub(super) struct Why {
    pub why: String,
    pub mend: String,
}

/// A value, or why it is none; small, since it is handed on many times.
pub(super) type Checked<T> = Result<T, Box<Why>>;

fn no<T>(why: &str, mend: &str) -> Checked<T> {
    Err(refusal(why, mend))
}

#[inline(never)]
#[cold]
fn refusal(why: &str, mend: &str) -> Box<Why> {
    Box::new(Why { why: why.to_owned(), mend: mend.to_owned() })
}

pub(super) fn mark(text: &str) -> Checked<Mark> {
    text.parse().or_else(|e: narrowgate_model::ParseMarkError| no(e.as_str(), "write, for instance, 0x1/0x1"))
}

/// A routing table that can be ours: none of the kernel's.
pub(super) fn table(text: &str) -> Checked<u32> {
    const MEND: &str = "write a number that no other program uses, such as 1, which is Gluon's";
    let number = if is_one_of("main local default unspec", text) { Some(0) } else { number(text) };
    match number {
        None => no("a table is a number from 1 to 4294967295", MEND),
        Some(0 | 253..=255) => {
            no("this table is the kernel's own, and packets without the mark are looked up in it", MEND)
        }
        Some(table) => Ok(table),
    }
}

/// Ahead of `main`'s rule, behind `local`'s.
pub(super) fn priority(text: &str) -> Checked<u32> {
    match number(text) {
        Some(priority @ 1..=32765) => Ok(priority),
        _ => no(
            "a priority is a number from 1 to 32765: behind the kernel's rule for local, ahead of that for main",
            "write, for instance, 100",
        ),
    }
}

pub(super) fn metric(text: &str) -> Checked<u32> {
    match number(text) {
        Some(0) => no("IPv6 takes a metric of 0 for 1024", "write a number from 1, the lowest wins"),
        Some(metric) => Ok(metric),
        None => no("a metric is a number from 1 to 4294967295", "write, for instance, 512"),
    }
}

pub(super) fn cache(text: &str) -> Checked<usize> {
    match number(text) {
        Some(bytes @ ..=67_108_864) => Ok(bytes as usize),
        Some(_) => no("more than 67108864 bytes", "write less; 65536 holds hundreds of names"),
        None => no("the size of the cache is a number of bytes", "write, for instance, 65536, or 0 for none"),
    }
}

/// The words that UCI has for it.
pub(super) fn boolean(text: &str) -> Checked<bool> {
    let yes = is_one_of("1 true on yes enabled", text);
    match yes || is_one_of("0 false off no disabled", text) {
        true => Ok(yes),
        false => no("neither yes nor no", "write 1 or 0"),
    }
}

pub(super) fn provider(text: &str) -> Checked<ProviderKind> {
    let known: Vec<&str> = PROVIDERS.iter().filter(|p| p.built).map(|p| p.kind.as_str()).gather();
    match PROVIDERS.iter().find(|p| p.kind.as_str() == text) {
        Some(found) if found.built => Ok(found.kind),
        Some(_) => no(
            "this build is without it",
            &format!(
                "install one that was made with Cargo's feature `{text}`, or write one of {}",
                join(&known, ", ")
            ),
        ),
        None => no("no such provider", &suggestion(text, &known)),
    }
}

/// What `option provider` may say; and whether this build can do it.
struct Known {
    kind: ProviderKind,
    built: bool,
}

/// All there are, in the manual's order.
const PROVIDERS: &[Known] = &[
    Known { kind: ProviderKind::Auto, built: true },
    Known { kind: ProviderKind::Builtin, built: cfg!(feature = "builtin") },
    Known { kind: ProviderKind::Netifd, built: cfg!(feature = "netifd") },
    Known { kind: ProviderKind::Networkd, built: cfg!(feature = "networkd") },
    Known { kind: ProviderKind::NetworkManager, built: cfg!(feature = "networkmanager") },
    Known { kind: ProviderKind::Hook, built: cfg!(feature = "hook") },
    Known { kind: ProviderKind::Static, built: true },
];

pub(super) fn via(text: &str) -> Checked<Via> {
    match text {
        "uplink" => Ok(Via::Uplink),
        "mesh" => Ok(Via::Mesh),
        _ => no("a resolver asks via the uplink or via the mesh", "write uplink or mesh"),
    }
}

/// A name that the kernel takes for a device (at most 15 bytes) and that means one device.
pub(super) fn device(text: &str) -> Checked<String> {
    const MEND: &str = "write the device as `ip link` shows it, such as eth0";
    if text.starts_with('@') {
        return no(
            "this is one of netifd's aliases",
            "write the device itself, and the interface as `list interface`",
        );
    }
    if text.is_empty() || text.len() > 15 {
        return no("a device's name has 1 to 15 characters", MEND);
    }
    if !is_device_name(text) {
        return no("no device has such a name", MEND);
    }
    if is_one_of("lo all default", text) {
        return no("this is no device that leads anywhere", MEND);
    }
    Ok(text.to_owned())
}

/// One of netifd's logical interfaces.
pub(super) fn interface(text: &str) -> Checked<String> {
    match is_plain(text) {
        true => Ok(text.to_owned()),
        false => {
            no("no interface of netifd has such a name", "write the name of a section in /etc/config/network")
        }
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// A DNS server. It may be on this host: a DNS-over-TLS proxy that `narrowgate exec` has started, for instance.
pub(super) fn server(text: &str) -> Checked<Server> {
    const MEND: &str = "write, for instance, 192.0.2.53 or [2001:db8::53]:5353";
    match text.parse::<Server>() {
        Ok(server) if server.addr.is_unspecified() || server.addr.is_multicast() => {
            no("no server can have this address", MEND)
        }
        Ok(server) => Ok(server),
        Err(error) => no(error.as_str(), MEND),
    }
}

/// An address to listen on; the port is `port` unless written.
pub(super) fn listen(text: &str, port: u16) -> Checked<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let read = match ip(bare) {
        Some(addr) => Ok(Server { addr, scope: None, port }),
        None => text.parse(),
    };
    let why = match read {
        Ok(Server { scope: Some(_), .. }) => "a loopback address has no device",
        Ok(server) if server.addr.is_loopback() => return Ok(SocketAddr::new(server.addr, server.port)),
        Ok(_) => {
            "not a loopback address, and a resolver that others can ask would carry their traffic over the uplink"
        }
        Err(ParseServerError::Port) => NO_PORT,
        Err(_) => "no address with a port",
    };
    no(why, &format!("write 127.0.0.1:{port} or [::1]:{port}"))
}

const NO_PORT: &str = "the port is no number from 1 to 65535";

fn port(text: &str, mend: &str) -> Checked<u16> {
    match number(text).map(u16::try_from) {
        Some(Ok(port)) if port > 0 => Ok(port),
        _ => no(NO_PORT, mend),
    }
}

/// Stands for `none` until all words of `list inbound` are read: there is no such port.
pub(super) const NOTHING: Inbound = Inbound::Tcp(0);

pub(super) fn inbound(text: &str) -> Checked<Inbound> {
    const MEND: &str = "write ssh, ping, tcp/PORT, udp/PORT or none";
    Ok(match cut(text, b'/') {
        Some(("tcp", n)) => Inbound::Tcp(port(n, MEND)?),
        Some(("udp", n)) => Inbound::Udp(port(n, MEND)?),
        None if text == "none" => NOTHING,
        None if text == "ping" => Inbound::Ping,
        None if text == "ssh" => Inbound::Tcp(22),
        _ => return no("nothing that could be allowed", MEND),
    })
}

/// An address of the node's own with its prefix length.
pub(super) fn address(text: &str) -> Checked<Prefix> {
    const MEND: &str = "write, for instance, 192.0.2.2/24 or 2001:db8::2/64";
    match text.parse::<Prefix>() {
        Err(error) => no(error.as_str(), MEND),
        Ok(p) if is_nobodys(p.addr) => no("no uplink can have this address", MEND),
        Ok(p) if p.len == 0 => no("with a prefix length of 0 the whole internet would be on the cable", MEND),
        Ok(p) => Ok(p),
    }
}

/// Whether no other host can have this address.
fn is_nobodys(addr: IpAddr) -> bool {
    addr.is_unspecified() || addr.is_multicast() || addr.is_loopback()
}

pub(super) fn gateway(text: &str) -> Checked<IpAddr> {
    match ip(text) {
        Some(a) if is_nobodys(a) => {
            no("no router can have this address", "write the household router's address")
        }
        Some(a) => Ok(a),
        None => no("a gateway is an IP address", "write, for instance, 192.0.2.1 or fe80::1"),
    }
}

/// A group of its own: root's would send the DNS of nearly everything to the uplink.
pub(super) fn group(text: &str) -> Checked<Group> {
    const MEND: &str = "write the group that the VPN daemon runs in, such as gluon-mesh-vpn or 800";
    if text == "root" || number(text) == Some(0) {
        return no(
            "root's group is nearly every daemon's, and all their DNS would go out by the uplink",
            MEND,
        );
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match decimal(text) {
            Some(u32::MAX) | None => no("a group's number is from 1 to 4294967294", MEND),
            Some(id) => Ok(Group::Id(id)),
        };
    }
    match text.len() <= 32 && is_plain(text) && text.as_bytes().first() != Some(&b'-') {
        true => Ok(Group::Name(text.to_owned())),
        false => no("no group has such a name", MEND),
    }
}

/// Of the cgroup v2 tree, absolute from its mount point.
pub(super) fn cgroup(text: &str) -> Checked<String> {
    const MEND: &str = "write the VPN's own cgroup, such as /system.slice/vpn.service";
    if !text.starts_with('/') {
        return no("the path of a cgroup begins with /", MEND);
    }
    let path = text.strip_suffix('/').unwrap_or(text);
    if path.len() < 2 {
        return no("the root of all cgroups holds every process, and all of them would be marked", MEND);
    }
    let mut parts = path.split('/').skip(1);
    if parts.any(|part| part.is_empty() || is_one_of(". ..", part)) || path.chars().any(char::is_control) {
        return no("a path with an empty part, . or .. can lead anywhere", MEND);
    }
    Ok(path.to_owned())
}

/// `host`, `host:port`, `addr`, `[addr]:port`.
pub(super) fn peer(text: &str) -> Checked<Peer> {
    const MEND: &str = "write, for instance, vpn.example.net:10000 or [2001:db8::1]:10000";
    if let Some(addr) = ip(text) {
        return peer_at(addr, None);
    }
    let (host, port) = match cut_last(text, b':') {
        Some((host, n)) if text.as_bytes().last() != Some(&b']') => (host, Some(port(n, MEND)?)),
        _ => (text, None),
    };
    if let Some(addr) = host.strip_prefix('[') {
        return match addr.strip_suffix(']').and_then(ip) {
            Some(addr @ IpAddr::V6(_)) => peer_at(addr, port),
            _ => no("between [ and ] stands an IPv6 address", MEND),
        };
    }
    match ip(host) {
        Some(addr @ IpAddr::V4(_)) => peer_at(addr, port),
        Some(addr) => no("an IPv6 address with a port needs brackets", &format!("write [{addr}]:PORT")),
        None => Ok(Peer { host: Host::Name(name(host)?), port }),
    }
}

fn peer_at(addr: IpAddr, port: Option<u16>) -> Checked<Peer> {
    match is_nobodys(addr) {
        true => no("no VPN server out there has this address", "write the server's name or public address"),
        false => Ok(Peer { host: Host::Addr(addr), port }),
    }
}

/// Whether it is a DNS name as the config has it.
pub(crate) fn is_dns_name(text: &str) -> bool {
    name(text).is_ok_and(|name| name == text)
}

/// A DNS name (RFC 1035, 2.3.4, with the underscore that is in use), lower case, without the dot at its end.
fn name(text: &str) -> Checked<String> {
    const MEND: &str = "write the VPN server's name, such as vpn.example.net";
    if !text.is_ascii() {
        return no("a name in DNS is ASCII", "write the name's xn--… form");
    }
    if text.as_bytes().windows(2).any(|two| two == b"//") {
        return no("a peer is no URL", MEND);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() || name.len() > 253 {
        return no("a name has 1 to 253 characters", MEND);
    }
    let mut number = false;
    for label in name.split('.') {
        let label = label.as_bytes();
        let fits = label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if label.len() > 63 || !fits || matches!(label, [] | [b'-', ..] | [.., b'-']) {
            return no(
                "neither a name nor an address: each part of a name has 1 to 63 letters, digits and hyphens, none at its ends",
                MEND,
            );
        }
        number = label.iter().all(u8::is_ascii_digit);
    }
    if number {
        return no("it ends in a number like an address, but is none", MEND);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run with and without Cargo's features: each build takes its own providers and tells which build has the others.
    #[test]
    fn a_provider_that_was_left_out_is_known_by_its_word() {
        for known in PROVIDERS {
            let word = known.kind.as_str();
            match provider(word) {
                Ok(kind) => assert!(known.built && kind == known.kind, "{word}"),
                Err(why) => {
                    assert!(!known.built, "{word}");
                    assert_eq!(why.why, "this build is without it");
                    assert!(why.mend.contains(&format!("Cargo's feature `{word}`")), "{}", why.mend);
                    assert!(why.mend.ends_with("static"), "{}", why.mend);
                }
            }
        }
        assert_eq!(provider("netwörk").err().map(|why| why.why), Some("no such provider".into()));
    }
}
