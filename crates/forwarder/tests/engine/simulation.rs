//! Everything at once, for long: two hundred clients that ask, ask again and send garbage, servers of all kinds that come and go, an
//! uplink that does too, packets that are lost, late, doubled, out of order and forged, the cache, strict mode and its guard, all
//! limits. What is promised is looked at all the way, at every message.
//!
//! A part runs with the other tests. `make simulate` runs as much as one likes; `SIMULATE_SEED` does it again.

use crate::world::{Host, Manner, Reply, World, query, question_end, rcode, server, udp_client};
use narrowgate_forwarder::engine::{Client, Limits, Resolved, Set, UplinkState, Upstreams, wire_name};
use narrowgate_model::Time;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[test]
fn all_is_well_whatever_happens_for_long() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let packets = number("SIMULATE_PACKETS").unwrap_or(SOME);
    let seed = number("SIMULATE_SEED").unwrap_or_else(|| match packets {
        SOME => 1,
        _ => RandomState::new().hash_one(packets),
    });
    println!("SIMULATE_SEED={seed} SIMULATE_PACKETS={packets}");
    let start = Instant::now();
    let city = City::live(seed, packets);
    let (net, seconds) = (&city.world.net, start.elapsed().as_secs_f64());
    println!(
        "{} packets in {seconds:.1} s, {:.0} a second; {:.0} s of their time; {} questions, by response code {:?}\n{:?}",
        net.packets,
        net.packets as f64 / seconds,
        net.now.since(Time(0)).as_secs_f64() - 1000.0,
        city.asked,
        city.codes,
        city.world.engine.counters(),
    );
    let seen = city.world.engine.counters();
    for (what, count) in [
        ("answered", seen.answers),
        ("answered from the cache", seen.cached),
        ("answered with what is over", seen.stale),
        ("failed", seen.failed),
        ("blocked", seen.blocked),
        ("refused", seen.refused),
        ("asked again", seen.retries),
        ("shared", seen.joined),
        ("forged", seen.unmatched),
        ("malformed", seen.malformed),
    ] {
        assert!(count > 0, "nothing was {what}: this looks at less than it says");
    }
}

#[test]
fn the_same_seed_brings_the_same_to_the_last_bit() {
    let digests: Vec<u64> = [7, 7, 8].map(|seed| City::live(seed, 30_000).digest).into();
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[1], digests[2]);
}

/// The clients, and what they wait for.
struct City {
    world: World,
    asked: u64,
    open: HashMap<(Client, u16), Question>,
    /// Some that were asked lately, to be asked again.
    lately: VecDeque<(Client, u16)>,
    /// Asked several times while the answer waited for the guard: as many answers may come.
    several: VecDeque<((Client, u16), u32)>,
    /// When answers last waited for the guard.
    strict: Option<Time>,
    garbage: u64,
    garbage_answered: u64,
    codes: [u64; 16],
    digest: u64,
}

#[derive(Debug)]
struct Question {
    bytes: Vec<u8>,
    at: Time,
    times: u32,
}

impl City {
    fn live(seed: u64, packets: u64) -> City {
        let mut world = World::new(seed, LIMITS);
        world.net.keep_sent = false;
        world.net.lifelike = true;
        world.net.guard = Some((Resolved::default(), 85));
        let mut city = City {
            world,
            asked: 0,
            open: HashMap::new(),
            lately: VecDeque::new(),
            several: VecDeque::new(),
            strict: None,
            garbage: 0,
            garbage_answered: 0,
            codes: [0; 16],
            digest: 0,
        };
        let mut settled = None;
        while city.world.net.packets < packets {
            city.era();
            if city.world.net.packets > packets / 2 {
                settled.get_or_insert_with(resident_pages);
            }
        }
        city.pass(60_000);
        assert!(city.open.is_empty(), "{} questions were never answered", city.open.len());
        let world = &mut city.world;
        assert_eq!(world.engine.in_flight(), 0);
        assert_eq!(world.engine.next_tick(), None, "idle is idle");
        assert_eq!(world.net.guard.as_ref().unwrap().0.next_due(), None);
        // What other tests of the process take counts as well, so only where this is long and alone.
        if packets >= 1_000_000 {
            let grown = resident_pages().saturating_sub(settled.unwrap());
            assert!(grown < 2048, "memory grew by {grown} pages in the second half");
        }
        city
    }

