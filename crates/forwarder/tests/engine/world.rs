//! A simulated network around the engine: a clock that jumps, servers of every kind, packets that are lost, late, doubled and
//! forged. All from one seed, so that what happened once happens again.

use narrowgate_forwarder::engine::{
    CannotAsk, Client, Engine, Limits, Outside, Set, SlotId, Transport, UplinkState, Upstreams,
};
use narrowgate_model::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Answers.
    Good,
    /// Stays silent.
    Dead,
    /// Nobody listens there: an ICMP error comes back.
    Closed,
    /// There is no route.
    NoRoute,
    /// Answers with another id.
    WrongId,
    /// Answers another question.
    WrongQuestion,
    /// REFUSED.
    Refuses,
    /// SERVFAIL.
    Fails,
    /// NOTIMP without a question.
    NotImplemented,
    /// Silent to queries with an OPT.
    DropsEdns,
    /// FORMERR to queries with an OPT, header only.
    HatesEdns,
    /// Silent to AAAA.
    DropsAaaa,
    /// Gives the name back in small letters.
    LowersCase,
    /// Sets TC on every UDP answer.
    Truncates,
    /// Silent by TCP.
    DropsTcp,
    /// Answers by TCP, silent by UDP.
    OnlyTcp,
    /// Gives cookies (RFC 7873), and BADCOOKIE to who has none of its own.
    WantsCookies,
    /// Gives cookies to who sends one, and answers all.
    GivesCookies,
    /// Silent to queries with a cookie.
    DropsCookies,
    /// FORMERR to queries with a cookie.
    HatesCookies,
    /// Gives somebody else's cookie back.
    WrongCookie,
}

/// A server.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    pub manner: Manner,
    /// Milliseconds there and back.
    pub rtt: u64,
    /// Packets lost of a hundred.
    pub loss: u64,
}

/// A reply that a client got.
#[derive(Debug, Clone)]
pub struct Reply {
    pub at: Time,
    pub client: Client,
    pub bytes: Vec<u8>,
}

enum Event {
    /// To the slot in its n-th use.
    Message(SlotId, u64, Vec<u8>),
    /// The same from a forger.
    Forged(SlotId, u64, Vec<u8>),
    Error(SlotId, u64),
}

/// What is outside of the engine.
pub struct Net {
    pub now: Time,
    pub hosts: BTreeMap<SocketAddr, Host>,
    pub replies: Vec<Reply>,
    /// What was sent, when and where.
    pub sent: Vec<(Time, SocketAddr, Transport, Vec<u8>)>,
    pub keep_sent: bool,
    slots: Vec<Option<(SocketAddr, Transport, u64)>>,
    /// The ids that went out by a slot in its n-th use.
    ids: BTreeSet<(u64, [u8; 2])>,
    uses: u64,
    max_slots: usize,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    bodies: BTreeMap<u64, Event>,
    sequence: u64,
    seed: u64,
    /// Of a hundred answers, so many are accompanied by forged ones.
    pub forgers: u64,
}

/// The engine in its network.
pub struct World {
    pub engine: Engine,
    pub net: Net,
}

impl World {
    pub fn new(seed: u64, limits: Limits) -> World {
        let net = Net {
            now: Time(1_000_000),
            hosts: BTreeMap::new(),
            replies: Vec::new(),
            sent: Vec::new(),
            keep_sent: true,
            slots: Vec::new(),
            ids: BTreeSet::new(),
            uses: 0,
            max_slots: 64,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            sequence: 0,
            seed,
            forgers: 0,
        };
        World { engine: Engine::new(limits), net }
    }

    /// With these servers, the uplink up.
    pub fn with(seed: u64, hosts: &[Host]) -> World {
        let mut world = World::new(seed, Limits::default());
        world.serve(hosts, UplinkState::Up, "");
        world
    }

    /// From now on these servers.
    pub fn serve(&mut self, hosts: &[Host], state: UplinkState, detail: &str) {
        let servers: Vec<SocketAddr> = (0..hosts.len()).map(server).collect();
        self.net.hosts.extend(servers.iter().copied().zip(hosts.iter().copied()));
        let set = Set { servers, state, detail: detail.to_owned() };
        self.engine.update(self.net.now, Upstreams::single(set), &mut self.net);
    }

