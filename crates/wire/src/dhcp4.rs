//! DHCP for IPv4 (RFC 2131), a client's side: the messages it sends, the leases it reads.
//!
//! Written by hand, with the crate dhcproto as the tests' oracle. Measured on x86_64 as style.md measures, dhcproto adds
//! 241 KB to a program whose whole goal is 1 MiB (it brings hickory-proto and with it ICU's tables), gives up a whole
//! message for one option that is malformed (households have such servers), and does not read overloaded fields
//! (RFC 2132, 9.3). [`packet`] has the IPv4 and UDP headers around it, for packet sockets.
//!
//! A client tells the household nothing but what it asks for: no host name, no vendor class (RFC 7844).

pub mod arp;
mod lease;
mod options;
pub mod packet;

pub use lease::{Lease, Unusable};

use alloc::vec::Vec;
use core::net::Ipv4Addr;
use options::Options;

/// The port that clients listen on.
pub const CLIENT_PORT: u16 = 68;
/// The port that servers listen on.
pub const SERVER_PORT: u16 = 67;

/// What a client sends (RFC 2131, table 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Message type and what goes with it alone.
    pub kind: RequestKind,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began to ask.
    pub secs: u16,
    /// The client's hardware address, which is also its client identifier (RFC 2132, 9.14, type 1).
    pub mac: [u8; 6],
}

/// The kinds of message that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Who has an address for me? With the one it would like to have.
    Discover {
        /// Option 50.
        wish: Option<Ipv4Addr>,
    },
    /// SELECTING: I take the one that this server offers.
    Select {
        /// The address that was offered.
        address: Ipv4Addr,
        /// Who offered it.
        server: Ipv4Addr,
    },
    /// INIT-REBOOT: is this one still mine?
    Reboot {
        /// The remembered address.
        address: Ipv4Addr,
    },
    /// RENEWING and REBINDING: let me keep the address that this message comes from.
    Extend {
        /// The address in use.
        address: Ipv4Addr,
    },
    /// I do not need it any more.
    Release {
        /// The address in use.
        address: Ipv4Addr,
        /// Whose it is.
        server: Ipv4Addr,
    },
    /// Somebody else uses it.
    Decline {
        /// The address that was leased.
        address: Ipv4Addr,
        /// Whose it is.
        server: Ipv4Addr,
    },
}

impl Request {
    /// The message, from its op byte to its end option, padded to the 300 bytes that old servers insist on (RFC 1542, 2.1).
    pub fn build(&self) -> Vec<u8> {
        use RequestKind::*;
        let (kind, in_use, wish, server) = match self.kind {
            Discover { wish } => (1, None, wish, None),
            Select { address, server } => (3, None, Some(address), Some(server)),
            Reboot { address } => (3, None, Some(address), None),
            Extend { address } => (3, Some(address), None, None),
            Decline { address, server } => (4, None, Some(address), Some(server)),
            Release { address, server } => (7, Some(address), None, Some(server)),
        };
        let mut m = Vec::with_capacity(MIN_LEN);
        m.extend([BOOT_REQUEST, ETHERNET, 6, 0]);
        m.extend(self.xid.to_be_bytes());
        m.extend(self.secs.to_be_bytes());
        m.extend([0, 0]); // no broadcast flag: packet sockets see unicast answers too
        m.extend(in_use.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        m.resize(CHADDR, 0);
        m.extend(self.mac);
        m.resize(options::COOKIE, 0);
        m.extend(options::MAGIC);
        m.extend([options::MESSAGE_TYPE, 1, kind]);
        m.extend([options::CLIENT_ID, 7, ETHERNET]);
        m.extend(self.mac);
        for (code, address) in [(options::REQUESTED, wish), (options::SERVER_ID, server)] {
            if let Some(address) = address {
                m.extend([code, 4]);
                m.extend(address.octets());
            }
        }
        if !matches!(self.kind, Release { .. } | Decline { .. }) {
            m.extend([options::MAX_SIZE, 2]);
            m.extend(MAX_MESSAGE.to_be_bytes());
            m.extend([options::PARAMETERS, WANTED.len() as u8]);
            m.extend(WANTED);
        }
        m.push(options::END);
        m.resize(m.len().max(MIN_LEN), 0);
        m
    }
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// An address that the client may select.
    Offer(Lease),
    /// The address is the client's now.
    Ack(Lease),
    /// The client must not use the address that it asked about. From this server, if it says so.
    Nak(Option<Ipv4Addr>),
}

/// The message is no answer to this client that could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Shorter than the fixed fields, no magic cookie, no message type, or not a server's.
    Malformed,
    /// For another client, or to another question.
    Foreign,
    /// The lease makes no sense.
    Unusable(Unusable),
}

/// Reads a message that came to the client's port, an answer to what it sent with `xid` and `mac`.
pub fn parse(message: &[u8], xid: u32, mac: [u8; 6]) -> Result<Reply, Refused> {
    let options = Options::new(message).ok_or(Refused::Malformed)?;
    if message.first() != Some(&BOOT_REPLY) {
        return Err(Refused::Malformed);
    }
    if message.get(4..8) != Some(&xid.to_be_bytes()) || message.get(CHADDR..CHADDR + 6) != Some(&mac) {
        return Err(Refused::Foreign);
    }
    match options.byte(options::MESSAGE_TYPE) {
        Some(2) => lease::read(message, &options).map(Reply::Offer).map_err(Refused::Unusable),
        Some(5) => lease::read(message, &options).map(Reply::Ack).map_err(Refused::Unusable),
        Some(6) => Ok(Reply::Nak(options.address(options::SERVER_ID))),
        _ => Err(Refused::Malformed),
    }
}

/// The transaction id of a message, for one that was kept.
pub fn transaction(message: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*message.get(4..)?.first_chunk()?))
}

const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const CHADDR: usize = 28;
const MIN_LEN: usize = 300;
/// The largest message that we take: a whole Ethernet packet.
const MAX_MESSAGE: u16 = 1500;
/// What we want to be told; 121 stands ahead of 3 and 33, as RFC 3442 asks.
const WANTED: [u8; 13] = [1, 121, 3, 6, 15, 28, 33, 51, 54, 58, 59, 114, 119];
