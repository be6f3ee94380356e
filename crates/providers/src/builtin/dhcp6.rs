//! A DHCP client for IPv6 (RFC 8415) as a machine without I/O.
//!
//! In: what Router Advertisements say of DHCPv6, messages, the device's addresses, time. Out: messages, all of them to all
//! servers of the link; the lease that is held, and information that came without one.
//!
//! ```text
//!         M flag                ADVERTISE               REPLY
//!   Idle ────────> Soliciting ────────────> Requesting ───────> Bound ──T1──> Renewing ──T2──> Rebinding
//!     │                 └──────────REPLY with rapid commit────────^ <───────────REPLY─┴──────────────┘
//!     ├─ carrier back, a lease is held ──> Confirming ──silence───┘           NoBinding: Requesting, the same addresses
//!     └─ M flag, a lease of an earlier life is known ──> Returning ──REPLY──> Bound, or silence or a no ──> Soliciting
//! ```
//!
//! An Information-request goes out beside that, where only the O flag is set, or where nobody has had an address to give.
//!
//! The lease is held apart from the phase, as with DHCPv4. What was lent before a reboot is asked for by Rebind (18.2.5), not by Confirm (18.2.3), since nobody
//! knows what is left of its time. Where we leave the RFC: no random wait before the first
//! message; the first usable offer is taken, instead of waiting a second for a better one; questions are repeated every 8 s
//! at the latest in the first minute, and every 120 s from then on unless the server says otherwise (`SOL_MAX_RT`), because
//! the node may have nothing until it is answered; RELEASE and DECLINE are said once.

mod answers;
mod ask;
mod lease;
mod told;

use super::ra::earlier;
use super::{EAGER, EAGER_GAP, Random};
use alloc::vec::Vec;
use ask::Ask;
use core::net::Ipv6Addr;
use core::time::Duration;
pub use lease::Held;
use lease::Information;
use narrowgate_model::Time;
use narrowgate_model::net::Address;
use narrowgate_wire::dhcp6::{self, Refused, Request, RequestKind, status};

/// One client, on one device.
pub struct Dhcp6 {
    mac: [u8; 6],
    random: Random,
    /// There is a carrier and a link-local address.
    ready: bool,
    wanted: Wanted,
    phase: Phase,
    ask: Ask,
    /// What is asked for in [`Phase::Requesting`]: the server's identifier and its addresses.
    offer: (Vec<u8>, Vec<Ipv6Addr>),
    held: Option<Held>,
    /// What was lent in an earlier life.
    wish: Vec<Ipv6Addr>,
    /// A server has said that it has no address.
    fruitless: bool,
    /// The Information-request under way.
    inform: Option<Ask>,
    information: Option<Information>,
    most_solicit: Duration,
    most_inform: Duration,
    declined: u32,
    out: Vec<Vec<u8>>,
    counts: Counts,
}

/// What Router Advertisements say that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// No DHCPv6.
    Nothing,
    /// DNS servers and the like (O flag).
    Information,
    /// Addresses, and the rest with them (M flag).
    Addresses,
}

/// Where the client stands with its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing to ask for, or nobody to ask.
    Idle,
    /// Asks everybody for an address.
    Soliciting,
    /// Asks one server for what it has offered, or what it has forgotten.
    Requesting,
    /// Asks any server for what was lent in an earlier life.
    Returning,
    /// Asks whether its addresses belong to this link.
    Confirming,
    /// Has a lease.
    Bound,
    /// Asks the server that gave the lease to extend it.
    Renewing,
    /// Asks any server to extend it.
    Rebinding,
    /// Waits before it solicits anew.
    Waiting,
}

/// What came in and went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Leases given or extended, and information.
    pub replies: u64,
    /// Answers that refused something.
    pub refusals: u64,
    /// Answers for others, or that were not waited for.
    pub foreign: u64,
    /// Answers that made no sense.
    pub malformed: u64,
}