    /// A client asks.
    pub fn ask(&mut self, client: Client, bytes: &[u8]) {
        self.engine.client_message(self.net.now, client, bytes, &mut self.net);
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.net.now + span;
        loop {
            let tick = self.engine.next_tick();
            let event = self.net.events.peek().map(|Reverse((at, _))| *at);
            let Some(next) = tick.into_iter().chain(event).min().filter(|next| *next <= end) else { break };
            self.net.now = self.net.now.max(next);
            while let Some(event) = self.net.due() {
                match event {
                    Event::Message(slot, uses, mut bytes) if self.net.is_in_use(slot, uses) => {
                        self.engine.upstream_message(self.net.now, slot, &mut bytes, &mut self.net);
                    }
                    Event::Error(slot, uses) if self.net.is_in_use(slot, uses) => {
                        self.engine.upstream_error(self.net.now, slot, &mut self.net);
                    }
                    // A guess that is right by chance (one of 65 536: the manual says so) is left out.
                    Event::Forged(slot, uses, mut bytes)
                        if self.net.is_in_use(slot, uses)
                            && !self.net.ids.contains(&(uses, [bytes[0], bytes[1]])) =>
                    {
                        self.engine.upstream_message(self.net.now, slot, &mut bytes, &mut self.net);
                    }
                    Event::Message(..) | Event::Forged(..) | Event::Error(..) => {}
                }
            }
            self.engine.tick(self.net.now, &mut self.net);
        }
        self.net.now = end;
    }

    /// Asks and waits; the reply and how long it took.
    pub fn resolve(&mut self, bytes: &[u8]) -> Option<(Duration, Vec<u8>)> {
        let before = self.net.replies.len();
        let start = self.net.now;
        self.ask(udp_client(self.net.sequence as u16 | 1), bytes);
        self.run_for(Duration::from_secs(7));
        let reply = self.net.replies.get(before)?;
        assert_eq!(self.net.replies.len(), before + 1, "one question, one answer");
        Some((reply.at.since(start), reply.bytes.clone()))
    }
}

pub fn server(n: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n as u8 + 1], 53))
}

pub fn udp_client(port: u16) -> Client {
    Client::Udp { listener: 0, from: SocketAddr::from(([127, 0, 0, 1], port.max(1))) }
}

impl Net {
    pub fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.random() % 100 < percent
    }

    pub fn open_slots(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn is_in_use(&self, slot: SlotId, uses: u64) -> bool {
        self.slots.get(slot as usize).copied().flatten().is_some_and(|(.., n)| n == uses)
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + Duration::from_millis(ms), self.sequence)));
        self.bodies.insert(self.sequence, event);
    }

    fn due(&mut self) -> Option<Event> {
        let Reverse((at, sequence)) = *self.events.peek()?;
        if at > self.now {
            return None;
        }
        self.events.pop();
        self.bodies.remove(&sequence)
    }

    fn answer(&mut self, slot: SlotId, uses: u64, host: Host, transport: Transport, query: &[u8]) {
        use Manner::*;
        let tcp = transport == Transport::Tcp;
        let end = question_end(query);
        let has_opt = query[11] > 0;
        let qtype = u16::from_be_bytes([query[end - 4], query[end - 3]]);
        let silent = match host.manner {
            Dead => true,
            DropsEdns => has_opt,
            DropsAaaa => qtype == 28,
            DropsTcp => tcp,
            OnlyTcp => !tcp,
            DropsCookies => cookie(query).is_some(),
            _ => false,
        };
        if silent {
            return;
        }
        let mut bytes = query[..end].to_vec();
        bytes[2] = 0x80 | query[2] & 1;
        bytes[3] = 0x80;
        bytes[6..12].fill(0);
        match host.manner {
            WrongId => bytes[0] ^= 0x55,
            WrongQuestion => bytes[13] ^= 1,
            Refuses => bytes[3] |= 5,
            Fails => bytes[3] |= 2,
            NotImplemented => {
                bytes[3] |= 4;
                bytes[5] = 0;
                bytes.truncate(12);
            }
            HatesEdns if has_opt => {
                bytes[3] |= 1;
                bytes[5] = 0;
                bytes.truncate(12);
            }
            LowersCase => bytes[12..end].make_ascii_lowercase(),
            Truncates if !tcp => bytes[2] |= 2,
            HatesCookies if cookie(query).is_some() => bytes[3] |= 1,
            WantsCookies if !tcp && has_opt && cookie(query).is_none_or(|c| c.len() < 16) => bytes[3] |= 7,
            _ => {}
        }
        if bytes[3] & 0xf == 0 && bytes[2] & 2 == 0 {
            bytes[7] = 1;
            bytes.extend([0xc0, 12]);
            bytes.extend(qtype.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 1, 44, 0, 4, 10, 0, 0, 1]);
        }
        if let Some(theirs) = cookie(query)
            && matches!(host.manner, WantsCookies | GivesCookies | WrongCookie)
        {
            let mut ours = theirs[..8].to_vec();
            ours[0] ^= u8::from(host.manner == WrongCookie);
            bytes[11] = 1;
            let extended = u8::from(bytes[3] & 0xf == 7);
            bytes.extend([0, 0, 41, 4, 208, extended, 0, 0, 0, 0, 20, 0, 10, 0, 16]);
            bytes.extend(ours);
            bytes.extend(b"a server");
        }
        if self.chance(self.forgers) {
            // Somebody who does not see the query guesses: the question he knows, the rest he does not.
            for _ in 0..8 {
                let mut forged = bytes.clone();
                let id = self.random();
                forged[..2].copy_from_slice(&(id as u16).to_be_bytes());
                *forged.last_mut().unwrap() = 66;
                self.after(host.rtt / 2, Event::Forged(slot, uses, forged));
            }
        }
        if self.chance(host.loss) {
            let late = self.random() % 5;
            self.after(host.rtt + late, Event::Message(slot, uses, bytes.clone())); // twice
        }
        self.after(host.rtt, Event::Message(slot, uses, bytes));
    }
}

