//! DHCP for IPv6 (RFC 8415), a client's side: the messages it sends, the answers it reads. Addresses (IA_NA) and other
//! configuration; no prefix delegation, since nothing behind the node is to be reached from an uplink.
//!
//! Written by hand for the reasons that [`crate::dhcp4`] gives; dhcproto is the tests' oracle.
//!
//! A client is known by its hardware address (DUID-LL, RFC 8415, 11.4), which is on every frame of its anyway and needs no
//! file. Who asks for information alone does not say who it is at all (RFC 7844, 4.3).

mod answer;

pub use answer::{Answer, Ia, Lent, Refused, parse};

use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

/// The port that clients listen on.
pub const CLIENT_PORT: u16 = 546;
/// The port that servers and relays listen on.
pub const SERVER_PORT: u16 = 547;
/// All servers and relays on the link: where clients send everything to (RFC 8415, 7.1).
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Status codes (RFC 8415, 21.13).
pub mod status {
    /// All is well; also where no status is told.
    pub const SUCCESS: u16 = 0;
    /// Something went wrong; to be tried again.
    pub const UNSPEC_FAIL: u16 = 1;
    /// The server has no address to lend.
    pub const NO_ADDRS_AVAIL: u16 = 2;
    /// The server does not know of the lease.
    pub const NO_BINDING: u16 = 3;
    /// The addresses do not belong to this link.
    pub const NOT_ON_LINK: u16 = 4;
}

/// What a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Message type.
    pub kind: RequestKind,
    /// Transaction id; the low 24 bits.
    pub xid: u32,
    /// Since the client began to ask.
    pub elapsed: Duration,
    /// The client's hardware address, which is who it is.
    pub mac: [u8; 6],
    /// Identifier of the server that alone is meant.
    pub server: Option<&'a [u8]>,
    /// The addresses that it is about, or would be liked.
    pub addresses: &'a [Ipv6Addr],
}

/// The kinds of message that a client sends, with their numbers (RFC 8415, 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Who has an address for me? He may give it at once (rapid commit).
    Solicit = 1,
    /// I take what this server has offered.
    Request = 3,
    /// Do these addresses belong to this link?
    Confirm = 4,
    /// Let me keep these addresses: to the server that lent them.
    Renew = 5,
    /// The same, to any server.
    Rebind = 6,
    /// I do not need them any more.
    Release = 8,
    /// Somebody else uses them.
    Decline = 9,
    /// What else is there to know, without an address?
    Information = 11,
}

impl Request<'_> {
    /// The message, as UDP carries it.
    pub fn build(&self) -> Vec<u8> {
        use RequestKind::*;
        let mut m = Vec::with_capacity(128);
        let [_, xid @ ..] = self.xid.to_be_bytes();
        m.push(self.kind as u8);
        m.extend(xid);
        let hundredths = u16::try_from(self.elapsed.as_millis() / 10).unwrap_or(u16::MAX);
        option(&mut m, ELAPSED, &hundredths.to_be_bytes());
        let wanted: &[u16] = match self.kind {
            Solicit | Request | Renew | Rebind => &[DNS, SEARCH, MOST_SOLICIT, PORTAL],
            Information => &[DNS, SEARCH, REFRESH, MOST_INFORM, PORTAL],
            Confirm | Release | Decline => &[],
        };
        if !wanted.is_empty() {
            let wanted: Vec<u8> = wanted.iter().flat_map(|code| code.to_be_bytes()).collect();
            option(&mut m, WANTED, &wanted);
        }
        if self.kind == Information {
            return m;
        }
        option(&mut m, CLIENT_ID, &duid(self.mac));
        if let Some(server) = self.server {
            option(&mut m, SERVER_ID, server);
        }
        if self.kind == Solicit {
            option(&mut m, RAPID_COMMIT, &[]);
        }
        let mut ia = iaid(self.mac).to_vec();
        ia.extend([0; 8]); // T1 and T2 are the server's to say
        for address in self.addresses {
            let mut content = address.octets().to_vec();
            content.extend([0; 8]); // lifetimes as well
            option(&mut ia, ADDRESS, &content);
        }
        option(&mut m, IA_NA, &ia);
        m
    }
}

fn option(to: &mut Vec<u8>, code: u16, content: &[u8]) {
    to.extend(code.to_be_bytes());
    to.extend((content.len() as u16).to_be_bytes()); // at most a server's identifier, which is bounded, or a few addresses
    to.extend(content);
}

/// Type 3, hardware type Ethernet, address.
fn duid([a, b, c, d, e, f]: [u8; 6]) -> [u8; 10] {
    [0, 3, 0, 1, a, b, c, d, e, f]
}

/// There is one identity association, and it has to be the same after a restart.
fn iaid([_, _, c, d, e, f]: [u8; 6]) -> [u8; 4] {
    [c, d, e, f]
}

const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const ADDRESS: u16 = 5;
const WANTED: u16 = 6;
const ELAPSED: u16 = 8;
const STATUS: u16 = 13;
const RAPID_COMMIT: u16 = 14;
const DNS: u16 = 23;
const SEARCH: u16 = 24;
const REFRESH: u16 = 32;
const MOST_SOLICIT: u16 = 82;
const MOST_INFORM: u16 = 83;
const PORTAL: u16 = 103;
