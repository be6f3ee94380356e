//! Whom to ask, as the parent tells it: sets of servers, and which names go to which set.

use crate::message::{MAX_NAME, is_same_name};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// How the network is by which a set's servers are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum UplinkState {
    /// It is there: ask.
    Up = 0,
    /// It is coming: let queries wait for it.
    #[default]
    Waiting = 1,
    /// There is no cable, or nobody at its other end.
    NoCarrier = 2,
    /// There is no such device.
    NoDevice = 3,
    /// It is there, for IPv4 alone.
    Ipv4Only = 4,
    /// It is there, for IPv6 alone.
    Ipv6Only = 5,
}

impl UplinkState {
    /// The state with that number.
    pub fn from_number(number: u8) -> Option<UplinkState> {
        [Self::Up, Self::Waiting, Self::NoCarrier, Self::NoDevice, Self::Ipv4Only, Self::Ipv6Only]
            .into_iter()
            .find(|s| *s as u8 == number)
    }

    /// Whether servers can be asked.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Ipv4Only | Self::Ipv6Only)
    }
}

/// Servers that know the same names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// The servers, in no order that would matter. At most [`MAX_SERVERS`] are used.
    pub servers: Vec<SocketAddr>,
    /// How they are reached.
    pub state: UplinkState,
    /// For people: what is the matter with the uplink ("uplink wan: no carrier").
    pub detail: String,
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upstreams {
    /// The sets; at most 256.
    pub sets: Vec<Set>,
    /// The peers' names in [`wire_name`] form, and the set that each is asked of. These names alone, not what is below them.
    pub names: Vec<(Vec<u8>, u8)>,
    /// Where all other names go. `None` ("strict"): nowhere, they are refused.
    pub default: Option<u8>,
}

impl Upstreams {
    /// All names to one set.
    pub fn single(set: Set) -> Upstreams {
        Upstreams { sets: vec![set], names: Vec::new(), default: Some(0) }
    }

    /// The set for a name as it stands in a question.
    pub(super) fn route(&self, name: &[u8]) -> Option<u8> {
        // Before the first update there is no set at all: then all wait in what will be the first.
        self.find(name).or(if self.sets.is_empty() { Some(0) } else { self.default })
    }

    /// Whether it is one of the names.
    pub(super) fn is_peer(&self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &[u8]) -> Option<u8> {
        self.names.iter().find(|(known, _)| is_same_name(known, name)).map(|(_, set)| *set)
    }

    pub(super) fn state(&self, set: u8) -> UplinkState {
        self.sets.get(usize::from(set)).map_or(UplinkState::Waiting, |set| set.state)
    }

    pub(super) fn detail(&self, set: u8) -> &str {
        self.sets.get(usize::from(set)).map_or("", |set| &set.detail)
    }
}

/// A name as it stands in a message, in small letters: `vpn.example.net` with or without the last dot. Nothing if it is none.
pub fn wire_name(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut wire = Vec::with_capacity(text.len() + 2);
    for label in text.as_bytes().split(|byte| *byte == b'.') {
        if !(1..64).contains(&label.len()) {
            return None;
        }
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    wire.make_ascii_lowercase(); // lengths are below 64 and so no capitals
    (wire.len() <= MAX_NAME).then_some(wire)
}

/// More are no help: a household has two or three.
pub const MAX_SERVERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_to_its_set_whatever_its_case() {
        let mut names: Vec<_> =
            ["vpn2.Example.net", "vpn1.example.net."].iter().map(|n| (wire_name(n).unwrap(), 1)).collect();
        names.sort();
        let all = Upstreams { sets: vec![Set::default(), Set::default()], names, default: Some(0) };
        assert_eq!(all.route(b"\x04VPN1\x07example\x03net\0"), Some(1));
        assert_eq!(all.route(b"\x04vpn2\x07example\x03net\0"), Some(1));
        assert_eq!(all.route(b"\x04vpn3\x07example\x03net\0"), Some(0));
        assert_eq!(all.route(b"\x01a\x04vpn2\x07example\x03net\0"), Some(0), "only the name itself");
        let strict = Upstreams { default: None, ..all };
        assert_eq!(strict.route(b"\0"), None);
    }

    #[test]
    fn what_is_no_name_is_none() {
        for text in ["", ".", "a..b", &"x".repeat(64), &"abcdefg.".repeat(32)] {
            assert_eq!(wire_name(text), None, "{text}");
        }
        assert_eq!(wire_name("a.b.").unwrap(), b"\x01a\x01b\0");
    }
}
