//! What the operator wants, as read from the UCI config with its defaults filled in.

use crate::{Mark, Prefix, Server};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// The whole config of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `option mark`: what the tunnel's packets and its DNS carry.
    pub mark: Mark,
    /// `option table`: the WAN table, IPv4 and IPv6.
    pub table: u32,
    /// `option priority`: where our rule for the mark stands among the rules of `ip rule`.
    pub rule_priority: u32,
    /// `option strict`: the WAN resolver answers only the tunnels' names.
    pub strict: bool,
    /// The `uplink` sections.
    pub uplinks: Vec<Uplink>,
    /// The `tunnel` sections.
    pub tunnels: Vec<Tunnel>,
    /// The `resolver` sections; always one at least, the default WAN resolver, whose `via` is `uplink`.
    pub resolvers: Vec<Resolver>,
}

impl Config {
    /// Default of `option table`: Gluon's.
    pub const TABLE: u32 = 1;
    /// Default of `option priority`: behind `local` (0), ahead of what mwan3 (1001), Tailscale (5210), netifd (10000) and `main` (32766) use.
    pub const RULE_PRIORITY: u32 = 100;

    /// The resolvers that ask the uplinks' servers.
    pub fn uplink_resolvers(&self) -> impl Iterator<Item = &Resolver> {
        self.resolvers.iter().filter(|r| r.via == Via::Uplink)
    }

    /// The names among the tunnels' peers, which only the uplinks' servers can resolve while the tunnel is down.
    pub fn peer_names(&self) -> impl Iterator<Item = &str> {
        self.list_peer_names().into_iter()
    }

    // A list is made, since a chain of iterators would be in the program as often as it is asked for.
    #[inline(never)]
    fn list_peer_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for tunnel in &self.tunnels {
            for peer in &tunnel.peers {
                if let Host::Name(name) = &peer.host {
                    names.push(name.as_str());
                }
            }
        }
        names
    }
}

impl Config {
    /// All defaults, without a section: there is no resolver yet.
    pub const fn bare() -> Config {
        Config {
            mark: Mark::DEFAULT,
            table: Self::TABLE,
            rule_priority: Self::RULE_PRIORITY,
            strict: false,
            uplinks: Vec::new(),
            tunnels: Vec::new(),
            resolvers: Vec::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config { resolvers: vec![Resolver::default_wan()], ..Config::bare() }
    }
}

/// An uplink: a foreign network that may carry the tunnel alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// The section's name.
    pub name: String,
    /// `option device`: the network device.
    pub device: String,
    /// `option provider`: who brings it up and tells the facts.
    pub provider: ProviderKind,
    /// `list interface`: netifd's logical interfaces.
    pub interfaces: Vec<String>,
    /// `list dns`: overrides the servers that are learnt.
    pub dns: Vec<Server>,
    /// `list inbound`: what the household may ask of the node. Default ssh and ping.
    pub inbound: Vec<Inbound>,
    /// `option metric`: of its routes in the WAN table; the lowest is used.
    pub metric: u32,
    /// `list address`, provider `static` only.
    pub addresses: Vec<Prefix>,
    /// `list gateway`, provider `static` only.
    pub gateways: Vec<IpAddr>,
}

impl Uplink {
    /// Default of `option metric`: below the kernel's own 1024, above 0, which IPv6 reads as 1024.
    pub const METRIC: u32 = 512;

    /// An uplink on `device` with all defaults.
    pub fn new(name: &str, device: &str) -> Uplink {
        Uplink {
            name: name.to_owned(),
            device: device.to_owned(),
            provider: ProviderKind::Auto,
            interfaces: Vec::new(),
            dns: Vec::new(),
            inbound: vec![Inbound::Tcp(22), Inbound::Ping],
            metric: Self::METRIC,
            addresses: Vec::new(),
            gateways: Vec::new(),
        }
    }
}

/// Who tells the facts of an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// Chosen by what manages the device.
    Auto,
    /// narrowgate's own: Router Advertisements and DHCP.
    Builtin,
    /// OpenWrt's network daemon, over ubus.
    Netifd,
    /// systemd-networkd.
    Networkd,
    /// NetworkManager.
    NetworkManager,
    /// dhcpcd, ifupdown, or whoever else hands over what it knows by a hook.
    Hook,
    /// The config itself.
    Static,
}

impl ProviderKind {
    /// Its word in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            ProviderKind::Auto => "auto",
            ProviderKind::Builtin => "builtin",
            ProviderKind::Netifd => "netifd",
            ProviderKind::Networkd => "networkd",
            ProviderKind::NetworkManager => "networkmanager",
            ProviderKind::Hook => "hook",
            ProviderKind::Static => "static",
        }
    }
}

/// Something that may be asked of the node from the household's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inbound {
    /// ICMP and ICMPv6 echo requests: `ping`.
    Ping,
    /// Connections to a TCP port: `ssh` or `tcp/22`.
    Tcp(u16),
    /// Packets to a UDP port: `udp/161`.
    Udp(u16),
}

/// A VPN daemon with its group and its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The section's name.
    pub name: String,
    /// `option group`: its DNS goes to the WAN resolver.
    pub group: Option<Group>,
    /// `option device`: its network device.
    pub device: Option<String>,
    /// `list peer`: its servers.
    pub peers: Vec<Peer>,
    /// `option cgroup`: a cgroup v2 path whose sockets are marked.
    pub cgroup: Option<String>,
}

/// A group, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// To be looked up in `/etc/group`.
    Name(String),
    /// A number.
    Id(u32),
}

/// A VPN server: `host`, `host:port`, `[addr]:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where.
    pub host: Host,
    /// The port, if written.
    pub port: Option<u16>,
}

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name, lower case, without a trailing dot.
    Name(String),
    /// An address.
    Addr(IpAddr),
}

/// A DNS forwarder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// The section's name.
    pub name: String,
    /// `option via`: which way its queries go.
    pub via: Via,
    /// `list listen`: loopback addresses, UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// `list server`: overrides those that are learnt (`via uplink`); the only ones (`via mesh`).
    pub servers: Vec<Server>,
    /// `option cache`: bytes; 0 is off.
    pub cache: usize,
}

impl Resolver {
    /// The WAN resolver as it is when none is written: `127.0.0.1:54` and `[::1]:54`, marked, to the uplinks' servers.
    pub fn default_wan() -> Resolver {
        Resolver {
            name: "wan".to_owned(),
            via: Via::Uplink,
            listen: Self::wan_listen(),
            servers: Vec::new(),
            cache: 0,
        }
    }

    /// Where the WAN resolver listens by default.
    pub fn wan_listen() -> Vec<SocketAddr> {
        vec![SocketAddr::from(([127, 0, 0, 1], 54)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1u16], 54))]
    }
}

/// Which way a resolver's queries go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Marked, to the uplinks' servers.
    Uplink,
    /// Unmarked, through the mesh.
    Mesh,
}
