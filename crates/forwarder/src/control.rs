//! What parent and child tell each other: one message a packet of the channel, with descriptors beside it where the message says so.
//!
//! A message is a version, a kind, and fields in network order. Both ends are the same program except while it is being
//! upgraded, so a message of another version is refused, not guessed at.

use crate::engine::{Counters, Limits, Peer, ServerReport, Set, UplinkState, Upstreams};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use narrowgate_sys::socket::Kind;

/// From the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToChild {
    /// The first message. With it come the listening sockets, UDP and TCP in turn, in the order of the addresses.
    Start {
        /// What may be used up.
        limits: Limits,
        /// Whether to go on alone when the parent dies; else it ends too.
        alone: bool,
        /// Where the sockets listen.
        listeners: Vec<SocketAddr>,
    },
    /// Whom to ask from now on.
    Update(Upstreams),
    /// Sockets of this kind come with it.
    Sockets(Kind),
    /// Tell the counters.
    AskStats,
    /// Where the peers were found last. With it the child remembers what it finds, and tells it.
    Kept(Vec<Peer>),
    /// The answer to [`ToParent::Resolved`] of this number.
    Decided {
        /// The number.
        id: u32,
        /// Whether packets may go to all of the addresses now.
        let_in: bool,
    },
    /// Names were asked in vain ([`ToParent::Peer`]): find out when they are answered again.
    Watch,
}

/// What is out of a child's reach. Capabilities are in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sandbox {
    /// Files (Landlock).
    pub files: bool,
    /// System calls that it does not need (seccomp).
    pub calls: bool,
}

impl Sandbox {
    /// What the kernel would have to have for the rest of it.
    pub fn lacks(self) -> Option<&'static str> {
        match (self.files, self.calls) {
            (true, true) => None,
            (false, true) => Some("Landlock"),
            (true, false) => Some("seccomp"),
            (false, false) => Some("Landlock and no seccomp"),
        }
    }
}

/// From the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToParent {
    /// The sandbox is closed; queries are being answered.
    Ready(Sandbox),
    /// So many more sockets of this kind would be of use.
    NeedSockets {
        /// Which.
        kind: Kind,
        /// How many.
        count: u16,
    },
    /// The counters.
    Stats(Box<Stats>),
    /// A peer's name has other addresses than were known, of one IP version.
    Found(Peer),
    /// An answer with these addresses waits until the guard lets packets go there.
    Resolved {
        /// Its number.
        id: u32,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// A peer's name was asked in vain for the first time, or is answered again since.
    Peer {
        /// In [`wire_name`](crate::engine::wire_name) form.
        name: Vec<u8>,
        /// Whether it is answered.
        answered: bool,
    },
}

/// What a resolver tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// What was counted.
    pub counters: Counters,
    /// The servers as they are known.
    pub servers: Vec<ServerReport>,
    /// Queries under way.
    pub in_flight: u32,
}

/// The longest message.
pub const MAX_MESSAGE: usize = 64 * 1024;
const VERSION: u8 = 1;