    fn random(&mut self, below: u64) -> u64 {
        self.world.net.random() % below
    }

    /// Some seconds with the same servers.
    fn era(&mut self) {
        let first = self.random(3) as usize * 5;
        let mut set = Set { detail: "x".to_owned(), ..Set::default() };
        for n in 0..self.random(6) as usize {
            let manner = match self.random(5) {
                0 | 1 => Manner::Good,
                _ => Manner::ALL[self.random(Manner::ALL.len() as u64) as usize],
            };
            let rtt = if self.random(20) == 0 { 5000 } else { 1 + self.random(150) };
            let loss = self.random(2) * self.random(40);
            let addr = server(first + n);
            self.world.net.hosts.insert(addr, Host { manner, rtt, loss });
            set.servers.push(addr);
        }
        set.state = match self.random(6) {
            0 => UplinkState::from_number(self.random(6) as u8).unwrap(),
            _ => UplinkState::Up,
        };
        let names = (0..10).map(|n| (wire_name(&format!("p{n}.example")).unwrap(), 0)).collect();
        let strict = self.random(4) == 0;
        let now = self.world.net.now;
        // From now on, or a moment longer.
        self.strict = if strict { Some(Time(u64::MAX)) } else { self.strict.map(|last| last.min(now)) };
        let upstreams = Upstreams { sets: vec![set], names, default: (!strict).then_some(0) };
        if let Some((resolved, _)) = &mut self.world.net.guard {
            resolved.set_strict(strict);
        }
        self.world.net.forgers = self.random(60);
        self.world.net.jitter = self.random(40);
        self.world.net.hangups = self.random(20);
        let world = &mut self.world;
        world.engine.update(world.net.now, upstreams, &mut world.net);
        for _ in 0..self.random(400) {
            self.moment();
        }
    }

    fn moment(&mut self) {
        let pause = self.random(30);
        self.pass(pause);
        if self.random(1500) == 0 {
            // One client wants it all.
            let client = self.client();
            for _ in 0..self.random(600) {
                self.ask(client);
            }
        }
        for _ in 0..self.random(6) {
            match self.random(32) {
                0 => self.garbage_of_a_client(),
                1 => self.garbage_of_a_server(),
                2..5 => self.ask_again(),
                _ => {
                    let client = self.client();
                    self.ask(client);
                }
            }
        }
    }

    fn client(&mut self) -> Client {
        match self.random(220) {
            n @ 0..20 => Client::Tcp(n),
            n @ 20..120 => udp_client(n as u16),
            n => Client::Udp { listener: 1, from: SocketAddr::from(([10, 0, 0, n as u8], 5353)) },
        }
    }

    fn ask(&mut self, client: Client) {
        let letter = b"abcpxz"[self.random(6) as usize] as char;
        let mut name = format!("{letter}{}.example", self.random(40));
        if self.random(3) == 0 {
            name = name.to_uppercase();
        }
        let qtype = [1, 1, 1, 28, 28, 16, 5, 257][self.random(8) as usize];
        let udp = [0, 0, 512, 1232, 1232, 4096][self.random(6) as usize];
        let id = self.random(65536) as u16;
        if self.open.contains_key(&(client, id)) {
            return;
        }
        let mut bytes = query(id, &name, qtype, udp);
        if udp > 0 && self.random(4) == 0 {
            let at = bytes.len() - 4;
            bytes[at] |= 0x80; // DNSSEC
        }
        self.open.insert((client, id), Question { bytes: bytes.clone(), at: self.world.net.now, times: 1 });
        self.lately.push_back((client, id));
        if self.lately.len() > 64 {
            self.lately.pop_front();
        }
        self.send(client, &bytes);
    }

    fn ask_again(&mut self) {
        let at = self.random(64) as usize;
        let Some(key) = self.lately.get(at).copied() else { return };
        let Some(question) = self.open.get_mut(&key) else { return };
        question.times += 1;
        let bytes = question.bytes.clone();
        self.send(key.0, &bytes);
    }