impl Dhcp6 {
    /// A client for the device with this address, which would like to have these addresses again.
    pub fn new(mac: [u8; 6], wish: Vec<Ipv6Addr>, now: Time, random: Random) -> Dhcp6 {
        Dhcp6 {
            mac,
            random,
            ready: false,
            wanted: Wanted::Nothing,
            phase: Phase::Idle,
            ask: Ask::none(now),
            offer: (Vec::new(), Vec::new()),
            held: None,
            wish,
            fruitless: false,
            inform: None,
            information: None,
            most_solicit: MOST,
            most_inform: MOST,
            declined: 0,
            out: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// What there is to ask for, and whether there is a carrier and an address to ask from. To be called whenever one of
    /// them may have changed; what is lent stays when it is not offered any more.
    pub fn on_link(&mut self, ready: bool, wanted: Wanted, now: Time) {
        let came = ready && !self.ready;
        (self.ready, self.wanted) = (ready, wanted);
        if !ready {
            self.phase = Phase::Idle;
            self.inform = None;
            self.out.clear();
            if let Some(held) = &mut self.held {
                held.unseen(); // what vanishes now says nothing about neighbours
            }
            return;
        }
        if came && let Some(information) = &mut self.information {
            information.again = now; // perhaps this is another network (RFC 8415, 18.2.12)
        }
        match self.phase {
            Phase::Idle if self.held.is_some() => self.begin(Phase::Confirming, now),
            Phase::Idle if wanted == Wanted::Addresses && !self.wish.is_empty() => {
                self.begin(Phase::Returning, now);
            }
            Phase::Idle if wanted == Wanted::Addresses => self.begin(Phase::Soliciting, now),
            Phase::Soliciting | Phase::Returning | Phase::Requesting | Phase::Waiting
                if wanted != Wanted::Addresses && self.held.is_none() =>
            {
                self.phase = Phase::Idle;
            }
            _ => {}
        }
        self.informing(now);
    }

    /// A lease of a run before this one, whose addresses still stand on the device: it holds, but is confirmed first (RFC 8415, 18.2.12).
    pub fn adopt(&mut self, held: Held) {
        if self.held.is_none() && !held.addresses.is_empty() {
            self.held = Some(held);
            self.phase = Phase::Idle;
        }
    }

    /// What stands on the device. A leased address whose duplicate address detection failed, or that has vanished soon after
    /// it was set, is somebody else's: it is declined.
    pub fn on_addresses(&mut self, addresses: &[Address], now: Time) {
        let Some(held) = &mut self.held else { return };
        let taken = held.taken(addresses, now);
        if taken.is_empty() {
            return;
        }
        let (server, empty) = (held.server.clone(), held.addresses.is_empty());
        self.say(RequestKind::Decline, &server, &taken, now);
        self.declined = self.declined.saturating_add(1);
        if empty {
            self.held = None;
            if self.declined > DECLINES {
                self.wait(DECLINE_WAIT, now);
            } else {
                self.restart(now);
            }
        }
    }

    /// This is another network: nothing of what was learnt holds.
    pub fn forget(&mut self, now: Time) {
        self.held = None;
        self.information = None;
        self.inform = None;
        self.restart(now);
        self.informing(now);
    }

    /// A message that came to port 546.
    pub fn receive(&mut self, message: &[u8], now: Time) {
        self.on_timer(now);
        let inform = self.inform.as_ref().map(|inform| (inform.xid, inform.asked));
        if let Some((xid, asked)) = inform
            && let Ok(answer) = dhcp6::parse(message, xid, None)
        {
            self.limits(&answer);
            if !answer.advertise && answer.status == status::SUCCESS {
                self.counts.replies += 1;
                self.information = Some(Information::of(answer, asked));
                self.inform = None;
            } else {
                self.counts.refusals += 1;
            }
            return;
        }
        let refused = match dhcp6::parse(message, self.ask.xid, Some(self.mac)) {
            Ok(answer) if self.is_waiting() => {
                self.answered(answer, now);
                if let Some(held) = self.held.as_mut().filter(|held| held.message.is_empty()) {
                    held.message = message.to_vec();
                }
                return;
            }
            Ok(_) => Refused::Foreign,
            Err(refused) => refused,
        };
        match refused {
            Refused::Foreign => self.counts.foreign += 1,
            Refused::Malformed => self.counts.malformed += 1,
        }
    }

    /// Ends what is over, repeats what was not answered, goes on to the next phase.
    pub fn on_timer(&mut self, now: Time) {
        if let Some(held) = &mut self.held {
            held.expire(now);
            if held.addresses.is_empty() {
                self.held = None;
                if self.phase != Phase::Requesting {
                    self.restart(now);
                }
            }
        }
        self.information.take_if(|information| information.end() <= now);
        if self.phase != Phase::Idle && self.ask.at.take_if(|at| *at <= now).is_some() {
            match self.phase {
                Phase::Idle => {}
                Phase::Waiting => self.restart(now),
                Phase::Requesting if self.ask.sent >= REQUEST_TRIES => {
                    self.held = None;
                    self.restart(now);
                }
                Phase::Confirming if self.ask.sent >= CONFIRM_TRIES => self.bound(now),
                Phase::Returning if self.ask.sent >= RETURN_TRIES => self.restart(now),
                Phase::Bound | Phase::Renewing | Phase::Rebinding => self.extend(now),
                Phase::Soliciting | Phase::Returning | Phase::Requesting | Phase::Confirming => {
                    self.send(now);
                }
            }
        }
        self.informing(now);
    }

    /// When [`on_timer`](Self::on_timer) is to be called.
    pub fn next_timeout(&self) -> Option<Time> {
        let mut next = self.ask.at.filter(|_| self.phase != Phase::Idle);
        if let Some(held) = &self.held {
            next = earlier(next, held.next_end());
        }
        if let Some(information) = &self.information {
            let again = self.inform.is_none() && self.wants_information();
            next = earlier(next, Some(if again { information.again } else { information.end() }));
        }
        earlier(next, self.inform.as_ref().and_then(|inform| inform.at))
    }

    /// Whether answers are waited for, or there is something to send.
    pub fn needs_socket(&self) -> bool {
        self.is_waiting() || self.inform.is_some() || !self.out.is_empty()
    }

    /// What is to be sent now, the oldest first.
    pub fn take_out(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.out)
    }

    /// The lease, as long as it holds.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Where the client stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What came in and went out.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Gives the lease back, if there is one, and stops.
    pub fn stop(&mut self, now: Time) {
        if let Some(held) = self.held.take() {
            self.say(RequestKind::Release, &held.server, &held.list(), now);
        }
        self.phase = Phase::Idle;
        (self.ready, self.wanted) = (false, Wanted::Nothing);
        self.inform = None;
        self.information = None;
    }

    fn is_waiting(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Bound | Phase::Waiting)
    }

