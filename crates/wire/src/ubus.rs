//! ubus, OpenWrt's message bus: the messages between a client and `ubusd` over its unix socket.
//!
//! A message is a header of 8 bytes (version, type, sequence number, peer) and a [`blob`] whose attributes say the rest. The
//! sequence number comes back in every answer; the peer is of no use to a client. Requests are answered by any number of
//! [`Kind::Data`] and one [`Kind::Status`] that ends them.

pub mod blob;
pub mod network;

use alloc::vec::Vec;
use blob::{Attr, attrs};

/// The system's own object that hands out events.
pub const EVENTS: u32 = 1;

/// What a message is for, as far as a client meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first message of a connection, from the bus.
    Hello,
    /// The end of an answer: [`Message::status`].
    Status,
    /// A part of an answer.
    Data,
    /// Looks objects up by their path.
    Lookup,
    /// Calls a method of an object; to us it is an event.
    Invoke,
    /// Makes an object of ours known to the bus.
    AddObject,
    /// Has an object of ours notified of what happens to another.
    Subscribe,
    /// Any other.
    Other(u8),
}

/// A message as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is for.
    pub kind: Kind,
    /// That of the request that it answers.
    pub sequence: u16,
    /// Its attributes, not yet split.
    pub body: &'a [u8],
}

/// The stream is not ubus's, or no more: there is no way to find the next message in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// The first message in `stream`, and how many bytes it took; `None` if it is not there as a whole yet.
///
/// # Errors
/// [`Broken`] if no message starts so: another version, a length that cannot be.
pub fn next(stream: &[u8]) -> Result<Option<(Message<'_>, usize)>, Broken> {
    let Some(([version, kind, s0, s1, _, _, _, _, rest @ ..], _)) = stream.split_first_chunk::<PREAMBLE>()
    else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*rest) & blob::LEN_MASK;
    let len = usize::try_from(len).map_err(|_| Broken)?;
    if *version != 0 || !(blob::HEADER..=MAX_BLOB).contains(&len) {
        return Err(Broken);
    }
    let end = HEADER + len;
    Ok(stream.get(PREAMBLE..end).map(|body| {
        let sequence = u16::from_be_bytes([*s0, *s1]);
        (Message { kind: Kind::from_number(*kind), sequence, body }, end)
    }))
}

/// Appends a message; `fill` appends its attributes.
pub fn put(out: &mut Vec<u8>, kind: Kind, sequence: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let [s0, s1] = sequence.to_be_bytes();
    out.extend_from_slice(&[0, kind.number(), s0, s1, 0, 0, 0, 0]);
    blob::put_nested(out, 0, fill);
}

/// Appends the request for the number of the object at `path`: [`Message::object`] of its answer.
pub fn put_lookup(out: &mut Vec<u8>, sequence: u16, path: &str) {
    put(out, Kind::Lookup, sequence, |out| blob::put_string(out, OBJPATH, path));
}

/// Appends a call of an object's method; `arguments` appends fields.
pub fn put_call(
    out: &mut Vec<u8>,
    sequence: u16,
    object: u32,
    method: &str,
    arguments: impl FnOnce(&mut Vec<u8>),
) {
    put(out, Kind::Invoke, sequence, |out| {
        blob::put_u32(out, OBJID, object);
        blob::put_string(out, METHOD, method);
        blob::put_nested(out, DATA, arguments);
    });
}

/// Appends the request for an object of our own without a name, which events can be sent to: [`Message::object`] of its answer.
pub fn put_add_object(out: &mut Vec<u8>, sequence: u16) {
    put(out, Kind::AddObject, sequence, |_| {});
}

/// Appends the request to send our object the events whose name is `pattern` (a `*` at the end stands for anything).
pub fn put_listen(out: &mut Vec<u8>, sequence: u16, object: u32, pattern: &str) {
    put_call(out, sequence, EVENTS, "register", |out| {
        blob::put_field_u32(out, "object", object);
        blob::put_field_string(out, "pattern", pattern);
    });
}

