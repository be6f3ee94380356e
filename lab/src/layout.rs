//! Who is where: the hosts, the cables between them and every address, in one place.
//!
//! ```text
//!  client ── node ══ wan cable ══ home ──── inet ──── gate ── far
//!     lan     │                  router   DNS, foreign  │ mesh
//!             ├───────────── fastd tunnel ───────│──────┘
//!             └ ─ ─ modem ─ ─ other household ─ ─┘  (where a lab has one)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wireguard::INNER_GATE6;

/// One host of the lab: a network namespace with a mount namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// The household's router, and the household: DHCP, RA, DNS, NAT.
    Home,
    /// Another household, or an operator's modem: a second uplink, where the lab has one.
    Modem,
    /// The internet: authoritative DNS, and addresses that nothing of the node's may reach by the WAN.
    Inet,
    /// The VPN gateway: fastd, and the mesh's RA and DNS.
    Gate,
    /// A host in the mesh, that answers.
    Far,
    /// The mesh node, where narrowgate runs.
    Node,
    /// A client behind the node.
    Client,
}

impl Host {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Home, Self::Modem, Self::Inet, Self::Gate, Self::Far, Self::Node, Self::Client];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Modem => "modem",
            Self::Inet => "inet",
            Self::Gate => "gate",
            Self::Far => "far",
            Self::Node => "node",
            Self::Client => "client",
        }
    }

    /// The host of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|host| host.name() == name)
    }
}

/// The household's networks, as its router hands them out. Two of them, so that a provider's renumbering is a change
/// from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Household {
    /// The router's IPv4 address; the prefix is a /24.
    pub router4: Ipv4Addr,
    /// The router's global IPv6 address; the prefix is a /64.
    pub router6: Ipv6Addr,
}

impl Household {
    /// The network at first.
    pub const FIRST: Self = Self {
        router4: Ipv4Addr::new(192, 168, 77, 1),
        router6: Ipv6Addr::new(0x2001, 0xdb8, 0x77, 1, 0, 0, 0, 1),
    };
    /// The network after the provider renumbered.
    pub const SECOND: Self = Self {
        router4: Ipv4Addr::new(192, 168, 78, 1),
        router6: Ipv6Addr::new(0x2001, 0xdb8, 0x77, 2, 0, 0, 0, 1),
    };

    /// The other household's: the same IPv4 network, as two routers of one make have.
    pub const OTHER: Self =
        Self { router4: Self::FIRST.router4, router6: Ipv6Addr::new(0x2001, 0xdb8, 0x78, 1, 0, 0, 0, 1) };

    /// An IPv4 address of the household with this last octet.
    pub fn host4(&self, last: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.router4.octets();
        Ipv4Addr::new(a, b, c, last)
    }

    /// Whether an address is on the household's link.
    pub fn on_link(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => addr.octets()[..3] == self.router4.octets()[..3],
            IpAddr::V6(addr) => {
                addr.segments()[..4] == self.router6.segments()[..4] || addr.is_unicast_link_local()
            }
        }
    }
}

