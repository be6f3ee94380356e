//! Whom a resolver is to ask, and whether it is worth its while: from config and facts to what its process is told.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use narrowgate_forwarder::engine::{Set, UplinkState as Reach, Upstreams, wire_name};
use narrowgate_forwarder::parent;
use narrowgate_model::config::{self, Via};
use narrowgate_model::facts::UplinkState;
use narrowgate_model::{ByName, Config, Facts, Server, Time};
use narrowgate_policy as policy;
use narrowgate_sys::io::ErrorKind;

/// A cable or device that is missing for less long than this may be about to come: queries wait, as they do for an address.
/// It is what a query waits at most, and what a network chip takes to find its link partner.
const MAY_COME: Duration = Duration::from_secs(4);
/// A link-local server can be asked before there is a router. But what the tunnel then learns it may not be able to reach: fastd that
/// takes an address of the IP version that comes last is back after 20 s. So this long a router may take that comes with the server.
const ROUTER_MAY_COME: Duration = Duration::from_secs(1);

/// The ways to the servers, and since when one is missing.
#[derive(Default)]
pub struct Ways {
    /// By the resolver's name.
    missing: ByName<(UplinkState, Time)>,
    wake: Option<Time>,
}

impl Ways {
    /// To be called before all resolvers are told anew.
    pub fn begin(&mut self) {
        self.wake = None;
    }

    /// When they have to be told again, though nothing has happened.
    pub fn wake(&self) -> Option<Time> {
        self.wake
    }

    /// Whom this resolver asks, the first first, and what its process is told.
    #[inline(never)]
    pub fn upstreams(
        &mut self,
        config: &Config,
        resolver: &config::Resolver,
        facts: &ByName<Facts>,
        at: Time,
    ) -> (Vec<Server>, Upstreams) {
        if resolver.via == Via::Uplink {
            let servers = policy::upstreams(config, resolver, facts);
            let set = self.set(config, resolver, facts, parent::resolve(&servers).0, at);
            let default = (!config.strict).then_some(0);
            let upstreams = Upstreams { sets: vec![set], names: peer_names(config, 0), default };
            return (servers, upstreams);
        }
        // The mesh's servers for everything, the WAN resolver for the tunnels' own names.
        let mesh = Set {
            servers: parent::resolve(&resolver.servers).0,
            state: Reach::Up,
            detail: "through the mesh".to_owned(),
        };
        let mut sets = vec![mesh];
        let wan = config.uplink_resolvers().next();
        if let Some(wan) = wan {
            sets.push(self.set(config, wan, facts, wan.listen.clone(), at));
        }
        let names = wan.map(|_| peer_names(config, 1)).unwrap_or_default();
        (resolver.servers.clone(), Upstreams { sets, names, default: Some(0) })
    }

    fn set(
        &mut self,
        config: &Config,
        resolver: &config::Resolver,
        facts: &ByName<Facts>,
        servers: Vec<SocketAddr>,
        at: Time,
    ) -> Set {
        let (state, detail) = policy::resolver_state(config, resolver, facts);
        let (_, since) = match self.missing.get(&resolver.name) {
            Some(known) if known.0 == state => *known,
            _ => (state, at),
        };
        self.missing.insert(resolver.name.clone(), (state, since));
        let gone = at.since(since) >= MAY_COME;
        let reach = match state {
            UplinkState::Up => match policy::ip_versions(config, facts) {
                (true, false) => Reach::Ipv4Only,
                (false, true) => Reach::Ipv6Only,
                (false, false) if at.since(since) < ROUTER_MAY_COME => {
                    self.wake_at(since + ROUTER_MAY_COME);
                    Reach::Waiting
                }
                _ => Reach::Up,
            },
            UplinkState::NoCarrier if gone => Reach::NoCarrier,
            UplinkState::NoDevice if gone => Reach::NoDevice,
            UplinkState::NoCarrier | UplinkState::NoDevice => {
                self.wake_at(since + MAY_COME);
                Reach::Waiting
            }
            UplinkState::Down | UplinkState::Waiting => Reach::Waiting,
        };
        Set { servers, state: reach, detail }
    }

    fn wake_at(&mut self, end: Time) {
        self.wake = super::sooner(self.wake, Some(end));
    }
}

/// Sentences for `status` where a nameserver in `/etc/resolv.conf` has no route: its queries fail before any redirect sees them.
#[inline(never)]
pub fn stub_without_route() -> Vec<String> {
    let text = narrowgate_sys::fs::read("/etc/resolv.conf").unwrap_or_default();
    let mut sentences = Vec::new();
    for server in &narrowgate_wire::resolv::parse(&text).servers {
        let to = parent::resolve(core::slice::from_ref(server)).0.first().copied();
        let Some(Err(error)) = to.map(super::strict::socket_to) else { continue };
        if matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) {
            sentences.push(format!(
                "the nameserver {server} of /etc/resolv.conf has no route now: look-ups fail before they can be redirected; \
                 write a resolver 'mesh' and make the nameserver 127.0.0.1, or start the program with narrowgate exec"
            ));
        }
    }
    sentences
}

fn peer_names(config: &Config, set: u8) -> Vec<(Vec<u8>, u8)> {
    let mut names = Vec::new();
    for name in config.peer_names() {
        if let Some(name) = wire_name(name).filter(|name| !names.iter().any(|(known, _)| known == name)) {
            names.push((name, set));
        }
    }
    narrowgate_model::sort::sort(&mut names);
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowgate_model::config::{ProviderKind, Uplink};
    use narrowgate_model::facts::{DnsFact, Origin, RouteFact};
    use narrowgate_model::net::Link;

    #[test]
    fn a_server_that_is_there_before_the_router_is_not_asked_yet_but_not_for_long() {
        let uplink = Uplink { provider: ProviderKind::Networkd, ..Uplink::new("wan", "wan") };
        let config = Config { uplinks: vec![uplink], ..Config::default() };
        let resolver = config.resolvers[0].clone();
        let dns = DnsFact { server: "fe80::1%wan".parse().unwrap(), origin: Origin::Ra, until: None };
        let link =
            Link { index: 7, name: "wan".to_owned(), up: true, carrier: true, mtu: 1500, ..Link::default() };
        let mut known = Facts { link: Some(link), dns: vec![dns], ..Facts::default() };
        let mut ways = Ways::default();
        let mut state = |known: &Facts, at: u64| {
            ways.begin();
            let facts = ByName::from([("wan".to_owned(), known.clone())]);
            let (_, told) = ways.upstreams(&config, &resolver, &facts, Time(at));
            (told.sets[0].state, ways.wake())
        };
        assert_eq!(state(&known, 5000), (Reach::Waiting, Some(Time(6000))));
        let route = RouteFact {
            dst: "::/0".parse().unwrap(),
            via: Some("fe80::1".parse().unwrap()),
            preference: Default::default(),
            until: None,
            origin: Origin::Ra,
        };
        known.routes.push(route);
        assert_eq!(state(&known, 5100), (Reach::Ipv6Only, None));
        known.routes.clear();
        assert_eq!(state(&known, 6000), (Reach::Up, None), "a gateway may be on the link itself");
    }
}
