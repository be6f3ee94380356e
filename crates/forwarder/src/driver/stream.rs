//! A connection's bytes: messages, each behind its length (RFC 1035, 4.2.2), that came and are to go.

use alloc::vec::Vec;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// See the module's head.
#[derive(Default)]
pub(super) struct Stream {
    received: Vec<u8>,
    to_send: Vec<u8>,
}

/// What came of reading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Something,
    Nothing,
    /// The other side will send no more.
    End,
    Broken,
}

impl Stream {
    /// Takes what is there, as far as it fits into `buffer`.
    pub fn read(&mut self, fd: &OwnedFd, buffer: &mut [u8]) -> Heard {
        match recv(fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Heard::End,
            Ok((length, _)) => {
                self.received.extend_from_slice(buffer.get(..length).unwrap_or(&[]));
                Heard::Something
            }
            Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
            Err(_) => Heard::Broken,
        }
    }

    /// Whether a whole message is there.
    pub fn has_message(&self) -> bool {
        self.received
            .first_chunk()
            .is_some_and(|length| self.received.len() - 2 >= u16::from_be_bytes(*length).into())
    }

    /// The first whole message, without its length.
    pub fn take_message(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes(*self.received.first_chunk()?));
        let message = self.received.get(2..2 + length)?.to_vec();
        self.received.drain(..2 + length);
        Some(message)
    }

    /// Puts a message behind those that are to go.
    pub fn push(&mut self, message: &[u8]) {
        self.to_send.extend_from_slice(&(message.len() as u16).to_be_bytes());
        self.to_send.extend_from_slice(message);
    }

    /// Bytes that are to go.
    pub fn unsent(&self) -> usize {
        self.to_send.len()
    }

    /// Sends what can be sent now. Whether the connection still stands.
    pub fn write(&mut self, fd: &OwnedFd) -> bool {
        if self.to_send.is_empty() {
            return true;
        }
        match send(fd, &self.to_send, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => {
                self.to_send.drain(..sent);
                true
            }
            Err(error) => matches!(error, Errno::AGAIN | Errno::INTR),
        }
    }
}