    /// Nothing to do until the lease is to be extended.
    fn bound(&mut self, now: Time) {
        self.phase = Phase::Bound;
        let renew = self.held.as_ref().and_then(|held| held.renew);
        self.ask = Ask { at: renew.map(|at| at.max(now + MIN_RENEW)), ..Ask::none(now) };
    }

    /// Asks for the lease's extension: the server that gave it until T2, then everybody.
    fn extend(&mut self, now: Time) {
        let Some(held) = &self.held else { return self.restart(now) };
        let (rebind, end) = (held.rebind, held.end());
        let phase = if rebind.is_some_and(|t| t <= now) { Phase::Rebinding } else { Phase::Renewing };
        if self.phase == phase {
            self.send(now)
        } else {
            self.begin(phase, now)
        }
        // The next phase comes in time; the lease's end has its own deadline.
        let next = if phase == Phase::Rebinding { end } else { rebind.or(end) };
        if let Some((at, next)) = self.ask.at.as_mut().zip(next.filter(|t| *t > now)) {
            *at = next.min(*at);
        }
    }

    /// Without a lease, from the beginning.
    fn restart(&mut self, now: Time) {
        match self.ready && self.wanted == Wanted::Addresses {
            true => self.begin(Phase::Soliciting, now),
            false => self.phase = Phase::Idle,
        }
    }

    fn wait(&mut self, span: Duration, now: Time) {
        self.phase = Phase::Waiting;
        self.ask = Ask { at: Some(now + span), ..Ask::none(now) };
    }

    /// Begins a phase with its first message.
    fn begin(&mut self, phase: Phase, now: Time) {
        self.phase = phase;
        self.ask = Ask::new(&mut self.random, now);
        self.send(now);
    }

