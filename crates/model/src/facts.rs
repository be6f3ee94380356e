//! What is known of an uplink now. Providers write it, policy reads it.

use crate::net::Link;
use crate::{Prefix, Server, Time};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

/// Everything known of one uplink at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The device, if it exists.
    pub link: Option<Link>,
    /// Addresses that the uplink gave us and that we are to set. Empty where a foreign manager sets them.
    pub addresses: Vec<AddressFact>,
    /// Routes that the uplink offers: default routes, on-link prefixes, more specific ones.
    pub routes: Vec<RouteFact>,
    /// DNS servers, the best first.
    pub dns: Vec<DnsFact>,
    /// DNS search domains (RDNSS/DNSSL, DHCP option 15 and 119): told, never used.
    pub search: Vec<String>,
    /// Captive portals (RFC 8910), the one to be believed first: told, never asked.
    pub portals: Vec<PortalFact>,
    /// NAT64 prefixes (RFC 8781): told, never used.
    pub nat64: Vec<Nat64Fact>,
    /// The IPv6 MTU that Router Advertisements tell, bytes (RFC 4861, 4.6.4); 1280 at least.
    pub mtu: Option<u32>,
}

/// Whether an uplink can carry something, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UplinkState {
    /// There is no device of that name.
    NoDevice,
    /// The device is administratively down.
    Down,
    /// The device is up, but nothing is at the other end of the cable.
    NoCarrier,
    /// Carrier, but neither address nor DNS server yet.
    Waiting,
    /// A DNS server and a way to it are known.
    Up,
}

impl Facts {
    /// In one word.
    pub fn state(&self) -> UplinkState {
        match &self.link {
            None => UplinkState::NoDevice,
            Some(link) if !link.up => UplinkState::Down,
            Some(link) if !link.carrier => UplinkState::NoCarrier,
            Some(_) if self.dns.is_empty() || self.routes.is_empty() => UplinkState::Waiting,
            Some(_) => UplinkState::Up,
        }
    }
}

/// Where a fact was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A Router Advertisement (RFC 4861).
    Ra,
    /// DHCP for IPv4 (RFC 2131).
    Dhcp4,
    /// DHCP for IPv6 (RFC 8415).
    Dhcp6,
    /// netifd, over ubus.
    Netifd,
    /// systemd-networkd's state files.
    Networkd,
    /// NetworkManager, by nmcli.
    NetworkManager,
    /// What a hook of another manager handed over.
    Hook,
    /// The config.
    Config,
}

impl Origin {
    /// As `status` and the log call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Ra => "RA",
            Origin::Dhcp4 => "DHCPv4",
            Origin::Dhcp6 => "DHCPv6",
            Origin::Netifd => "netifd",
            Origin::Networkd => "networkd",
            Origin::NetworkManager => "NetworkManager",
            Origin::Hook => "hook",
            Origin::Config => "config",
        }
    }
}

/// An address to set on the uplink, without a prefix route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressFact {
    /// The address with its prefix length.
    pub prefix: Prefix,
    /// IPv4 broadcast address, if one was told.
    pub broadcast: Option<Ipv4Addr>,
    /// From then on new connections prefer another address (RFC 4862, 5.5.4). `None`: never.
    pub preferred_until: Option<Time>,
    /// From then on it is not ours any more. `None`: never.
    pub valid_until: Option<Time>,
    /// Where it was learnt.
    pub origin: Origin,
}

/// A route that the uplink offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFact {
    /// Where to; the network, host bits clear.
    pub dst: Prefix,
    /// By which router; `None`: on-link.
    pub via: Option<IpAddr>,
    /// RFC 4191 preference; medium for everything else.
    pub preference: Preference,
    /// Until when. `None`: for ever.
    pub until: Option<Time>,
    /// Where it was learnt.
    pub origin: Origin,
}

/// Router preference (RFC 4191, 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Preference {
    /// Only if there is no other.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Before all others.
    High,
}

/// A DNS server that the uplink offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsFact {
    /// Where to ask; link-local ones carry their device.
    pub server: Server,
    /// Until when (RFC 8106, 5.1). `None`: for ever.
    pub until: Option<Time>,
    /// Where it was learnt.
    pub origin: Origin,
}

/// Where a network that wants to be asked first says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalFact {
    /// Its API (RFC 8908), as the network wrote it.
    pub uri: String,
    /// Where it was learnt.
    pub origin: Origin,
}

/// A prefix through which IPv4 is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat64Fact {
    /// The prefix.
    pub prefix: Prefix,
    /// Until when.
    pub until: Option<Time>,
    /// Where it was learnt.
    pub origin: Origin,
}
