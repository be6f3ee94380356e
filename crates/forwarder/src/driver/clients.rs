//! Clients' TCP connections (RFC 7766): several queries in a row, answered as the answers come.

use super::Token;
use super::stream::{Heard, Stream};
use crate::engine::NEVER;
use crate::message::HEADER;
use alloc::vec::Vec;
use narrowgate_model::Time;
use rustix::event::epoll;
use rustix::fd::{BorrowedFd, OwnedFd};

struct Connection {
    fd: OwnedFd,
    id: u64,
    stream: Stream,
    /// Queries without an answer yet.
    open: u32,
    /// The client will send no more.
    half_closed: bool,
    last: Time,
    watched: epoll::EventFlags,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Clients {
    table: Vec<Option<Connection>>,
    ever: u64,
}

impl Clients {
    #[inline(never)]
    pub fn add(&mut self, epoll: BorrowedFd<'_>, now: Time, fd: OwnedFd) {
        let free = self.table.iter().position(Option::is_none);
        if free.is_none() && self.table.len() < MOST {
            self.table.push(None);
        }
        // Where it is full, one that waits for nothing makes room; if all are at work the new one has to come again.
        let Some(index) = free.or_else(|| self.idlest()) else { return };
        let watched = epoll::EventFlags::IN;
        if epoll::add(epoll, &fd, Token::Client(index as u32).data(), watched).is_err() {
            return;
        }
        self.ever += 1;
        let id = self.ever << 16 | index as u64;
        let stream = Stream::default();
        let connection = Connection { fd, id, stream, open: 0, half_closed: false, last: now, watched };
        if let Some(place) = self.table.get_mut(index) {
            *place = Some(connection);
        }
    }

    /// A free place, or that of the connection that has waited for nothing for longest.
    fn idlest(&self) -> Option<usize> {
        let (mut idlest, mut earliest) = (None, NEVER);
        for (index, place) in self.table.iter().enumerate() {
            let last = place.as_ref().map_or(Time(0), |c| if c.open == 0 { c.last } else { NEVER });
            if last < earliest {
                (idlest, earliest) = (Some(index), last);
            }
        }
        idlest
    }

    /// Reads and writes what can be.
    #[inline(never)]
    pub fn ready(
        &mut self,
        epoll: BorrowedFd<'_>,
        now: Time,
        index: u32,
        flags: epoll::EventFlags,
        buffer: &mut [u8],
    ) {
        let Some(Some(connection)) = self.table.get_mut(index as usize) else { return };
        let mut alive = !flags.contains(epoll::EventFlags::ERR);
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP) && connection.may_read() {
            match connection.stream.read(&connection.fd, buffer) {
                Heard::Something => connection.last = now,
                Heard::Nothing => {}
                Heard::End => connection.half_closed = true,
                Heard::Broken => alive = false,
            }
        }
        alive &= connection.stream.write(&connection.fd);
        self.settle(epoll, index, alive);
    }

    /// The next query that came by a connection, and the connection's number, unless too many are under way.
    pub fn next_query(&mut self, epoll: BorrowedFd<'_>, index: u32) -> Option<(u64, Vec<u8>)> {
        let connection = self.table.get_mut(index as usize)?.as_mut()?;
        if connection.open >= PIPELINED {
            return None;
        }
        let (id, message) = (connection.id, connection.stream.take_message()?);
        // What gets no answer is not waited for: whoever sends such things has no use for a connection.
        let alive = deserves_an_answer(&message);
        connection.open += u32::from(alive);
        self.settle(epoll, index, alive);
        alive.then_some((id, message))
    }

    /// How many connections there are, or were.
    pub fn len(&self) -> u32 {
        self.table.len() as u32
    }

    /// An answer for a connection, if it is still there.
    pub fn reply(&mut self, epoll: BorrowedFd<'_>, now: Time, id: u64, message: &[u8]) {
        let index = (id & 0xffff) as u32;
        let Some(Some(connection)) = self.table.get_mut(index as usize) else { return };
        if connection.id != id {
            return;
        }
        connection.open = connection.open.saturating_sub(1);
        connection.last = now;
        connection.stream.push(message);
        let alive = connection.stream.write(&connection.fd) && connection.stream.unsent() < MOST_UNSENT;
        self.settle(epoll, index, alive);
    }

    /// Closes a connection that is over, and watches another for what it can do next.
    fn settle(&mut self, epoll: BorrowedFd<'_>, index: u32, alive: bool) {
        let Some(place) = self.table.get_mut(index as usize) else { return };
        let Some(connection) = place else { return };
        let waits = connection.open > 0 || connection.stream.unsent() > 0 || connection.stream.has_message();
        let over = connection.half_closed && !waits;
        if !alive || over {
            *place = None; // closing takes it out of the epoll too
            return;
        }
        let mut wanted = epoll::EventFlags::empty();
        wanted.set(epoll::EventFlags::IN, connection.may_read());
        wanted.set(epoll::EventFlags::OUT, connection.stream.unsent() > 0);
        if wanted != connection.watched {
            connection.watched = wanted;
            let _ = epoll::modify(epoll, &connection.fd, Token::Client(index).data(), wanted);
        }
    }

    /// Closes those that were silent for too long.
    pub fn close_idle(&mut self, now: Time) {
        for place in &mut self.table {
            if place.as_ref().is_some_and(|connection| connection.due() <= now) {
                *place = None;
            }
        }
    }

    /// When the next is closed.
    pub fn next_due(&self) -> Time {
        self.table.iter().flatten().fold(NEVER, |next, connection| next.min(connection.due()))
    }
}

impl Connection {
    fn may_read(&self) -> bool {
        !self.half_closed && self.open < PIPELINED
    }

    fn due(&self) -> Time {
        Time(self.last.0 + if self.open == 0 { IDLE } else { LONGEST })
    }
}

/// Whether the engine answers it, with an error at least: it has a header, and is no answer itself.
fn deserves_an_answer(message: &[u8]) -> bool {
    message.len() >= HEADER && message.get(2).is_some_and(|flags| flags & 0x80 == 0)
}

/// How long one that waits for answers is kept, in milliseconds: longer than any query lives.
const LONGEST: u64 = 30_000;
/// Connections at a time.
const MOST: usize = 64;
/// Queries of one connection under way.
const PIPELINED: u32 = 64;
/// Bytes that a client may leave unread.
const MOST_UNSENT: usize = 512 * 1024;
/// How long a connection without a query is kept, in milliseconds (RFC 7766, 6.2.3: some seconds).
const IDLE: u64 = 10_000;