    fn garbage_of_a_client(&mut self) {
        let mut bytes = query(self.random(65536) as u16, "garbage.example", 1, 1232);
        for _ in 0..1 + self.random(4) {
            let at = self.random(bytes.len() as u64) as usize;
            bytes[at] = self.random(256) as u8;
        }
        bytes.truncate(self.random(60) as usize);
        self.garbage += 1;
        self.send(GARBAGE, &bytes);
    }

    fn garbage_of_a_server(&mut self) {
        let mut bytes = query(self.random(65536) as u16, "garbage.example", 1, 1232);
        bytes[2] |= 0x80;
        let at = self.random(bytes.len() as u64) as usize;
        bytes[at] = self.random(256) as u8;
        let slot = self.random(16) as u32;
        let world = &mut self.world;
        world.net.packets += 1;
        world.engine.upstream_message(world.net.now, slot, &mut bytes, &mut world.net);
    }

    fn send(&mut self, client: Client, bytes: &[u8]) {
        self.asked += 1;
        self.world.ask(client, bytes);
        assert!(self.world.engine.in_flight() <= LIMITS.queries);
        self.read();
    }

    fn pass(&mut self, ms: u64) {
        self.world.run_for(Duration::from_millis(ms));
        self.read();
        let now = self.world.net.now;
        if ms > 20 {
            let late = self.open.iter().find(|(_, question)| now.since(question.at) > PATIENCE);
            assert!(late.is_none(), "{now:?}: waits for too long: {late:?}");
        }
        assert_eq!(self.world.engine.counters().queries, self.asked);
    }

    /// Looks at each reply that came.
    fn read(&mut self) {
        for reply in std::mem::take(&mut self.world.net.replies) {
            self.check(&reply);
            for byte in reply.at.0.to_be_bytes().iter().chain(&reply.bytes) {
                self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }

    fn check(&mut self, Reply { at, client, bytes }: &Reply) {
        assert!(bytes.len() >= 12 && bytes[2] & 0x80 != 0, "no answer: {bytes:?}");
        assert_ne!(bytes.last(), Some(&66), "forged: {bytes:?}");
        if *client == GARBAGE {
            self.garbage_answered += 1;
            return assert!(self.garbage_answered <= self.garbage);
        }
        self.codes[usize::from(rcode(bytes))] += 1;
        let key = (*client, u16::from_be_bytes([bytes[0], bytes[1]]));
        let Some(question) = self.open.remove(&key) else {
            let more = self.several.iter_mut().find(|(k, left)| *k == key && *left > 0);
            let (_, left) = more.unwrap_or_else(|| panic!("{at:?}: {client:?} did not ask for {bytes:?}"));
            return *left -= 1;
        };
        let end = question_end(&question.bytes);
        assert_eq!(bytes[4..6], [0, 1]);
        assert_eq!(bytes[12..end], question.bytes[12..end], "another question, or other letters");
        let edns = question.bytes[11] > 0;
        let room = match client {
            Client::Udp { .. } if edns => {
                usize::from(u16::from_be_bytes([question.bytes[end + 3], question.bytes[end + 4]]))
            }
            Client::Udp { .. } => 512,
            Client::Tcp(_) => 65535,
        };
        assert!(bytes.len() <= room, "{} bytes for a client that takes {room}", bytes.len());
        let waited = self.strict.is_some_and(|last| at.since(last) < Duration::from_secs(1));
        if question.times > 1 && waited {
            self.several.push_back((key, question.times - 1));
            if self.several.len() > 512 {
                self.several.pop_front();
            }
        }
    }
}

/// Memory of this process in pages of 4 KiB.
fn resident_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

const LIMITS: Limits = Limits { queries: 256, cache: 60_000 };
/// What runs with the other tests.
const SOME: u64 = 200_000;
/// For the uplink, then for servers, then for the guard.
const PATIENCE: Duration = Duration::from_millis(4000 + 4500 + 500);
const GARBAGE: Client = Client::Tcp(999);
