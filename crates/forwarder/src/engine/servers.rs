//! What is known of each server: how soon it answers, whether it does, and what it cannot bear.

use super::cookies::Cookies;
use super::upstreams::{MAX_SERVERS, Upstreams};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use narrowgate_model::Time;

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub addr: SocketAddr,
    /// Smoothed round-trip time and its deviation (RFC 6298), in milliseconds; nothing before the first answer.
    estimate: Option<(u32, u32)>,
    /// Questions in a row without an answer.
    misses: u32,
    /// It stays silent or refuses: asked last, and probed from this time on.
    suspect: Option<Suspicion>,
    /// It answered a query with EDNS.
    pub edns_works: bool,
    /// It fails with EDNS and works without (RFC 6891, 6.2.2): until then it is asked without.
    pub edns_off_until: Option<Time>,
    /// It gives the name's letters back as they were sent.
    pub keeps_case: bool,
    /// TCP: failures in a row.
    pub tcp_failures: u32,
    pub cookies: Cookies,
    /// Queries and sets that refer to it.
    references: u32,
    /// It was asked once, whatever came of it.
    met: bool,
    /// In a set now.
    listed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Suspicion {
    probe_at: Time,
    /// In milliseconds.
    backoff: u64,
}

impl Server {
    #[inline(never)]
    fn new(addr: SocketAddr) -> Server {
        Server {
            addr,
            estimate: None,
            misses: 0,
            suspect: None,
            edns_works: false,
            edns_off_until: None,
            keeps_case: true,
            tcp_failures: 0,
            cookies: Cookies::default(),
            references: 0,
            met: false,
            listed: true,
        }
    }

    /// After how many milliseconds an answer is late: the mean and four deviations, as TCP does (RFC 6298, 2).
    pub fn expected(&self) -> u64 {
        let ms = match self.estimate {
            Some((mean, deviation)) => (mean + 4 * deviation).clamp(SOONEST, LATEST),
            None => UNKNOWN,
        };
        ms.into()
    }

    /// Smaller is better: those that answer before those that do not, the sooner before the later. An unknown one is worth a try before a slow one.
    pub fn rank(&self) -> (bool, u32) {
        (self.suspect.is_some(), self.estimate.map_or(UNKNOWN / 2, |(mean, _)| mean))
    }

    /// It answered after so many milliseconds.
    pub fn answered(&mut self, after: u64) {
        let sample = after.min(60_000) as u32;
        self.estimate = Some(match self.estimate {
            None => (sample, sample / 2),
            Some((mean, deviation)) => ((7 * mean + sample) / 8, (3 * deviation + mean.abs_diff(sample)) / 4),
        });
        self.misses = 0;
        self.suspect = None;
    }

    /// Whether to send it an OPT.
    pub fn takes_edns(&mut self, now: Time) -> bool {
        self.edns_off_until = self.edns_off_until.filter(|until| *until > now);
        self.edns_off_until.is_none()
    }

    /// It answered without EDNS what it did not with it.
    pub fn dislikes_edns(&mut self, now: Time) {
        self.edns_off_until = Some(now + WITHOUT_EDNS);
    }

    /// It did not answer in time.
    pub fn missed(&mut self, now: Time) {
        self.misses += 1;
        // One packet may get lost; but one that never answered has nothing to its credit.
        if self.misses >= 2 || self.estimate.is_none() {
            self.doubt(now);
        }
    }

    /// It cannot be used: unreachable, or refuses what others answer.
    pub fn doubt(&mut self, now: Time) {
        let backoff = self.suspect.map_or(FIRST_PROBE, |s| s.backoff);
        self.suspect.get_or_insert(Suspicion { probe_at: Time(now.0 + backoff), backoff });
    }

    /// Nobody refers to it.
    fn is_unused(&self) -> bool {
        !self.listed && self.references == 0
    }

    /// Whether to ask it beside the best: a doubtful one from time to time (then the next time is set), an unknown one once.
    pub fn probe(&mut self, now: Time) -> bool {
        let unknown = self.estimate.is_none() && !core::mem::replace(&mut self.met, true);
        match &mut self.suspect {
            None => unknown,
            Some(suspicion) if suspicion.probe_at <= now => {
                suspicion.backoff = (suspicion.backoff * 2).min(LAST_PROBE);
                suspicion.probe_at = Time(now.0 + suspicion.backoff);
                true
            }
            _ => false,
        }
    }
}

/// A server as reports show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// Where it is.
    pub addr: SocketAddr,
    /// Mean round-trip time in milliseconds; nothing before the first answer.
    pub rtt_ms: Option<u32>,
    /// Whether it answers, as far as is known.
    pub well: bool,
    /// Whether it is asked with EDNS.
    pub edns: bool,
    /// Whether it keeps the case of letters.
    pub keeps_case: bool,
}

/// All servers that are, or were, in some set.
#[derive(Default)]
pub(super) struct Servers {
    table: Vec<Server>,
}

