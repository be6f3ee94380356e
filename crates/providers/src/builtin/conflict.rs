//! Whether somebody else has the leased IPv4 address (RFC 5227), as a machine without I/O.
//!
//! The address is in use from the moment of the lease: the tunnel does not wait the 5 s that the RFC's probing takes. The
//! probes go out beside that, once the address stands on the device, since by then the guard lets them pass. While nothing
//! is heard the address is announced, and watched for as long as it is leased.

use super::Random;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_wire::dhcp4::arp;

/// One address on one device.
pub struct Conflict {
    mac: [u8; 6],
    random: Random,
    address: Option<Ipv4Addr>,
    /// Probes and announcements sent.
    sent: u32,
    at: Option<Time>,
    defended: Option<Time>,
    /// Kept although somebody else has it, or seems to.
    resigned: bool,
    out: Vec<Vec<u8>>,
}

impl Conflict {
    /// For the device with this hardware address.
    pub fn new(mac: [u8; 6], random: Random) -> Conflict {
        Conflict {
            mac,
            random,
            address: None,
            sent: 0,
            at: None,
            defended: None,
            resigned: false,
            out: Vec::new(),
        }
    }

    /// The leased address, once it stands on the device; none: there is none, or no carrier.
    pub fn watch(&mut self, address: Option<Ipv4Addr>, now: Time) {
        if address == self.address {
            return;
        }
        self.address = address;
        self.sent = 0;
        self.defended = None;
        self.resigned = false;
        self.out.clear();
        self.at = address.map(|_| now + Duration::from_millis(u64::from((self.random)() % FIRST_WAIT)));
    }

    /// The address that is watched.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.address
    }

    /// Whether nobody has answered all that was sent, nor for a while since.
    pub fn is_undisputed(&self) -> bool {
        self.address.is_some() && !self.resigned && self.sent > ALL
    }

    /// The address is kept, whatever anybody says.
    pub fn resign(&mut self) {
        self.resigned = true;
        self.at = None;
    }

    /// An ARP packet came. True: the address is somebody else's. Once it is claimed it is defended once, and given up if
    /// that does not help (RFC 5227, 2.4 b).
    pub fn receive(&mut self, packet: &[u8], now: Time) -> bool {
        let other = |(mac, address)| Some(address) == self.address && mac != self.mac;
        if self.resigned || !arp::sender(packet).is_some_and(other) {
            return false;
        }
        let again = self.defended.is_some_and(|t| now.since(t) < DEFEND);
        if self.sent <= PROBES || again {
            return true;
        }
        self.defended = Some(now);
        self.out.extend(self.address.map(|address| arp::announcement(self.mac, address)));
        false
    }

    /// Sends the next probe or announcement when it is time.
    pub fn on_timer(&mut self, now: Time) {
        if self.at.take_if(|at| *at <= now).is_none() {
            return;
        }
        let Some(address) = self.address else { return };
        match self.sent {
            0..PROBES => self.out.push(arp::probe(self.mac, address)),
            PROBES..ALL => self.out.push(arp::announcement(self.mac, address)),
            _ => {}
        }
        self.sent += 1;
        let wait = match self.sent {
            1..PROBES => 1000 + (self.random)() % 1000,
            PROBES..ALL => 2000,
            ALL => QUIET,
            _ => return,
        };
        self.at = Some(now + Duration::from_millis(wait.into()));
    }

    /// When [`on_timer`](Self::on_timer) is to be called.
    pub fn next_timeout(&self) -> Option<Time> {
        self.at
    }

    /// ARP packets to send to everybody.
    pub fn take_out(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.out)
    }
}

/// RFC 5227, 1.1: probes 1 to 2 s apart, announcements 2 s, and how long one defence has to last.
const PROBES: u32 = 3;
const ANNOUNCEMENTS: u32 = 2;
const ALL: u32 = PROBES + ANNOUNCEMENTS;
const DEFEND: Duration = Duration::from_secs(10);
/// Milliseconds after the last announcement.
const QUIET: u32 = 10_000;
/// Milliseconds before the first probe, at most. The RFC has 1000, for networks whose nodes all get power at once.
const FIRST_WAIT: u32 = 250;