/// The router's link-local address on the cable: default gateway and one of the DNS servers.
pub const ROUTER_LL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The household's end of the cable and its hardware address.
pub const CABLE: (&str, [u8; 6]) = ("cable", [0x02, 0x77, 0, 0, 0, 0x01]);
/// The node's end of the cable and its hardware address.
pub const WAN: (&str, [u8; 6]) = ("wan", [0x02, 0x77, 0, 0, 0, 0x02]);
/// The node's device towards the other household. The other end is like [`CABLE`] in all.
pub const MODEM: (&str, [u8; 6]) = ("usb0", [0x02, 0x78, 0, 0, 0, 0x02]);
/// The name of the VPN gateway, known to the authoritative server.
pub const GATE_NAME: &str = "vpn.example.net";
/// The gateway's addresses.
pub const GATE4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 130);
/// See [`GATE4`].
pub const GATE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x9, 0, 0, 0, 0, 0x10);
/// The UDP port of the gateway's fastd.
pub const GATE_PORT: u16 = 10000;
/// The authoritative server's addresses.
pub const AUTH4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// A foreign host, that answers UDP and TCP on [`SERVICE_PORT`].
pub const FOREIGN4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
/// See [`FOREIGN4`].
pub const FOREIGN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf00, 0, 0, 0, 0, 0x80);
/// The mesh's DNS server: the gateway, inside the mesh.
pub const MESH_DNS: Ipv6Addr = Ipv6Addr::new(0xfd42, 0, 0, 0, 0, 0, 0, 1);
/// The gateway's IPv4 address in the mesh (a /16).
pub const MESH_GATE4: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 1);
/// The node's IPv4 address in the mesh.
pub const MESH_NODE4: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 2);
/// The host in the mesh that answers.
pub const FAR4: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 9);
/// See [`FAR4`].
pub const FAR6: Ipv6Addr = Ipv6Addr::new(0xfd42, 0, 0, 0, 0, 0, 0, 9);
/// A name that only the mesh's DNS server knows.
pub const FAR_NAME: &str = "far.mesh.example";
/// The port that the lab's little servers answer on: HTTP over TCP, echo over UDP.
pub const SERVICE_PORT: u16 = 80;
/// The client behind the node.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 2);
/// See [`CLIENT4`].
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd43, 0, 0, 0, 0, 0, 0, 2);
/// The numeric id of the tunnel's group, as in Gluon.
pub const TUNNEL_GID: u32 = 800;
/// Its name, known inside the hosts only.
pub const TUNNEL_GROUP: &str = "gluon-mesh-vpn";
/// The tunnel's device on node and gate.
pub const TUNNEL_DEVICE: &str = "mesh-vpn";

