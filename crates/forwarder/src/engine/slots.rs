//! The sockets that are connected to servers, as the engine sees them: which queries are under way by which, and when one has
//! served long enough. A port is given away after a few queries or a moment, whichever is first, so that nobody can find it out and use it.

use super::queries::NEVER;
use super::{CannotAsk, Outside, SlotId, Transport};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use narrowgate_model::Time;

#[derive(Default)]
struct Slot {
    open: Option<Open>,
    /// Ids in flight, and the query and the place among its tries of each.
    flying: Vec<(u16, u32, u8)>,
}

#[derive(Clone, Copy)]
struct Open {
    server: u16,
    transport: Transport,
    since: Time,
    uses: u32,
    /// Messages with ids that were not in flight.
    strangers: u32,
    /// No query is under way since.
    idle_since: Option<Time>,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Slots {
    table: Vec<Slot>,
    /// Open TCP slots: the only ones that have to be closed by the clock, for the server's sake (RFC 7766, 6.2.3).
    connections: u32,
}

impl Slots {
    /// A slot to ask that server by, and an id that is free there.
    #[inline(never)]
    pub fn take(
        &mut self,
        now: Time,
        server: u16,
        addr: SocketAddr,
        transport: Transport,
        out: &mut dyn Outside,
    ) -> Result<(SlotId, u16), CannotAsk> {
        let slot = match self.fresh_enough(now, server, transport) {
            Some(slot) => slot,
            None => self.open(now, server, addr, transport, out)?,
        };
        let place = self.table.get_mut(slot as usize).ok_or(CannotAsk::NoSocket)?;
        if let Some(open) = &mut place.open {
            open.uses += 1;
            open.idle_since = None;
        }
        // At most MOST_SHARED of 65536 are taken, so this ends soon.
        let mut bits = out.random();
        loop {
            let id = bits as u16;
            if !place.flying.iter().any(|(taken, ..)| *taken == id) {
                return Ok((slot, id));
            }
            bits = if bits >> 16 == 0 { out.random() } else { bits >> 16 };
        }
    }

    fn fresh_enough(&self, now: Time, server: u16, transport: Transport) -> Option<SlotId> {
        let good = |slot: &Slot| {
            slot.open.is_some_and(|open| {
                open.server == server
                    && open.transport == transport
                    && !open.is_worn(now)
                    && slot.flying.len() < SHARED
            })
        };
        self.table.iter().position(good).map(|at| at as SlotId)
    }

    fn open(
        &mut self,
        now: Time,
        server: u16,
        addr: SocketAddr,
        transport: Transport,
        out: &mut dyn Outside,
    ) -> Result<SlotId, CannotAsk> {
        let mut opened = out.open(transport, addr);
        if opened == Err(CannotAsk::NoSocket)
            && let Some(slot) = self.idle(transport)
        {
            self.close(slot, out);
            opened = out.open(transport, addr);
        }
        let slot = match opened {
            // Better a port that is older than no question at all.
            Err(CannotAsk::NoSocket) => return self.any(server, transport).ok_or(CannotAsk::NoSocket),
            other => other?,
        };
        while self.table.len() <= slot as usize {
            self.table.push(Slot::default());
        }
        if let Some(place) = self.table.get_mut(slot as usize) {
            place.flying.clear();
            place.open =
                Some(Open { server, transport, since: now, uses: 0, strangers: 0, idle_since: None });
            self.connections += u32::from(transport == Transport::Tcp);
        }
        Ok(slot)
    }

    fn idle(&self, transport: Transport) -> Option<SlotId> {
        let idle =
            |slot: &Slot| slot.flying.is_empty() && slot.open.is_some_and(|open| open.transport == transport);
        self.table.iter().position(idle).map(|at| at as SlotId)
    }

    fn any(&self, server: u16, transport: Transport) -> Option<SlotId> {
        let (mut best, mut least) = (None, MOST_SHARED);
        for (at, slot) in self.table.iter().enumerate() {
            let is_its = slot.open.is_some_and(|open| open.server == server && open.transport == transport);
            if is_its && slot.flying.len() < least {
                (best, least) = (Some(at as SlotId), slot.flying.len());
            }
        }
        best
    }

    /// Notes that this id is in flight for that try of that query.
    pub fn fly(&mut self, slot: SlotId, id: u16, query: u32, place: u8) {
        if let Some(slot) = self.table.get_mut(slot as usize) {
            slot.flying.push((id, query, place));
        }
    }

