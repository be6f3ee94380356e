//! Requests, answers, and what is said about an error: bytes, no socket.

use std::fmt;
use std::io;

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

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The error number, positive.
    pub errno: i32,
    /// What the kernel says about it (extended acknowledgement).
    pub text: Option<String>,
    /// Which of the [`Requests`] it was; `None` if it was none in particular.
    pub index: Option<usize>,
}

impl Requests {
    /// Adds a message; `NLM_F_REQUEST` is added to the flags. `body` appends what follows the header.
    pub fn push(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER_LEN]);
        body(&mut self.bytes);
        let len = (self.bytes.len() - start) as u32;
        self.bytes.resize(start + align(len as usize), 0);
        put(&mut self.bytes, start, len);
        put(&mut self.bytes, start + 4, kind);
        put(&mut self.bytes, start + 6, flags | NLM_F_REQUEST);
        self.starts.push(start);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// One of them, as it would be sent: to tell which it was that an [`Error`] is about.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        messages(self.bytes.get(*self.starts.get(index)?..)?).next()
    }

    /// Gives them their sequence numbers, from `first` on.
    pub(super) fn number(&mut self, first: u32) {
        for (i, start) in self.starts.iter().enumerate() {
            put(&mut self.bytes, start + 8, first.wrapping_add(i as u32));
        }
    }

    /// What is to be sent.
    pub(super) fn bytes(&self) -> &[u8] {
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

    pub(super) fn add(&mut self, message: Message<'_>) {
        let len = HEADER_LEN + message.body.len();
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER_LEN, 0);
        put(&mut self.bytes, start, len as u32);
        put(&mut self.bytes, start + 4, message.kind);
        put(&mut self.bytes, start + 6, message.flags);
        put(&mut self.bytes, start + 8, message.sequence);
        put(&mut self.bytes, start + 12, message.port);
        self.bytes.extend_from_slice(message.body);
        self.bytes.resize(start + align(len), 0);
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
        Some(Error { errno: errno.wrapping_neg(), text: self.extended_text(), index: Some(index) })
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
        let mut rest = self.body.get(at..)?;
        loop {
            let (header, _) = rest.split_first_chunk::<4>()?;
            let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
            let kind = u16::from_ne_bytes([header[2], header[3]]);
            let value = rest.get(4..len)?;
            if kind == NLMSGERR_ATTR_MSG {
                let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
                return Some(String::from_utf8_lossy(value.get(..end)?).into_owned());
            }
            rest = rest.get(align(len)..)?;
        }
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Error {
        Error { errno: e.raw_os_error().unwrap_or(libc::EIO), text: None, index: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        self.text.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

impl std::error::Error for Error {}

/// Writes a number in the host's byte order.
fn put<const N: usize>(bytes: &mut [u8], at: usize, number: impl NativeBytes<N>) {
    if let Some(place) = bytes.get_mut(at..at + N) {
        place.copy_from_slice(&number.native_bytes());
    }
}

trait NativeBytes<const N: usize> {
    fn native_bytes(self) -> [u8; N];
}

impl NativeBytes<2> for u16 {
    fn native_bytes(self) -> [u8; 2] {
        self.to_ne_bytes()
    }
}

impl NativeBytes<4> for u32 {
    fn native_bytes(self) -> [u8; 4] {
        self.to_ne_bytes()
    }
}

fn align(len: usize) -> usize {
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
            requests.push(number, NLM_F_ACK, |bytes| bytes.extend_from_slice(&[0; 16]));
        }
        let bytes = requests.bytes();
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
