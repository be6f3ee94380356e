//! What kind of household and gateway a lab has.

/// Which families of addresses something has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Both,
}

impl Families {
    /// Whether IPv4 is among them.
    pub fn v4(self) -> bool {
        self != Self::V6
    }

    /// Whether IPv6 is among them.
    pub fn v6(self) -> bool {
        self != Self::V4
    }
}

/// The choices of one lab.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the household hands out: DHCPv4, RA, or both.
    pub household: Families,
    /// Which addresses the gateway's name has.
    pub gate_name: Families,
    /// Whether the household's DHCP server pings a new address for 3 s before it gives it out, as dnsmasq does
    /// unless told `--no-ping`.
    pub dhcp_ping: bool,
    /// Seconds to the DHCP client's renewal (T1, 3 and up; T2 is two thirds on the way to the end), or the server's default:
    /// half of the shortest lease, which is 120 s in dnsmasq.
    pub renew_after: Option<u32>,
    /// Seconds between the household's unsolicited RAs, and their router lifetime. dnsmasq takes 4 and up.
    pub ra: (u16, u16),
    /// Whether addresses come by DHCPv6 alone and no prefix is on-link (RFC 5942), as at providers without a router of one's own.
    pub off_link: bool,
    /// The MTU that the household's RAs announce, or its device's.
    pub ra_mtu: Option<u16>,
    /// Time to live in seconds of what the authoritative server answers.
    pub dns_ttl: u32,
    /// Whether there is another household, to be plugged in at the node ([`Lab::plug_modem`](crate::Lab::plug_modem)).
    pub modem: bool,
    /// Whether the lab outlives the process that made it.
    pub detached: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            household: Families::Both,
            gate_name: Families::Both,
            dhcp_ping: false,
            renew_after: None,
            ra: (4, 120),
            off_link: false,
            ra_mtu: None,
            dns_ttl: 60,
            modem: false,
            detached: false,
        }
    }
}