impl ToChild {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer(vec![VERSION]);
        match self {
            ToChild::Start { limits, alone, listeners } => {
                w.u8(0);
                w.u32(limits.queries as u32);
                w.u32(limits.cache as u32);
                w.u8(u8::from(*alone));
                w.addrs(listeners);
            }
            ToChild::Update(upstreams) => {
                w.u8(1);
                w.length(upstreams.sets.len());
                for set in &upstreams.sets {
                    w.u8(set.state as u8);
                    w.bytes(set.detail.as_bytes());
                    w.addrs(&set.servers);
                }
                w.length(upstreams.names.len());
                for (name, set) in &upstreams.names {
                    w.bytes(name);
                    w.u8(*set);
                }
                w.u16(upstreams.default.map_or(u16::MAX, u16::from));
            }
            ToChild::Sockets(kind) => {
                w.u8(2);
                w.u8(*kind as u8);
            }
            ToChild::AskStats => w.u8(3),
            ToChild::Decided { id, let_in } => {
                w.u8(4);
                w.u32(*id);
                w.u8(u8::from(*let_in));
            }
            ToChild::Watch => w.u8(6),
            ToChild::Kept(peers) => {
                w.u8(5);
                w.length(peers.len());
                peers.iter().for_each(|peer| w.peer(peer));
            }
        }
        w.0
    }

    /// From bytes. Nothing if they are no message of this version, or there is something behind it.
    #[inline(never)]
    pub fn decode(bytes: &[u8]) -> Option<ToChild> {
        let mut r = Reader::new(bytes);
        let message = match r.u8() {
            0 => {
                let limits = Limits { queries: r.u32() as usize, cache: r.u32() as usize };
                ToChild::Start { limits, alone: r.u8() != 0, listeners: r.addrs() }
            }
            1 => ToChild::Update(Upstreams {
                sets: r.list(Reader::set),
                names: r.list(|r| (r.bytes(), r.u8())),
                default: match r.u16() {
                    u16::MAX => None,
                    set => Some(r.known(u8::try_from(set).ok()).unwrap_or(0)),
                },
            }),
            2 => ToChild::Sockets(r.kind()),
            3 => ToChild::AskStats,
            4 => ToChild::Decided { id: r.u32(), let_in: r.u8() != 0 },
            5 => ToChild::Kept(r.list(Reader::peer)),
            6 => ToChild::Watch,
            _ => return None,
        };
        r.is_at_end().then_some(message)
    }
}

impl ToParent {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer(vec![VERSION]);
        match self {
            ToParent::Ready(sandbox) => {
                w.u8(0);
                w.u8(u8::from(sandbox.files) | u8::from(sandbox.calls) << 1);
            }
            ToParent::NeedSockets { kind, count } => {
                w.u8(1);
                w.u8(*kind as u8);
                w.u16(*count);
            }
            ToParent::Stats(stats) => {
                w.u8(2);
                w.u32(stats.in_flight);
                let values = stats.counters.values();
                w.length(values.len());
                values.iter().for_each(|value| w.number(*value, 8));
                w.length(stats.servers.len());
                for server in &stats.servers {
                    w.addr(&server.addr);
                    w.u32(server.rtt_ms.unwrap_or(u32::MAX));
                    w.u8(u8::from(server.well)
                        | u8::from(server.edns) << 1
                        | u8::from(server.keeps_case) << 2);
                }
            }
            ToParent::Resolved { id, addresses } => {
                w.u8(3);
                w.u32(*id);
                w.ips(addresses);
            }
            ToParent::Found(peer) => {
                w.u8(4);
                w.peer(peer);
            }
            ToParent::Peer { name, answered } => {
                w.u8(5);
                w.bytes(name);
                w.u8(u8::from(*answered));
            }
        }
        w.0
    }

    /// From bytes, as [`ToChild::decode`]. They come from the process that talks to strangers: nothing in them is believed unseen.
    #[inline(never)]
    pub fn decode(bytes: &[u8]) -> Option<ToParent> {
        let mut r = Reader::new(bytes);
        let message = match r.u8() {
            0 => {
                let bits = r.u8();
                ToParent::Ready(Sandbox { files: bits & 1 != 0, calls: bits & 2 != 0 })
            }
            1 => ToParent::NeedSockets { kind: r.kind(), count: r.u16() },
            2 => {
                let in_flight = r.u32();
                let counters = Counters::from_values(&r.list(|r| r.number(8)));
                ToParent::Stats(Box::new(Stats { counters, servers: r.list(Reader::server), in_flight }))
            }
            3 => ToParent::Resolved { id: r.u32(), addresses: r.list(Reader::ip) },
            4 => ToParent::Found(r.peer()),
            5 => ToParent::Peer { name: r.bytes(), answered: r.u8() != 0 },
            _ => return None,
        };
        r.is_at_end().then_some(message)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    /// The last so many bytes of it.
    #[inline(never)]
    fn number(&mut self, value: u64, length: usize) {
        for n in (0..length).rev() {
            self.0.push((value >> (8 * n)) as u8);
        }
    }
    fn u8(&mut self, value: u8) {
        self.number(value.into(), 1);
    }
    fn u16(&mut self, value: u16) {
        self.number(value.into(), 2);
    }
    fn u32(&mut self, value: u32) {
        self.number(value.into(), 4);
    }
    fn length(&mut self, value: usize) {
        self.number(value as u64, 2);
    }
    fn bytes(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }
    fn addr(&mut self, addr: &SocketAddr) {
        match addr {
            SocketAddr::V4(addr) => {
                self.u8(4);
                self.u32(u32::from(*addr.ip()));
            }
            SocketAddr::V6(addr) => {
                self.u8(6);
                self.0.extend_from_slice(&addr.ip().octets());
                self.u32(addr.scope_id());
            }
        }
        self.u16(addr.port());
    }
    fn ips(&mut self, addrs: &[IpAddr]) {
        self.length(addrs.len());
        addrs.iter().for_each(|addr| self.addr(&SocketAddr::new(*addr, 0)));
    }
    fn peer(&mut self, (name, addrs): &Peer) {
        self.bytes(name);
        self.ips(addrs);
    }
    fn addrs(&mut self, addrs: &[SocketAddr]) {
        self.length(addrs.len());
        addrs.iter().for_each(|addr| self.addr(addr));
    }
}

