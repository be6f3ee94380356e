//! What messages are made of behind their headers: attributes, each a length, a kind, a value, and padding to four bytes
//! (RFC 3549, 2.2; linux/netlink.h). Bytes, no socket.

use super::frame::align;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The attributes in some bytes, each its kind and its value; ends early at one that is cut off.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

/// Splits bytes into attributes. Any bytes will do.
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

/// The value of the first attribute of that kind.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A value as text, without what follows its first NUL.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// A value as a number in the host's byte order.
pub fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A value as an address, by its length.
pub fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk().map(|b| Ipv4Addr::from(*b).into()),
        16 => value.first_chunk().map(|b| Ipv6Addr::from(*b).into()),
        _ => None,
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let [l0, l1, k0, k1] = *self.rest.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.rest.get(HEADER_LEN..len)?;
        self.rest = self.rest.get(align(len)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    }
}

/// Appends attributes to a message's body, which has to be aligned, as all headers of ours are.
pub trait Put {
    /// One of any value. It is no longer than 64 KiB.
    fn put(&mut self, kind: u16, value: &[u8]);

    /// A number in the host's byte order.
    fn put_number(&mut self, kind: u16, number: u32);

    /// A text, with a NUL behind it.
    fn put_text(&mut self, kind: u16, text: &str);

    /// An address.
    fn put_ip(&mut self, kind: u16, addr: IpAddr);

    /// Begins one that has others in it, until it is [closed](Put::close): where it begins.
    fn open(&mut self, kind: u16) -> usize;

    /// Ends the one that begins there.
    fn close(&mut self, start: usize);
}

impl Put for Vec<u8> {
    fn put(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.extend_from_slice(value);
        self.close(start);
    }

    fn put_number(&mut self, kind: u16, number: u32) {
        self.put(kind, &number.to_ne_bytes());
    }

    fn put_text(&mut self, kind: u16, text: &str) {
        let start = self.open(kind);
        self.extend_from_slice(text.as_bytes());
        self.push(0);
        self.close(start);
    }

    fn put_ip(&mut self, kind: u16, addr: IpAddr) {
        match addr {
            IpAddr::V4(addr) => self.put(kind, &addr.octets()),
            IpAddr::V6(addr) => self.put(kind, &addr.octets()),
        }
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.len();
        let [k0, k1] = kind.to_ne_bytes();
        self.extend_from_slice(&[0, 0, k0, k1]);
        start
    }

    fn close(&mut self, start: usize) {
        let len = self.len().wrapping_sub(start) as u16;
        if let Some(place) = self.get_mut(start..).and_then(|bytes| bytes.first_chunk_mut()) {
            *place = len.to_ne_bytes();
        }
        self.resize(align(self.len()), 0);
    }
}

/// `NLA_F_NESTED`, for the kind of one that is [opened](Put::open).
pub const NESTED: u16 = 1 << 15;

/// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found() {
        let mut bytes = Vec::new();
        bytes.put(1, b"abcde");
        bytes.put_number(2, 7);
        let list = bytes.open(3 | NESTED);
        bytes.put_text(1, "name");
        bytes.put_ip(2, Ipv4Addr::LOCALHOST.into());
        bytes.put(4, &[]);
        bytes.close(list);
        bytes.put_ip(5, Ipv6Addr::LOCALHOST.into());
        let kinds: Vec<u16> = attributes(&bytes).map(|(kind, _)| kind).collect();
        assert_eq!((kinds.as_slice(), bytes.len() % 4), (&[1, 2, 3, 5][..], 0));
        assert_eq!(find(&bytes, 1), Some(&b"abcde"[..]));
        assert_eq!(find(&bytes, 2).and_then(number), Some(7));
        let list = find(&bytes, 3).unwrap();
        assert_eq!(find(list, 1).map(text).as_deref(), Some("name"));
        assert_eq!(find(list, 2).and_then(ip), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!((find(list, 4), find(list, 5)), (Some(&[][..]), None));
        assert_eq!(find(&bytes, 5).and_then(ip), Some(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn cut_off_attributes_end_the_iteration() {
        let mut bytes = Vec::new();
        bytes.put_number(7, 1);
        bytes.put_number(8, 2);
        assert_eq!(attributes(&bytes).count(), 2);
        for len in 0..bytes.len() {
            assert!(attributes(&bytes[..len]).count() < 2);
        }
        for short in 0..4u8 {
            assert_eq!(
                attributes(&[short, 0, 1, 0, 9, 9, 9, 9]).count(),
                0,
                "a length below the header's own"
            );
        }
        // The last one needs no padding.
        assert_eq!(attributes(&[5, 0, 1, 0, 9]).count(), usize::from(cfg!(target_endian = "little")));
    }
}
