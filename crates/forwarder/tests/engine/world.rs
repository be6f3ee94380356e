//! A simulated network around the engine: a clock that jumps, servers of every kind, packets that are lost, late, doubled and
//! forged. All from one seed, so that what happened once happens again.

use crate::hosts;
pub use crate::hosts::{Host, Manner, cookie, query, question_end, rcode};
use narrowgate_forwarder::control::ToParent;
use narrowgate_forwarder::engine::{
    CannotAsk, Client, Engine, Fate, Limits, Outside, Peer, Resolved, Set, SlotId, Transport, UplinkState,
    Upstreams, wire_name,
};
use narrowgate_model::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

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
    /// The parent's word about addresses that wait.
    Decided(u32, bool),
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
    /// The ids that went out by each slot since it was opened.
    ids: Vec<BTreeSet<[u8; 2]>>,
    uses: u64,
    max_slots: usize,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    bodies: BTreeMap<u64, Event>,
    sequence: u64,
    seed: u64,
    /// Of a hundred answers, so many are accompanied by forged ones.
    pub forgers: u64,
    /// Answers take up to so many milliseconds longer, each on its own: they overtake one another.
    pub jitter: u64,
    /// Of a hundred answers by TCP, so many are the connection's last.
    pub hangups: u64,
    /// Servers answer as real ones do (see [`hosts::answer`]).
    pub lifelike: bool,
    /// Answers wait for the guard: of a hundred addresses so many are let in, and as many of the others are never heard of again.
    pub guard: Option<(Resolved, u64)>,
    /// Messages that came to the engine or went from it.
    pub packets: u64,
}

/// What the engine has to tell, by kind.
pub trait Told {
    fn take_found(&mut self) -> Vec<Peer>;
    fn take_news(&mut self) -> Vec<(Vec<u8>, bool)>;
}

impl Told for Engine {
    /// Where peers were found: a name each, and its addresses of one IP version.
    fn take_found(&mut self) -> Vec<Peer> {
        let found = |message| if let ToParent::Found(peer) = message { Some(peer) } else { None };
        self.take_told().into_iter().filter_map(found).collect()
    }

    /// What has become of peers' names, in their order: asked for in vain (`false`), answered again (`true`).
    fn take_news(&mut self) -> Vec<(Vec<u8>, bool)> {
        let news = |message| {
            if let ToParent::Peer { name, answered } = message { Some((name, answered)) } else { None }
        };
        self.take_told().into_iter().filter_map(news).collect()
    }
}

/// The engine in its network.
pub struct World {
    pub engine: Engine,
    /// The tunnels' peers.
    pub peers: Vec<String>,
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
            ids: Vec::new(),
            uses: 0,
            max_slots: 64,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            sequence: 0,
            seed,
            forgers: 0,
            jitter: 0,
            hangups: 0,
            lifelike: false,
            guard: None,
            packets: 0,
        };
        World { engine: Engine::new(limits), peers: Vec::new(), net }
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
        let mut names: Vec<_> = self.peers.iter().map(|name| (wire_name(name).unwrap(), 0)).collect();
        names.sort();
        let upstreams = Upstreams { names, ..Upstreams::single(set) };
        self.engine.update(self.net.now, upstreams, &mut self.net);
    }

    /// A client asks.
    pub fn ask(&mut self, client: Client, bytes: &[u8]) {
        self.net.packets += 1;
        self.engine.client_message(self.net.now, client, bytes, &mut self.net);
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.net.now + span;
        loop {
            let tick = self.engine.next_tick();
            let event = self.net.events.peek().map(|Reverse((at, _))| *at);
            let guard = self.net.guard.as_ref().and_then(|(resolved, _)| resolved.next_due());
            let Some(next) = tick.into_iter().chain(event).chain(guard).min().filter(|next| *next <= end)
            else {
                break;
            };
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
                            && !self.net.ids[slot as usize].contains(&[bytes[0], bytes[1]]) =>
                    {
                        self.engine.upstream_message(self.net.now, slot, &mut bytes, &mut self.net);
                    }
                    Event::Decided(id, let_in) => self.net.decided(id, let_in),
                    Event::Message(..) | Event::Forged(..) | Event::Error(..) => {}
                }
            }
            self.engine.tick(self.net.now, &mut self.net);
            self.net.see_to_withheld();
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
        self.packets += 1;
        self.bodies.remove(&sequence)
    }

    fn answer(&mut self, slot: SlotId, uses: u64, host: Host, transport: Transport, query: &[u8]) {
        let tcp = transport == Transport::Tcp;
        let Some(bytes) = hosts::answer(host.manner, tcp, query, self.lifelike) else { return };
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
        let mut late = 0;
        if self.jitter > 0 {
            late = self.random() % self.jitter;
        }
        self.after(host.rtt + late, Event::Message(slot, uses, bytes));
        if tcp && self.hangups > 0 && self.chance(self.hangups) {
            self.after(host.rtt + self.jitter, Event::Error(slot, uses));
        }
    }

    /// What the driver does at the end of a round.
    fn see_to_withheld(&mut self) {
        let Some((mut resolved, let_in)) = self.guard.take() else { return };
        while let Some((id, _)) = resolved.untold() {
            if self.chance(let_in) {
                self.after(3, Event::Decided(id, true));
            } else if !self.chance(let_in) {
                self.after(3, Event::Decided(id, false));
            }
        }
        let given_up = resolved.given_up(self.now);
        self.guard = Some((resolved, let_in));
        given_up.iter().for_each(|(client, answer)| self.give(client, answer));
    }

    fn decided(&mut self, id: u32, let_in: bool) {
        let Some((resolved, _)) = &mut self.guard else { return };
        let answers = resolved.decided(self.now, id, let_in);
        answers.iter().for_each(|(client, answer)| self.give(client, answer));
    }

    fn give(&mut self, client: &Client, message: &[u8]) {
        self.packets += 1;
        self.replies.push(Reply { at: self.now, client: *client, bytes: message.to_vec() });
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
                self.ids.push(BTreeSet::new());
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
        self.packets += 1;
        self.ids[slot as usize].insert([message[0], message[1]]);
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
        self.ids[slot as usize].clear();
    }

    fn reply(&mut self, client: &Client, message: &[u8]) {
        let fate = match &mut self.guard {
            Some((resolved, _)) => resolved.fate(self.now, client, message),
            None => Fate::Pass,
        };
        match fate {
            Fate::Pass => self.give(client, message),
            Fate::Wait => {}
            Fate::Fail(failure) => self.give(client, &failure),
        }
    }

    fn random(&mut self) -> u64 {
        Net::random(self)
    }
}
