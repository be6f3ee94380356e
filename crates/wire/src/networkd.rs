//! systemd-networkd's state files, as far as an uplink is concerned: `/run/systemd/netif/links/INDEX` and the DHCPv4 lease in
//! `/run/systemd/netif/leases/INDEX`. Lines of `NAME=VALUE`; lists are separated by blanks.
//!
//! What sd-network(3) tells comes from these files, so their names have been stable, though the files call themselves
//! private. What is not understood is not there.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use narrowgate_model::Server;

/// What a link's state file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkState {
    /// `ADMIN_STATE`: `configured`, `configuring`, `unmanaged`, `pending`, `failed` …
    pub admin: String,
    /// `OPER_STATE`: `routable`, `degraded`, `carrier`, `no-carrier`, `off` …
    pub oper: String,
    /// `NETWORK_FILE`: the `.network` file that applies.
    pub network_file: Option<String>,
    /// `DNS`: written by the operator, and learnt where `UseDNS=` is not `no`. Without a device.
    pub dns: Vec<Server>,
    /// `DOMAINS`, without those that are for routing only.
    pub search: Vec<String>,
}

impl LinkState {
    /// Whether networkd takes care of the link.
    pub fn managed(&self) -> bool {
        self.network_file.is_some()
            || matches!(self.admin.as_str(), "configured" | "configuring" | "degraded")
    }
}

/// What a DHCPv4 lease's file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lease {
    /// `DNS`: there even with `UseDNS=no`.
    pub dns: Vec<Server>,
    /// `DOMAINNAME`.
    pub search: Vec<String>,
}

/// Reads a link's state file.
pub fn link_state(text: &[u8]) -> LinkState {
    let mut state = LinkState::default();
    for_each(text, |name, value| match name {
        "ADMIN_STATE" => state.admin = value.to_owned(),
        "OPER_STATE" => state.oper = value.to_owned(),
        "NETWORK_FILE" => state.network_file = Some(value.to_owned()).filter(|v| !v.is_empty()),
        "DNS" => state.dns = servers(value),
        "DOMAINS" => state.search = value.split_ascii_whitespace().map(str::to_owned).collect(),
        _ => {}
    });
    state
}

/// Reads a lease's file.
pub fn lease(text: &[u8]) -> Lease {
    let mut lease = Lease::default();
    for_each(text, |name, value| match name {
        "DNS" => lease.dns = servers(value),
        "DOMAINNAME" => lease.search = value.split_ascii_whitespace().map(str::to_owned).collect(),
        _ => {}
    });
    lease
}

fn for_each(text: &[u8], mut take: impl FnMut(&str, &str)) {
    for line in String::from_utf8_lossy(text).lines() {
        if let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.starts_with('#')) {
            take(name, unquoted(value));
        }
    }
}

/// A value with a character of the shell's in it is quoted.
fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)
}

fn servers(value: &str) -> Vec<Server> {
    let mut found = Vec::new();
    for server in value.split_ascii_whitespace().filter_map(server) {
        if !found.contains(&server) {
            found.push(server);
        }
    }
    found
}

/// `ADDR`, with `:PORT` (IPv6: `[ADDR]:PORT`), `%DEVICE` and `#NAME` behind, in that order. Device and name are left out.
fn server(text: &str) -> Option<Server> {
    let text = text.split_once('#').map_or(text, |(server, _)| server);
    let text = text.split_once('%').map_or(text, |(server, _)| server);
    let server: Server = text.parse().ok()?;
    usable(server.addr).then_some(server)
}

fn usable(addr: IpAddr) -> bool {
    !addr.is_unspecified() && !addr.is_multicast()
}
