//! A DHCP client for IPv4 (RFC 2131, 4.4) as a machine without I/O.
//!
//! In: carrier, messages that came to port 68, time. Out: messages to send, and the lease that is held.
//!
//! ```text
//!            carrier                  OFFER                   ACK
//!   Idle ─────────────> Selecting ───────────> Requesting ───────────> Bound ──T1──> Renewing ──T2──> Rebinding
//!     └─ (a lease is ───> Rebooting ──────────────ACK────────────────────^ <──────────ACK──┴──────────────┘
//!         remembered)        └─ silence: Selecting                          a NAK or the lease's end: Selecting
//! ```
//!
//! The lease is held apart from the state: after the carrier was away, or while a server does not answer, it stays in use
//! until its time is over, a NAK takes it away or another network's server gives a new one.
//!
//! Where we leave the RFC: the first question goes out at once instead of after 1 to 10 s, and is repeated after 1, 2, 4 s
//! instead of 4, 8, 16, every 8 s in the first minute and every 32 s from then on, because the node has nothing until it is
//! answered. While a lease is being extended a question is
//! repeated after 10 s at the soonest instead of 60, since household leases can be short.

mod told;

use super::{EAGER, EAGER_GAP, NUDGE, Random};
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_wire::dhcp4::{self, Lease, Reply, Request, RequestKind};

/// One client, on one device.
pub struct Dhcp4 {
    mac: [u8; 6],
    random: Random,
    phase: Phase,
    held: Option<Held>,
    /// The address that we had last; asked for again.
    wish: Option<Ipv4Addr>,
    xid: u32,
    /// When we began to ask.
    began: Time,
    /// When the request that is now waited for was sent first: lifetimes count from there.
    asked: Time,
    /// Messages sent in this phase, and when the last one was.
    sent: u32,
    last: Time,
    timer: Option<Time>,
    naks: u32,
    out: Vec<Send>,
    counts: Counts,
}

/// A lease with the message that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What was given.
    pub lease: Lease,
    /// When it was asked for: its times count from there.
    pub asked: Time,
    /// The ACK as it came, for keeping.
    pub message: Vec<u8>,
}

/// A message to send, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Send {
    /// From this address, which may be unspecified, to everybody on the link, by a packet socket.
    Broadcast(Ipv4Addr, Vec<u8>),
    /// From the leased address (first) to the server's (second), by a marked UDP socket.
    Unicast(Ipv4Addr, Ipv4Addr, Vec<u8>),
}

/// Where the client stands (RFC 2131, figure 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No carrier, or stopped.
    Idle,
    /// Asks for its last address again (INIT-REBOOT).
    Rebooting,
    /// Asks everybody for an address.
    Selecting,
    /// Asks one server for what it has offered.
    Requesting {
        /// The address.
        address: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
    },
    /// Has a lease.
    Bound,
    /// Asks the server that gave the lease to extend it.
    Renewing,
    /// Asks any server to extend it.
    Rebinding,
    /// Waits before it begins anew: too many NAKs, or somebody else has the address.
    Waiting,
}

/// What came in and went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Leases given or extended.
    pub acks: u64,
    /// Refusals.
    pub naks: u64,
    /// Answers for others, or that were not waited for.
    pub foreign: u64,
    /// Answers that made no sense.
    pub malformed: u64,
}

