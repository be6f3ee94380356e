//! Clients' TCP connections (RFC 7766): several queries in a row, answered as the answers come.

use super::Token;
use super::pool::take_message;
use crate::message::HEADER;
use narrowgate_model::Time;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

struct Connection {
    fd: OwnedFd,
    id: u64,
    received: Vec<u8>,
    to_send: Vec<u8>,
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
    pub fn add(&mut self, epoll: BorrowedFd<'_>, now: Time, fd: OwnedFd) {
        let free = self.table.iter().position(Option::is_none);
        let index = match free {
            Some(index) => index,
            None if self.table.len() < MOST => {
                self.table.push(None);
                self.table.len() - 1
            }
            // Full. One that waits for nothing makes room; if all are at work the new one has to come again.
            None => match self.idlest() {
                Some(index) => index,
                None => return,
            },
        };
        let watched = epoll::EventFlags::IN;
        if epoll::add(epoll, &fd, Token::Client(index as u32).data(), watched).is_err() {
            return;
        }
        self.ever += 1;
        let id = self.ever << 16 | index as u64;
        let connection = Connection {
            fd,
            id,
            received: Vec::new(),
            to_send: Vec::new(),
            open: 0,
            half_closed: false,
            last: now,
            watched,
        };
        if let Some(place) = self.table.get_mut(index) {
            *place = Some(connection);
        }
    }

    fn idlest(&self) -> Option<usize> {
        let idle = |(index, place): (usize, &Option<Connection>)| {
            place.as_ref().filter(|c| c.open == 0).map(|c| (c.last, index))
        };
        self.table.iter().enumerate().filter_map(idle).min().map(|(_, index)| index)
    }

    /// Reads and writes what can be. The queries that came, and the connection's number.
    pub fn ready(
        &mut self,
        epoll: BorrowedFd<'_>,
        now: Time,
        index: u32,
        flags: epoll::EventFlags,
        buffer: &mut [u8],
    ) -> Vec<(u64, Vec<u8>)> {
        let mut messages = Vec::new();
        let Some(place) = self.table.get_mut(index as usize) else { return messages };
        let Some(connection) = place else { return messages };
        let mut alive = !flags.contains(epoll::EventFlags::ERR);
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP) && connection.may_read() {
            match recv(&connection.fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => connection.half_closed = true,
                Ok((length, _)) => {
                    connection.last = now;
                    connection.received.extend_from_slice(buffer.get(..length).unwrap_or(&[]));
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => alive = false,
            }
        }
        while connection.open < PIPELINED
            && let Some(message) = take_message(&mut connection.received)
        {
            // What gets no answer is not waited for: whoever sends such things has no use for a connection.
            if !deserves_an_answer(&message) {
                alive = false;
                break;
            }
            connection.open += 1;
            messages.push((connection.id, message));
        }
        alive &= connection.write();
        self.settle(epoll, index, alive);
        messages
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
        connection.to_send.extend_from_slice(&(message.len() as u16).to_be_bytes());
        connection.to_send.extend_from_slice(message);
        let alive = connection.write() && connection.to_send.len() < MOST_UNSENT;
        self.settle(epoll, index, alive);
    }

    /// Closes a connection that is over, and watches another for what it can do next.
    fn settle(&mut self, epoll: BorrowedFd<'_>, index: u32, alive: bool) {
        let Some(place) = self.table.get_mut(index as usize) else { return };
        let Some(connection) = place else { return };
        let over = connection.half_closed && connection.open == 0 && connection.to_send.is_empty();
        if !alive || over {
            *place = None; // closing takes it out of the epoll too
            return;
        }
        let mut wanted = epoll::EventFlags::empty();
        wanted.set(epoll::EventFlags::IN, connection.may_read());
        wanted.set(epoll::EventFlags::OUT, !connection.to_send.is_empty());
        if wanted != connection.watched {
            connection.watched = wanted;
            let _ = epoll::modify(epoll, &connection.fd, Token::Client(index).data(), wanted);
        }
    }

    /// Connections with whole queries that were left lying because too many were under way.
    pub fn unread(&self) -> Vec<u32> {
        let waits = |(index, place): (usize, &Option<Connection>)| {
            let connection = place.as_ref()?;
            let length = usize::from(u16::from_be_bytes(*connection.received.first_chunk()?));
            (connection.open < PIPELINED && connection.received.len() >= 2 + length).then_some(index as u32)
        };
        self.table.iter().enumerate().filter_map(waits).collect()
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
    pub fn next_due(&self) -> Option<Time> {
        self.table.iter().flatten().map(Connection::due).min()
    }
}

impl Connection {
    fn may_read(&self) -> bool {
        !self.half_closed && self.open < PIPELINED
    }

    fn due(&self) -> Time {
        self.last + if self.open == 0 { IDLE } else { LONGEST }
    }

    fn write(&mut self) -> bool {
        if self.to_send.is_empty() {
            return true;
        }
        match send(&self.fd, &self.to_send, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => {
                self.to_send.drain(..sent);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }
}

/// Whether the engine answers it, with an error at least: it has a header, and is no answer itself.
fn deserves_an_answer(message: &[u8]) -> bool {
    message.len() >= HEADER && message.get(2).is_some_and(|flags| flags & 0x80 == 0)
}

/// How long one that waits for answers is kept: longer than any query lives.
const LONGEST: Duration = Duration::from_secs(30);
/// Connections at a time.
const MOST: usize = 64;
/// Queries of one connection under way.
const PIPELINED: u32 = 64;
/// Bytes that a client may leave unread.
const MOST_UNSENT: usize = 512 * 1024;
/// How long a connection without a query is kept (RFC 7766, 6.2.3: some seconds).
const IDLE: Duration = Duration::from_secs(10);