    /// Sends what the phase asks, once more, and sets the timer.
    fn send(&mut self, now: Time) {
        use RequestKind::*;
        let eager = now.since(self.ask.began) < EAGER;
        let (kind, first, most) = match self.phase {
            Phase::Soliciting => (Solicit, FIRST_GAP, if eager { EAGER_GAP } else { self.most_solicit }),
            Phase::Requesting => (Request, FIRST_GAP, REQUEST_MOST),
            Phase::Returning => (Rebind, RETURN_FIRST, RETURN_FIRST * 2),
            Phase::Confirming => (Confirm, FIRST_GAP, CONFIRM_MOST),
            Phase::Renewing => (Renew, EXTEND_FIRST, EXTEND_MOST),
            Phase::Rebinding => (Rebind, EXTEND_FIRST, EXTEND_MOST),
            Phase::Idle | Phase::Bound | Phase::Waiting => return,
        };
        self.ask.repeat(first, most, &mut self.random, now);
        let list = self.held.as_ref().map(Held::list).unwrap_or_default();
        let (server, addresses) = match (self.phase, &self.held) {
            (Phase::Requesting, _) => (Some(self.offer.0.as_slice()), self.offer.1.as_slice()),
            (Phase::Returning | Phase::Soliciting, None) => (None, self.wish.as_slice()),
            (Phase::Renewing, Some(held)) => (Some(held.server.as_slice()), list.as_slice()),
            _ => (None, list.as_slice()),
        };
        let (xid, elapsed, mac) = (self.ask.xid, now.since(self.ask.began), self.mac);
        self.out.push(dhcp6::Request { kind, xid, elapsed, mac, server, addresses }.build());
        self.counts.sent += 1;
    }

    /// Sends a message whose answer is not waited for.
    fn say(&mut self, kind: RequestKind, server: &[u8], addresses: &[Ipv6Addr], now: Time) {
        let xid = Ask::new(&mut self.random, now).xid;
        let (server, mac) = (Some(server), self.mac);
        self.out.push(Request { kind, xid, elapsed: Duration::ZERO, mac, server, addresses }.build());
        self.counts.sent += 1;
    }

    /// Whether information is to be had without an address.
    fn wants_information(&self) -> bool {
        let returns = self.phase == Phase::Returning;
        let in_vain = self.held.is_none() && !returns && (self.fruitless || self.ask.sent >= SOLICITS_ALONE);
        self.ready
            && match self.wanted {
                Wanted::Nothing => false,
                Wanted::Information => true,
                Wanted::Addresses => in_vain,
            }
    }

    /// Begins, repeats or ends the Information-request.
    fn informing(&mut self, now: Time) {
        if !self.wants_information() {
            self.inform = None;
            return;
        }
        if self.inform.is_none() && self.information.as_ref().is_none_or(|i| i.again <= now) {
            self.inform = Some(Ask::new(&mut self.random, now));
        }
        let Some(inform) = self.inform.as_mut().filter(|ask| ask.at.is_none_or(|at| at <= now)) else {
            return;
        };
        let most = if now.since(inform.began) < EAGER { EAGER_GAP } else { self.most_inform };
        inform.repeat(FIRST_GAP, most, &mut self.random, now);
        let (xid, elapsed, mac) = (inform.xid, now.since(inform.began), self.mac);
        let kind = RequestKind::Information;
        self.out.push(Request { kind, xid, elapsed, mac, server: None, addresses: &[] }.build());
        self.counts.sent += 1;
    }
}

/// From the first question to the second; doubles from then on.
const FIRST_GAP: Duration = Duration::from_secs(1);
/// The longest gap, unless a server says another.
const MOST: Duration = Duration::from_secs(120);
/// Requests for what was offered: then the server is gone.
const REQUEST_TRIES: u32 = 4;
const REQUEST_MOST: Duration = Duration::from_secs(30);
/// As DHCPv4's INIT-REBOOT: then anything will do.
const RETURN_TRIES: u32 = 2;
const RETURN_FIRST: Duration = Duration::from_millis(300);
/// Then what is held is used on: nobody has said no.
const CONFIRM_TRIES: u32 = 3;
const CONFIRM_MOST: Duration = Duration::from_secs(4);
const EXTEND_FIRST: Duration = Duration::from_secs(10);
const EXTEND_MOST: Duration = Duration::from_secs(600);
/// Whatever the server says, it is not asked more often.
const MIN_RENEW: Duration = Duration::from_secs(1);
/// After so many Solicits information is asked for alone, too.
const SOLICITS_ALONE: u32 = 2;
/// After an answer that refused what its sender had offered.
const REFUSED_WAIT: Duration = Duration::from_secs(10);
/// So many addresses are declined without a pause.
const DECLINES: u32 = 3;
const DECLINE_WAIT: Duration = Duration::from_secs(10);