impl Dhcp4 {
    /// A client for the device with this address. `wish` is the address of an earlier run, to be asked for again.
    pub fn new(mac: [u8; 6], wish: Option<Ipv4Addr>, now: Time, random: Random) -> Dhcp4 {
        Dhcp4 {
            mac,
            random,
            phase: Phase::Idle,
            held: None,
            wish,
            xid: 0,
            began: now,
            asked: now,
            sent: 0,
            last: now,
            timer: None,
            naks: 0,
            out: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// An earlier run's lease whose address still stands on the device: held, while it is asked for again, unless its
    /// time is over or something newer is known.
    pub fn adopt(&mut self, kept: Held, now: Time) {
        let fresh = self.counts.acks == 0 && self.counts.naks == 0 && self.held.is_none();
        if fresh && kept.end().is_none_or(|end| end > now) {
            self.held = Some(kept);
        }
    }

    /// The carrier came or went.
    pub fn on_carrier(&mut self, carrier: bool, now: Time) {
        if carrier != (self.phase == Phase::Idle) {
            return;
        }
        if carrier {
            self.begin(if self.wish.is_some() { Phase::Rebooting } else { Phase::Selecting }, now);
        } else {
            self.phase = Phase::Idle;
            self.timer = None;
            self.out.clear();
        }
    }

    /// There is a sign of life from the household: if it has not answered yet, it may now.
    pub fn nudge(&mut self, now: Time) {
        if self.phase == Phase::Selecting && now.since(self.last) >= NUDGE {
            self.begin(Phase::Selecting, now);
        }
    }

    /// A message that came to port 68.
    pub fn receive(&mut self, message: &[u8], now: Time) {
        self.on_timer(now);
        let reply = match dhcp4::parse(message, self.xid, self.mac) {
            Ok(reply) => reply,
            Err(dhcp4::Refused::Foreign) => return self.counts.foreign += 1,
            Err(dhcp4::Refused::Malformed | dhcp4::Refused::Unusable(_)) => {
                return self.counts.malformed += 1;
            }
        };
        let asking = match self.phase {
            Phase::Requesting { server, .. } => Some(Some(server)),
            Phase::Rebooting | Phase::Renewing | Phase::Rebinding => Some(None),
            _ => None,
        };
        match (reply, asking) {
            (Reply::Offer(lease), None) if self.phase == Phase::Selecting => {
                self.enter(Phase::Requesting { address: lease.ip(), server: lease.server }, now);
            }
            (Reply::Ack(lease), Some(from)) if from.is_none_or(|s| s == lease.server) => {
                let held = Held { lease, asked: self.asked, message: message.to_vec() };
                if held.end().is_some_and(|end| end <= now) {
                    return self.counts.foreign += 1; // so late that it is over already
                }
                self.bind(held, now);
            }
            // A NAK without a server's name can only be for us: it has our transaction id.
            (Reply::Nak(by), Some(from)) if from.is_none() || by.is_none() || by == from => self.refused(now),
            _ => self.counts.foreign += 1,
        }
    }

    /// Ends a lease whose time is over, repeats what was not answered, goes on to the next phase.
    pub fn on_timer(&mut self, now: Time) {
        if self.held.as_ref().and_then(Held::end).is_some_and(|end| end <= now) {
            self.held = None;
            if matches!(self.phase, Phase::Bound | Phase::Renewing | Phase::Rebinding) {
                self.begin(Phase::Selecting, now);
            }
        }
        if self.timer.is_none_or(|t| t > now) {
            return;
        }
        self.timer = None;
        match self.phase {
            Phase::Idle => {}
            Phase::Waiting => self.begin(Phase::Selecting, now),
            Phase::Rebooting if self.sent >= REBOOT_TRIES => self.begin(Phase::Selecting, now),
            Phase::Requesting { .. } if self.sent >= REQUEST_TRIES => self.begin(Phase::Selecting, now),
            Phase::Rebooting | Phase::Selecting | Phase::Requesting { .. } => self.send(now),
            Phase::Bound | Phase::Renewing | Phase::Rebinding => self.extend(now),
        }
    }

    /// When [`on_timer`](Self::on_timer) is to be called.
    pub fn next_timeout(&self) -> Option<Time> {
        self.timer.into_iter().chain(self.held.as_ref().and_then(Held::end)).min()
    }

    /// What is to be sent now, the oldest first.
    pub fn take_out(&mut self) -> Vec<Send> {
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
            let (address, server) = (held.lease.ip(), held.lease.server);
            self.new_xid();
            let message = self.message(RequestKind::Release { address, server }, now);
            self.out.push(Send::Unicast(address, server, message));
        }
        self.phase = Phase::Idle;
        self.timer = None;
        self.wish = None;
    }

    /// Somebody else uses the leased address (RFC 2131, 3.1, 5; RFC 5227): tells the server and begins anew, later.
    pub fn conflict(&mut self, now: Time) {
        if let Some(held) = self.held.take() {
            let (address, server) = (held.lease.ip(), held.lease.server);
            self.new_xid();
            let message = self.message(RequestKind::Decline { address, server }, now);
            self.out.push(Send::Broadcast(Ipv4Addr::UNSPECIFIED, message));
            self.wish = None;
            self.wait(DECLINE_WAIT, now);
        }
    }

    /// Begins to ask, with a new transaction.
    fn begin(&mut self, phase: Phase, now: Time) {
        self.began = now;
        self.new_xid();
        self.enter(phase, now);
    }

    /// Goes on to a phase that begins with a message.
    fn enter(&mut self, phase: Phase, now: Time) {
        self.phase = phase;
        self.sent = 0;
        self.asked = now;
        self.send(now);
    }

    /// Sends what the phase asks, once more, and sets the timer.
    fn send(&mut self, now: Time) {
        let (kind, wait) = match self.phase {
            Phase::Rebooting => match self.wish {
                Some(address) => (RequestKind::Reboot { address }, REBOOT_WAIT * (1 + self.sent)),
                None => return,
            },
            Phase::Selecting => {
                let eager = now.since(self.began) < EAGER;
                let most = if eager { EAGER_GAP } else { DISCOVER_LAST };
                (RequestKind::Discover { wish: self.wish }, self.jitter(backoff(self.sent, most)))
            }
            Phase::Requesting { address, server } => {
                (RequestKind::Select { address, server }, self.jitter(backoff(self.sent, DISCOVER_LAST)))
            }
            _ => return,
        };
        let message = self.message(kind, now);
        self.out.push(Send::Broadcast(Ipv4Addr::UNSPECIFIED, message));
        self.sent = self.sent.saturating_add(1);
        self.last = now;
        self.timer = Some(now + wait);
    }

    /// Asks for the lease's extension: the server that gave it until T2, then everybody.
    fn extend(&mut self, now: Time) {
        let Some(held) = &self.held else { return self.begin(Phase::Selecting, now) };
        let (address, server) = (held.lease.ip(), held.lease.server);
        let (rebind, end) = (held.at(held.lease.rebind), held.end());
        let rebinding = rebind.is_some_and(|t| t <= now);
        let phase = if rebinding { Phase::Rebinding } else { Phase::Renewing };
        if self.phase == Phase::Bound {
            self.began = now;
            self.new_xid();
        }
        self.phase = phase;
        self.asked = now; // an ACK for an earlier one gets a little more than it says; by a network's round trip at most
        let message = self.message(RequestKind::Extend { address }, now);
        self.out.push(if rebinding {
            Send::Broadcast(address, message)
        } else {
            Send::Unicast(address, server, message)
        });
        // Half the time to the next phase (RFC 2131, 4.4.5). The lease's end has its own deadline.
        let next = if rebinding { end } else { rebind.or(end) };
        let left = next.map_or(EXTEND_LAST, |t| t.since(now));
        let wait = (left / 2).clamp(EXTEND_FIRST, EXTEND_LAST.max(EXTEND_FIRST));
        self.timer = Some(if rebinding { now + wait } else { now + wait.min(left) });
    }

    fn bind(&mut self, held: Held, now: Time) {
        self.counts.acks += 1;
        self.naks = 0;
        self.wish = Some(held.lease.ip());
        self.timer = held.at(held.lease.renew).map(|t| t.max(now + MIN_RENEW));
        self.phase = Phase::Bound;
        self.held = Some(held);
        self.xid = 0; // a second copy of the answer is for nobody
    }

    /// A NAK: what we had or wanted is not ours.
    fn refused(&mut self, now: Time) {
        self.counts.naks += 1;
        self.held = None;
        self.wish = None;
        self.naks = self.naks.saturating_add(1);
        match self.naks {
            1 => self.begin(Phase::Selecting, now),
            again => self.wait(backoff(again - 2, DISCOVER_LAST), now),
        }
    }

    fn wait(&mut self, span: Duration, now: Time) {
        self.phase = Phase::Waiting;
        self.xid = 0;
        self.timer = Some(now + self.jitter(span));
    }

    fn message(&mut self, kind: RequestKind, now: Time) -> Vec<u8> {
        self.counts.sent += 1;
        let secs = u16::try_from(now.since(self.began).as_secs()).unwrap_or(u16::MAX);
        Request { kind, xid: self.xid, secs, mac: self.mac }.build()
    }

    /// Never 0, which stands for: waiting for nothing.
    fn new_xid(&mut self) {
        self.xid = (self.random)().max(1);
    }

    /// Within an eighth of the span.
    fn jitter(&mut self, span: Duration) -> Duration {
        let eighth = u32::try_from(span.as_millis() / 8).unwrap_or(u32::MAX).max(1);
        span - Duration::from_millis(eighth.into())
            + Duration::from_millis(((self.random)() % eighth).into()) * 2
    }
}

impl Held {
    /// When the lease ends; `None`: never.
    pub fn end(&self) -> Option<Time> {
        self.at(self.lease.time)
    }

    fn at(&self, seconds: Option<u32>) -> Option<Time> {
        seconds.map(|s| self.asked + Duration::from_secs(s.into()))
    }
}

/// 1, 2, 4 s and so on.
fn backoff(times: u32, last: Duration) -> Duration {
    Duration::from_secs(1 << times.min(16)).min(last)
}

/// Questions for the last address, 300 and 600 ms apart: a server that does not know it says nothing at all.
const REBOOT_TRIES: u32 = 2;
const REBOOT_WAIT: Duration = Duration::from_millis(300);
/// Requests for what was offered: then the server is gone.
const REQUEST_TRIES: u32 = 4;
const DISCOVER_LAST: Duration = Duration::from_secs(32);
const DECLINE_WAIT: Duration = Duration::from_secs(10);
const EXTEND_FIRST: Duration = Duration::from_secs(10);
const EXTEND_LAST: Duration = Duration::from_secs(3600);
/// Whatever the server says, it is not asked more often.
const MIN_RENEW: Duration = Duration::from_secs(1);