/// A hardware address as text.
pub fn mac(bytes: [u8; 6]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// The `ip -batch` commands of one host. `pin` tells the process that holds another host's namespace.
///
/// Run in the order of [`Host::ALL`], the other ends of the cables exist when a host needs them. Both ends of a cable get
/// different indices: where they are the same by chance, the kernel takes the pair for a device of its own and lets up to a
/// second pass, after the carrier came, before it sends anything (`linkwatch_urgent_event`).
pub fn batch(host: Host, first: Household, pin: impl Fn(Host) -> u32) -> String {
    match host {
        Host::Home => format!(
            "link set lo up
             link add {cable} index 10 address {cable_mac} type veth peer name {wan} index 11 address {wan_mac} netns {node}
             link set {cable} addrgenmode none
             link set {cable} up
             addr add {ROUTER_LL}/64 dev {cable} nodad
             addr add {r4}/24 brd + dev {cable}
             addr add {r6}/64 dev {cable} nodad
             link add eth0 index 12 type veth peer name home index 13 netns {inet}
             link set eth0 up
             addr add 198.51.100.2/25 dev eth0
             addr add 2001:db8:1::2/64 dev eth0 nodad
             route add default via 198.51.100.1
             route add default via 2001:db8:1::1
             ",
            cable = CABLE.0,
            cable_mac = mac(CABLE.1),
            wan = WAN.0,
            wan_mac = mac(WAN.1),
            node = pin(Host::Node),
            inet = pin(Host::Inet),
            r4 = first.router4,
            r6 = first.router6,
        ),
        Host::Modem => format!(
            "link set lo up
             link add eth0 index 20 type veth peer name modem index 21 netns {inet}
             link set eth0 up
             addr add 198.51.101.2/25 dev eth0
             addr add 2001:db8:2::2/64 dev eth0 nodad
             route add default via 198.51.101.1
             route add default via 2001:db8:2::1
             ",
            inet = pin(Host::Inet),
        ),
        Host::Inet => format!(
            "link set lo up
             link set home up
             addr add 198.51.100.1/25 dev home
             addr add 2001:db8:1::1/64 dev home nodad
             route add 2001:db8:77::/48 via 2001:db8:1::2
             link add gate index 14 type veth peer name eth0 index 15 netns {gate}
             link set gate up
             addr add 198.51.100.129/25 dev gate
             addr add 2001:db8:9::1/64 dev gate nodad
             link add foreign type bridge
             link set foreign up
             addr add {AUTH4}/24 dev foreign
             addr add {FOREIGN4}/24 dev foreign
             addr add {FOREIGN6}/64 dev foreign nodad
             ",
            gate = pin(Host::Gate),
        ),
        Host::Gate => format!(
            "link set lo up
             link set eth0 up
             addr add {GATE4}/25 dev eth0
             addr add {GATE6}/64 dev eth0 nodad
             route add default via 198.51.100.129
             route add default via 2001:db8:9::1
             link add mesh type bridge
             link set mesh up
             addr add {MESH_GATE4}/16 dev mesh
             addr add {MESH_DNS}/64 dev mesh nodad
             link add far index 16 type veth peer name mesh index 17 netns {far}
             link set far master mesh up
             ",
            far = pin(Host::Far),
        ),
        Host::Far => format!(
            "link set lo up
             link set mesh up
             addr add {FAR4}/16 dev mesh
             addr add {FAR6}/64 dev mesh nodad
             route add default via {MESH_GATE4}
             route add {INNER_GATE6}/64 via {MESH_DNS}
             "
        ),
        // The WAN interface stays as it is: bare and down. That is what the node finds at boot.
        Host::Node => format!(
            "link set lo up
             link add lan index 18 type veth peer name eth0 index 19 netns {client}
             link set lan up
             addr add 10.43.0.1/24 dev lan
             addr add fd43::1/64 dev lan nodad
             ",
            client = pin(Host::Client),
        ),
        Host::Client => format!(
            "link set lo up
             link set eth0 up
             addr add {CLIENT4}/24 dev eth0
             addr add {CLIENT6}/64 dev eth0 nodad
             route add default via 10.43.0.1
             route add default via fd43::1
             "
        ),
    }
}

/// The commands, in the other household, that plug it in at the node; those of [`batch`] have run.
pub fn plug_modem(node: u32) -> String {
    let network = Household::OTHER;
    format!(
        "link add {cable} index 22 address {cable_mac} type veth peer name {modem} index 23 address {modem_mac} netns {node}
         link set {cable} addrgenmode none
         link set {cable} up
         addr add {ROUTER_LL}/64 dev {cable} nodad
         addr add {r4}/24 brd + dev {cable}
         addr add {r6}/64 dev {cable} nodad
         ",
        cable = CABLE.0,
        cable_mac = mac(CABLE.1),
        modem = MODEM.0,
        modem_mac = mac(MODEM.1),
        r4 = network.router4,
        r6 = network.router6,
    )
}

/// The commands, in the internet, that lead to the other household.
pub const MODEM_UPSTREAM: &str = "link set modem up
     addr add 198.51.101.1/25 dev modem
     addr add 2001:db8:2::1/64 dev modem nodad
     route add 2001:db8:78::/48 via 2001:db8:2::2
     ";

/// What is where, for people.
pub fn describe() -> String {
    let home = Household::FIRST;
    format!(
        "  home    the household's router: {}, {}, {ROUTER_LL} on {}; dnsmasq\n\
         \x20 inet    the internet: DNS server {AUTH4} knows {GATE_NAME}; foreign hosts {FOREIGN4}, {FOREIGN6}\n\
         \x20 gate    the VPN gateway: fastd on {GATE4} and {GATE6}, port {GATE_PORT}; mesh DNS {MESH_DNS}\n\
         \x20 far     a host in the mesh: {FAR4}, {FAR6}, {FAR_NAME}; HTTP on port {SERVICE_PORT}\n\
         \x20 node    the mesh node: {} is the WAN cable, down and bare; lan goes to the client\n\
         \x20 client  behind the node: {CLIENT4}, {CLIENT6}\n",
        home.router4, home.router6, CABLE.0, WAN.0,
    )
}