impl Servers {
    /// The servers' numbers in each set. What is known of a server that stays, stays.
    pub fn update(&mut self, upstreams: &Upstreams) -> Vec<Vec<u16>> {
        for server in &mut self.table {
            server.listed = false;
        }
        let mut sets = Vec::new();
        for set in &upstreams.sets {
            let mut numbers = Vec::new();
            for addr in set.servers.iter().take(MAX_SERVERS) {
                let number = self.number_of(*addr);
                if !numbers.contains(&number) {
                    numbers.push(number);
                }
            }
            sets.push(numbers);
        }
        sets
    }

    fn number_of(&mut self, addr: SocketAddr) -> u16 {
        let found = self.table.iter().position(|server| server.addr == addr);
        let free = || self.table.iter().position(Server::is_unused);
        let at = found.or_else(free).unwrap_or(self.table.len());
        if at == self.table.len() {
            self.table.push(Server::new(addr));
        }
        if let Some(server) = self.table.get_mut(at) {
            if found.is_none() {
                *server = Server::new(addr);
            }
            server.listed = true;
        }
        at as u16 // 256 sets of 16, and those in flight: far below 65536
    }

    /// Cookies of an address that we may not have any more would tell who we were (RFC 7873, 6).
    pub fn forget_cookies(&mut self) {
        for server in &mut self.table {
            server.cookies = Cookies::default();
        }
    }

    pub fn get(&self, number: u16) -> Option<&Server> {
        self.table.get(usize::from(number))
    }

    #[inline(never)] // it is called in many places
    pub fn get_mut(&mut self, number: u16) -> Option<&mut Server> {
        self.table.get_mut(usize::from(number))
    }

    /// A query refers to it from now on.
    pub fn hold(&mut self, number: u16) {
        if let Some(server) = self.get_mut(number) {
            server.references += 1;
        }
    }

    /// A query does not refer to it any more.
    pub fn release(&mut self, number: u16) {
        if let Some(server) = self.get_mut(number) {
            server.references = server.references.saturating_sub(1);
        }
    }

    /// Gives the memory of servers at the table's end back that nobody refers to.
    pub fn forget_unused(&mut self) {
        while self.table.last().is_some_and(Server::is_unused) {
            self.table.pop();
        }
    }

    pub fn report(&self, sets: &[Vec<u16>]) -> Vec<ServerReport> {
        let is_used = |number: u16| sets.iter().any(|numbers| numbers.contains(&number));
        let mut report = Vec::new();
        for (number, server) in (0..).zip(&self.table) {
            if is_used(number) {
                report.push(ServerReport {
                    addr: server.addr,
                    rtt_ms: server.estimate.map(|(mean, _)| mean),
                    well: server.suspect.is_none(),
                    edns: server.edns_off_until.is_none(),
                    keeps_case: server.keeps_case,
                });
            }
        }
        report
    }
}

/// Milliseconds that a server is given at least: scheduling alone may take some.
const SOONEST: u32 = 20;
/// Milliseconds that it is given at most before another one is asked too.
const LATEST: u32 = 250;
/// Milliseconds that a server which never answered yet is given.
const UNKNOWN: u32 = 120;
/// How long a server is asked without EDNS: it may be replaced by a better one.
const WITHOUT_EDNS: Duration = Duration::from_secs(600);
/// Milliseconds until a doubtful server is probed first, and at most.
const FIRST_PROBE: u64 = 1_000;
const LAST_PROBE: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Set;

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 53))
    }

    #[test]
    fn a_sooner_server_ranks_before_a_later_and_a_silent_one_last() {
        let (mut soon, mut late, mut silent) =
            (Server::new(addr(1)), Server::new(addr(2)), Server::new(addr(3)));
        soon.answered(10);
        late.answered(100);
        silent.answered(1);
        silent.missed(Time(0));
        assert!(silent.rank() < soon.rank(), "one lost packet is nothing");
        silent.missed(Time(0));
        assert!(soon.rank() < late.rank() && late.rank() < silent.rank());
        silent.answered(1);
        assert!(silent.rank() < soon.rank(), "an answer makes it well again");
    }

    #[test]
    fn a_silent_server_is_probed_less_and_less_often() {
        let mut server = Server::new(addr(1));
        assert!(server.probe(Time(0)), "to get to know it");
        server.doubt(Time(0));
        let probes: Vec<u64> = (0..600).filter(|s| server.probe(Time(s * 1000))).collect();
        assert_eq!(probes[..7], [1, 3, 7, 15, 31, 63, 123]);
    }

    #[test]
    fn what_is_known_of_a_server_outlives_an_update() {
        let mut servers = Servers::default();
        let set = |n: &[u8]| Set { servers: n.iter().map(|n| addr(*n)).collect(), ..Set::default() };
        let first = servers.update(&Upstreams::single(set(&[1, 2, 2])));
        assert_eq!(first, [[0, 1]]);
        servers.get_mut(1).unwrap().answered(5);
        servers.hold(0);
        let second = servers.update(&Upstreams::single(set(&[2, 3])));
        assert_eq!(second, [[1, 2]], "number 0 is still in a query's hands");
        assert_eq!(servers.get(1).unwrap().rank(), (false, 5));
        servers.release(0);
        assert_eq!(servers.update(&Upstreams::single(set(&[4, 2]))), [[0, 1]]);
    }
}