/// Appends the request that our object be called whenever `target` notifies its subscribers.
pub fn put_subscribe(out: &mut Vec<u8>, sequence: u16, object: u32, target: u32) {
    put(out, Kind::Subscribe, sequence, |out| {
        blob::put_u32(out, OBJID, object);
        blob::put_u32(out, TARGET, target);
    });
}

/// Appends an answer with data, as the bus or an object sends it; `data` appends fields.
pub fn put_data(out: &mut Vec<u8>, sequence: u16, object: u32, data: impl FnOnce(&mut Vec<u8>)) {
    put(out, Kind::Data, sequence, |out| {
        blob::put_u32(out, OBJID, object);
        blob::put_nested(out, DATA, data);
    });
}

/// Appends the end of an answer, as the bus sends it.
pub fn put_status(out: &mut Vec<u8>, sequence: u16, status: u32) {
    put(out, Kind::Status, sequence, |out| blob::put_u32(out, STATUS, status));
}

impl<'a> Message<'a> {
    /// How a request ended: 0 is fine.
    pub fn status(&self) -> Option<u32> {
        self.attr(STATUS)?.number()
    }

    /// The number of the object that the message is about.
    pub fn object(&self) -> Option<u32> {
        self.attr(OBJID)?.number()
    }

    /// The number of the object that is subscribed to.
    pub fn target(&self) -> Option<u32> {
        self.attr(TARGET)?.number()
    }

    /// The path of the object.
    pub fn path(&self) -> Option<&'a str> {
        self.attr(OBJPATH)?.text()
    }

    /// The method called; of an event, its name.
    pub fn method(&self) -> Option<&'a str> {
        self.attr(METHOD)?.text()
    }

    /// Arguments or answer: fields, to be read by [`blob::fields`].
    pub fn data(&self) -> Option<&'a [u8]> {
        self.attr(DATA).map(|attr| attr.payload)
    }

    fn attr(&self, id: u8) -> Option<Attr<'a>> {
        attrs(self.body).find(|attr| attr.id == id)
    }
}

/// The status of a request in words.
pub fn status_text(status: u32) -> &'static str {
    match status {
        0 => "fine",
        1 => "invalid command",
        2 => "invalid argument",
        3 => "method not found",
        NOT_FOUND => "not found",
        5 => "no data",
        6 => "permission denied",
        7 => "timed out",
        8 => "not supported",
        10 => "connection failed",
        _ => "unknown error",
    }
}

impl Kind {
    fn from_number(number: u8) -> Kind {
        KINDS.iter().find(|(_, n)| *n == number).map_or(Kind::Other(number), |(kind, _)| *kind)
    }

    fn number(self) -> u8 {
        match self {
            Kind::Other(number) => number,
            known => KINDS.iter().find(|(kind, _)| *kind == known).map_or(u8::MAX, |(_, number)| *number),
        }
    }
}

/// The object of a call or look-up is not there (any more).
pub const NOT_FOUND: u32 = 4;

/// `UBUS_ATTR_STATUS`.
pub const STATUS: u8 = 1;
/// `UBUS_ATTR_OBJPATH`.
pub const OBJPATH: u8 = 2;
/// `UBUS_ATTR_OBJID`.
pub const OBJID: u8 = 3;
/// `UBUS_ATTR_METHOD`.
pub const METHOD: u8 = 4;
/// `UBUS_ATTR_DATA`.
pub const DATA: u8 = 7;

/// `UBUS_ATTR_TARGET`.
pub const TARGET: u8 = 8;

const KINDS: [(Kind, u8); 7] = [
    (Kind::Hello, 0),
    (Kind::Status, 1),
    (Kind::Data, 2),
    (Kind::Lookup, 4),
    (Kind::Invoke, 5),
    (Kind::AddObject, 6),
    (Kind::Subscribe, 8),
];

/// Bytes of a message's header.
const HEADER: usize = 8;
/// Header and the blob's own header, which has the length.
const PREAMBLE: usize = HEADER + blob::HEADER;
/// ubusd's own limit is 1 MiB (`UBUS_MAX_MSGLEN`).
const MAX_BLOB: usize = 1 << 20;
