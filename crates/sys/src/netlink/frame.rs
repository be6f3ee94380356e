//! Requests, answers, and what is said about an error: bytes, no socket.

use super::attributes::{find, text};
use crate::io;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Requests that are sent together, each a header and a body.
#[derive(Debug, Default, Clone)]
pub struct Requests {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

/// One message as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: that of the request that it answers.
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket that caused it; 0 for the kernel itself.
    pub port: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of a datagram; ends early at one that is cut off.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

/// What a request was answered with: all the messages, without the one that ends them.
#[derive(Debug, Default)]
pub struct Dump {
    bytes: Vec<u8>,
}

/// Why a request failed: a [`Refusal`], which is kept elsewhere, since so many results have room for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Refusal>);

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error number, positive.
    pub errno: i32,
    /// What the kernel says about it (extended acknowledgement).
    pub text: Option<String>,
    /// Which of the [`Requests`] it was; `None` if it was none in particular.
    pub index: Option<usize>,
}

impl Requests {
    /// Adds a message; `NLM_F_REQUEST` is added to the flags. What follows its header is to be appended to the bytes that it returns.
    pub fn add(&mut self, kind: u16, flags: u16) -> &mut Vec<u8> {
        self.end();
        self.starts.push(self.bytes.len());
        push_header(&mut self.bytes, 0, kind, flags | NLM_F_REQUEST, [0; 2]);
        &mut self.bytes
    }

    /// Writes down how long the last one has become.
    fn end(&mut self) {
        if let Some(start) = self.starts.last() {
            let len = self.bytes.len().saturating_sub(*start) as u32;
            put(&mut self.bytes, *start, len);
            self.bytes.resize(align(self.bytes.len()), 0);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// One of them, as it was sent: to tell which it was that an [`Error`] is about.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        messages(self.bytes.get(*self.starts.get(index)?..)?).next()
    }

    /// What is to be sent, with sequence numbers from `first` on.
    pub(super) fn number(&mut self, first: u32) -> &[u8] {
        self.end();
        let mut number = first;
        for start in &self.starts {
            put(&mut self.bytes, start + 8, number);
            number = number.wrapping_add(1);
        }
        &self.bytes
    }

    pub(super) fn wants_ack(&self) -> bool {
        messages(&self.bytes).any(|m| m.flags & NLM_F_ACK != 0)
    }
}

impl Dump {
    /// The messages.
    pub fn messages(&self) -> Messages<'_> {
        messages(&self.bytes)
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn add(&mut self, message: Message<'_>) {
        let len = HEADER_LEN + message.body.len();
        let numbers = [message.sequence, message.port];
        push_header(&mut self.bytes, len as u32, message.kind, message.flags, numbers);
        self.bytes.extend_from_slice(message.body);
        self.bytes.resize(align(self.bytes.len()), 0);
    }
}

/// Splits a datagram into its messages. Any bytes will do.
pub fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages { rest: datagram }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let len = u32::from_ne_bytes(*self.rest.first_chunk()?) as usize;
        let (header, body) = self.rest.get(..len)?.split_first_chunk::<HEADER_LEN>()?;
        self.rest = self.rest.get(align(len)..).unwrap_or_default();
        let [_, _, _, _, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            body,
        })
    }
}

impl Message<'_> {
    /// What an `NLMSG_ERROR` or `NLMSG_DONE` says; `None` if that is "no error".
    pub(super) fn error(&self, index: usize) -> Option<Error> {
        let errno = self.body.first_chunk().map_or(-libc::EIO, |b| i32::from_ne_bytes(*b));
        if errno == 0 {
            return None;
        }
        let (text, index) = (self.extended_text(), Some(index));
        Some(Refusal { errno: errno.wrapping_neg(), text, index }.into())
    }

    /// `NLMSGERR_ATTR_MSG`, behind the request's header and, unless it is capped, its body.
    fn extended_text(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let mut at = 4;
        if self.kind == NLMSG_ERROR {
            let request = u32::from_ne_bytes(*self.body.get(4..)?.first_chunk()?) as usize;
            at += if self.flags & NLM_F_CAPPED != 0 { HEADER_LEN } else { align(request) };
        }
        find(self.body.get(at..)?, NLMSGERR_ATTR_MSG).map(text)
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Error {
        Refusal { errno: e.raw_os_error().unwrap_or(libc::EIO), text: None, index: None }.into()
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error(Box::new(refusal))
    }
}

impl core::ops::Deref for Error {
    type Target = Refusal;
    fn deref(&self) -> &Refusal {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        self.text.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

impl core::error::Error for Error {}

/// `struct nlmsghdr`: its last two are the sequence number and the port.
fn push_header(bytes: &mut Vec<u8>, len: u32, kind: u16, flags: u16, numbers: [u32; 2]) {
    let ([k0, k1], [f0, f1]) = (kind.to_ne_bytes(), flags.to_ne_bytes());
    for word in [len, u32::from_ne_bytes([k0, k1, f0, f1]), numbers[0], numbers[1]] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
}

/// Writes a number in the host's byte order.
fn put(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(place) = bytes.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut()) {
        *place = number.to_ne_bytes();
    }
}

pub(super) fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// Sent, and answered with an acknowledgement.
pub const NLM_F_ACK: u16 = 4;
/// `NLM_F_REPLACE`: replace what is there.
pub const NLM_F_REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`: refuse if it is there.
pub const NLM_F_EXCL: u16 = 0x200;
/// `NLM_F_CREATE`: create it if it is not there.
pub const NLM_F_CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: put it at the end.
pub const NLM_F_APPEND: u16 = 0x800;

const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_off_messages_end_the_iteration() {
        let mut requests = Requests::default();
        for number in [7, 8] {
            requests.add(number, NLM_F_ACK).extend_from_slice(&[0; 16]);
        }
        let bytes = requests.number(1);
        assert_eq!(messages(bytes).count(), 2);
        for len in 0..bytes.len() {
            assert!(messages(&bytes[..len]).count() < 2);
        }
        for short in 0..16u32 {
            let mut header = [0u8; 16];
            header[..4].copy_from_slice(&short.to_ne_bytes());
            assert_eq!(messages(&header).count(), 0, "a length below the header's own");
        }
    }

    #[test]
    fn any_bytes_make_an_error_without_a_panic() {
        let mut state = 1u32;
        for round in 0..20_000 {
            let body: Vec<u8> = (0..round % 60)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8 & if round % 2 == 0 { 0xff } else { 0x13 }
                })
                .collect();
            for (kind, flags) in [(NLMSG_ERROR, 0x200), (NLMSG_ERROR, 0x300), (NLMSG_DONE, 0x200)] {
                let message = Message { kind, flags, sequence: 0, port: 0, body: &body };
                let _ = message.error(0);
            }
        }
    }
}