impl Outside for Net {
    fn open(&mut self, transport: Transport, server: SocketAddr) -> Result<SlotId, CannotAsk> {
        if self.hosts.get(&server).is_none_or(|host| host.manner == Manner::NoRoute) {
            return Err(CannotAsk::Unreachable);
        }
        let free = self.slots.iter().position(Option::is_none);
        let slot = match free {
            Some(slot) => slot,
            None if self.slots.len() < self.max_slots => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return Err(CannotAsk::NoSocket),
        };
        self.uses += 1;
        self.slots[slot] = Some((server, transport, self.uses));
        Ok(slot as SlotId)
    }

    fn send(&mut self, slot: SlotId, message: &[u8]) -> Result<(), CannotAsk> {
        let (server, transport, uses) = self.slots[slot as usize].expect("sent by a slot that is not open");
        if self.keep_sent {
            self.sent.push((self.now, server, transport, message.to_vec()));
        }
        self.ids.insert((uses, [message[0], message[1]]));
        let host = self.hosts[&server];
        if self.chance(host.loss) {
            return Ok(());
        }
        if host.manner == Manner::Closed {
            self.after(host.rtt, Event::Error(slot, uses));
        } else {
            self.answer(slot, uses, host, transport, message);
        }
        Ok(())
    }

    fn close(&mut self, slot: SlotId) {
        assert!(self.slots[slot as usize].take().is_some(), "closed a slot that is not open");
    }

    fn reply(&mut self, client: &Client, message: &[u8]) {
        self.replies.push(Reply { at: self.now, client: *client, bytes: message.to_vec() });
    }

    fn random(&mut self) -> u64 {
        Net::random(self)
    }
}

/// A query; with an OPT if `udp` is not 0.
pub fn query(id: u16, name: &str, qtype: u16, udp: u16) -> Vec<u8> {
    let mut m = vec![(id >> 8) as u8, id as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, (udp > 0) as u8];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        m.push(label.len() as u8);
        m.extend(label.bytes());
    }
    m.push(0);
    m.extend(qtype.to_be_bytes());
    m.extend([0, 1]);
    if udp > 0 {
        m.extend([0, 0, 41, (udp >> 8) as u8, udp as u8, 0, 0, 0, 0, 0, 0]);
    }
    m
}

/// The cookie in a query whose OPT is its last record.
pub fn cookie(query: &[u8]) -> Option<&[u8]> {
    let options = query.get(question_end(query) + 11..)?;
    (query[11] > 0 && options.first_chunk() == Some(&[0, 10])).then(|| &options[4..])
}

/// Where the question of a well-formed message ends.
pub fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

pub fn rcode(message: &[u8]) -> u8 {
    message[3] & 0xf
}