    /// The query and its try that this id is in flight for.
    pub fn find(&self, slot: SlotId, id: u16) -> Option<(u32, u8)> {
        let slot = self.table.get(slot as usize)?;
        slot.flying.iter().find(|(flying, ..)| *flying == id).map(|(_, query, place)| (*query, *place))
    }

    /// Whether anything is in flight by it.
    pub fn is_flying(&self, slot: SlotId) -> bool {
        self.table.get(slot as usize).is_some_and(|slot| !slot.flying.is_empty())
    }

    /// A message with an id that is not in flight. True when there were so many that somebody is trying ids at this port.
    pub fn is_besieged(&mut self, slot: SlotId) -> bool {
        let Some(open) = self.table.get_mut(slot as usize).and_then(|slot| slot.open.as_mut()) else {
            return false;
        };
        open.strangers += 1;
        open.strangers >= MOST_STRANGERS
    }

    /// That id is not in flight any more. A worn slot without any is closed.
    pub fn finish(&mut self, slot_id: SlotId, id: u16, now: Time, out: &mut dyn Outside) {
        let Some(slot) = self.table.get_mut(slot_id as usize) else { return };
        if let Some(at) = slot.flying.iter().position(|(flying, ..)| *flying == id) {
            slot.flying.swap_remove(at);
        }
        let Some(open) = &mut slot.open else { return };
        if slot.flying.is_empty() {
            open.idle_since = Some(now);
            if open.is_worn(now) {
                self.close(slot_id, out);
            }
        }
    }

    /// Closes the slot; what was in flight by it.
    pub fn fail(&mut self, slot: SlotId, out: &mut dyn Outside) -> (Option<u16>, Vec<(u16, u32, u8)>) {
        let Some(place) = self.table.get_mut(slot as usize) else { return (None, Vec::new()) };
        let server = place.open.map(|open| open.server);
        let flying = core::mem::take(&mut place.flying);
        self.close(slot, out);
        (server, flying)
    }

    /// Whether the slot is a connection.
    pub fn is_tcp(&self, slot: SlotId) -> bool {
        let slot = self.table.get(slot as usize).and_then(|slot| slot.open);
        slot.is_some_and(|open| open.transport == Transport::Tcp)
    }

    fn close(&mut self, slot: SlotId, out: &mut dyn Outside) {
        if let Some(open) = self.table.get_mut(slot as usize).and_then(|place| place.open.take()) {
            self.connections -= u32::from(open.transport == Transport::Tcp);
            out.close(slot);
        }
    }

    /// Closes connections that nobody used for a while.
    pub fn close_idle(&mut self, now: Time, out: &mut dyn Outside) {
        if self.connections == 0 {
            return;
        }
        for slot in 0..self.table.len() as SlotId {
            if self.table.get(slot as usize).is_some_and(|slot| slot.to_be_closed() <= now) {
                self.close(slot, out);
            }
        }
    }

    /// When a connection is to be closed.
    pub fn next_due(&self) -> Time {
        if self.connections == 0 {
            return NEVER;
        }
        self.table.iter().fold(NEVER, |next, slot| next.min(slot.to_be_closed()))
    }
}

impl Slot {
    /// When it is an unused connection for long enough.
    fn to_be_closed(&self) -> Time {
        match self.open {
            Some(Open { transport: Transport::Tcp, idle_since: Some(since), .. }) => since + IDLE,
            _ => NEVER,
        }
    }
}

impl Open {
    fn is_worn(&self, now: Time) -> bool {
        match self.transport {
            Transport::Udp => self.uses >= MOST_USES || self.since + LONGEST <= now,
            Transport::Tcp => self.uses >= 1000,
        }
    }
}

/// Queries that share a port at a time while there are other sockets.
const SHARED: usize = 16;
/// Queries that share one when there is none.
const MOST_SHARED: usize = 256;
/// Queries that a port is used for, one after the other or together.
const MOST_USES: u32 = 32;
/// Messages with a wrong id before a port is given up: more than late and doubled answers can be, few among 65536 ids.
const MOST_STRANGERS: u32 = 3 * MOST_USES;
/// How long a port is used for new ones.
const LONGEST: Duration = Duration::from_millis(250);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(3);