/// Reads fields. What is missing is read as zeros, and the message is no good: that is asked once, at the end.
struct Reader<'a> {
    rest: &'a [u8],
    is_good: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Reader<'a> {
        let mut reader = Reader { rest: bytes, is_good: true };
        reader.is_good = reader.u8() == VERSION;
        reader
    }
    #[inline(never)]
    fn take(&mut self, length: usize) -> &'a [u8] {
        let split = self.rest.split_at_checked(length);
        let (taken, rest) = self.known(split).unwrap_or_default();
        self.rest = rest;
        taken
    }
    /// What is not known makes the message no good.
    fn known<T>(&mut self, value: Option<T>) -> Option<T> {
        self.is_good &= value.is_some();
        value
    }
    fn number(&mut self, length: usize) -> u64 {
        self.take(length).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
    fn u8(&mut self) -> u8 {
        self.number(1) as u8
    }
    fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }
    fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }
    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.u16());
        self.take(length).to_vec()
    }
    fn kind(&mut self) -> Kind {
        let number = self.u8();
        let kind = Kind::ALL.get(usize::from(number)).copied();
        self.known(kind).unwrap_or(Kind::Udp4)
    }
    fn addr(&mut self) -> SocketAddr {
        let family = self.u8();
        self.is_good &= matches!(family, 4 | 6);
        let (ip, scope) = if family == 6 {
            let [high, low] = [self.number(8), self.number(8)];
            (IpAddr::V6((u128::from(high) << 64 | u128::from(low)).into()), self.u32())
        } else {
            (IpAddr::V4(self.u32().into()), 0)
        };
        let port = self.u16();
        match ip {
            IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
        }
    }
    fn ip(&mut self) -> IpAddr {
        self.addr().ip()
    }
    fn peer(&mut self) -> Peer {
        (self.bytes(), self.list(Self::ip))
    }
    fn set(&mut self) -> Set {
        let number = self.u8();
        let state = self.known(UplinkState::from_number(number)).unwrap_or_default();
        let detail = String::from_utf8(self.bytes()).ok();
        Set { state, detail: self.known(detail).unwrap_or_default(), servers: self.addrs() }
    }
    fn server(&mut self) -> ServerReport {
        let addr = self.addr();
        let rtt_ms = Some(self.u32()).filter(|rtt| *rtt != u32::MAX);
        let bits = self.u8();
        let [well, edns, keeps_case] = [1, 2, 4].map(|bit| bits & bit != 0);
        ServerReport { addr, rtt_ms, well, edns, keeps_case }
    }
    fn list<T>(&mut self, item: fn(&mut Self) -> T) -> Vec<T> {
        // Not with_capacity: the count is not believed before the items are seen.
        let mut list = Vec::new();
        for _ in 0..self.u16() {
            if !self.is_good {
                break;
            }
            list.push(item(self));
        }
        list
    }
    fn addrs(&mut self) -> Vec<SocketAddr> {
        self.list(Self::addr)
    }
    fn is_at_end(&self) -> bool {
        self.is_good && self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn addr() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port).into()),
            (any::<[u8; 16]>(), any::<u16>(), any::<u32>()).prop_map(|(ip, port, scope)| SocketAddrV6::new(
                ip.into(),
                port,
                0,
                scope
            )
            .into()),
        ]
    }

    fn peer() -> impl Strategy<Value = Peer> {
        (vec(any::<u8>(), 0..30), vec(addr().prop_map(|addr| addr.ip()), 0..4))
    }

    fn to_child() -> impl Strategy<Value = ToChild> {
        let set = (0u8..4, ".{0,40}", vec(addr(), 0..5)).prop_map(|(state, detail, servers)| Set {
            state: UplinkState::from_number(state).unwrap(),
            detail,
            servers,
        });
        let names = vec((vec(any::<u8>(), 0..30), any::<u8>()), 0..5);
        prop_oneof![
            (any::<u32>(), any::<u32>(), any::<bool>(), vec(addr(), 0..9)).prop_map(
                |(queries, cache, alone, listeners)| ToChild::Start {
                    limits: Limits { queries: queries as usize, cache: cache as usize },
                    alone,
                    listeners
                }
            ),
            (vec(set, 0..4), names, any::<Option<u8>>())
                .prop_map(|(sets, names, default)| ToChild::Update(Upstreams { sets, names, default })),
            (0usize..4).prop_map(|kind| ToChild::Sockets(Kind::ALL[kind])),
            Just(ToChild::AskStats),
            Just(ToChild::Watch),
            vec(peer(), 0..4).prop_map(ToChild::Kept),
            any::<(u32, bool)>().prop_map(|(id, let_in)| ToChild::Decided { id, let_in }),
        ]
    }

    fn to_parent() -> impl Strategy<Value = ToParent> {
        let server = (addr(), proptest::option::of(0..u32::MAX), any::<[bool; 3]>()).prop_map(
            |(addr, rtt_ms, [well, edns, keeps_case])| ServerReport { addr, rtt_ms, well, edns, keeps_case },
        );
        let counters = vec(any::<u64>(), Counters::NAMES.len()).prop_map(|v| Counters::from_values(&v));
        prop_oneof![
            any::<(bool, bool)>().prop_map(|(files, calls)| ToParent::Ready(Sandbox { files, calls })),
            (0usize..4, any::<u16>())
                .prop_map(|(k, count)| ToParent::NeedSockets { kind: Kind::ALL[k], count }),
            (counters, vec(server, 0..4), any::<u32>()).prop_map(|(counters, servers, in_flight)| {
                ToParent::Stats(Box::new(Stats { counters, servers, in_flight }))
            }),
            (any::<u32>(), vec(addr().prop_map(|a| a.ip()), 0..5))
                .prop_map(|(id, addresses)| ToParent::Resolved { id, addresses }),
            peer().prop_map(ToParent::Found),
            (vec(any::<u8>(), 0..30), any::<bool>())
                .prop_map(|(name, answered)| ToParent::Peer { name, answered }),
        ]
    }

    #[test]
    fn what_a_sandbox_lacks_is_named() {
        for (files, calls) in [(true, true), (false, true), (true, false), (false, false)] {
            let lacks = Sandbox { files, calls }.lacks().unwrap_or_default();
            assert_eq!((lacks.contains("Landlock"), lacks.contains("seccomp")), (!files, !calls));
        }
    }

    proptest! {
        #[test]
        fn what_is_said_is_what_is_heard(down in to_child(), up in to_parent()) {
            prop_assert_eq!(ToChild::decode(&down.encode()), Some(down));
            prop_assert_eq!(ToParent::decode(&up.encode()), Some(up));
        }

        #[test]
        fn half_a_message_or_more_than_one_is_none(down in to_child(), extra in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = down.encode();
            prop_assert_eq!(ToChild::decode(&bytes[..cut.index(bytes.len())]), None);
            bytes.push(extra);
            prop_assert_eq!(ToChild::decode(&bytes), None);
        }

        #[test]
        fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..200)) {
            let _ = ToChild::decode(&bytes);
            let _ = ToParent::decode(&bytes);
        }
    }
}
