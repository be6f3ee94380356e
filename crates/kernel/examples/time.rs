//! How long the kernel takes for a policy of the usual size: `cargo run --release -p narrowgate-kernel --example time`, as
//! root. All of it happens in a network namespace of its own.

use narrowgate_kernel::{Kernel, Real, Scope};
use narrowgate_model::net::{Address, FwMark, Route, RouteKind, Rule, RuleAction, Selector};
use narrowgate_model::nft::{
    Action, Chain, ChainKind, Family, Hook, IpVersion, Match, Policy, Ruleset, Set, Table,
};
use narrowgate_model::state::Step;
use narrowgate_model::{PROTOCOL, Time, nft};
use narrowgate_sys::link;
use std::error::Error;
use std::process::Command;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    link::new_network_namespace()?;
    let opened = Instant::now();
    let mut real = Real::open()?;
    println!("open and probe  {:>7} us", opened.elapsed().as_micros());
    Command::new("ip").args(["link", "add", "wan", "type", "veth", "peer", "name", "lan"]).status()?;
    Command::new("ip").args(["link", "set", "lan", "up"]).status()?;
    let wan = link::index_of("wan")?;
    let scope = Scope { table: 1, devices: vec!["wan".to_owned()], sysctls: sysctls() };
    let now = Time(link::now_ms());
    let steps = policy(wan);
    for round in ["first", "again"] {
        let (mut all, mut guard) = (0, 0);
        for step in &steps {
            let started = Instant::now();
            real.apply(step, now)?;
            let took = started.elapsed().as_micros();
            all += took;
            guard += if matches!(step, Step::SetGuard(_)) { took } else { 0 };
        }
        println!("apply, {round}    {all:>7} us for {} steps, {guard} us of it for the guard", steps.len());
        let started = Instant::now();
        let seen = real.observe(&scope, now)?;
        println!(
            "observe, {round}  {:>7} us, {} rules in the guard",
            started.elapsed().as_micros(),
            rules_in(&seen.guard.chains)
        );
    }
    // Two addresses that are there already, as when a name is asked for again.
    let peers = ["192.0.2.9".parse()?, "2001:db8::9".parse()?];
    for round in ["first", "again"] {
        let started = Instant::now();
        real.add_elements(&peers, 60)?;
        println!("let in, {round}   {:>7} us for two addresses", started.elapsed().as_micros());
    }
    Ok(())
}

fn rules_in(chains: &[nft::ChainPrint]) -> usize {
    chains.iter().map(|c| c.comments.len()).sum()
}

fn sysctls() -> Vec<String> {
    ["accept_ra", "autoconf", "accept_redirects"].map(|name| format!("net/ipv6/conf/wan/{name}")).to_vec()
}

fn policy(wan: u32) -> Vec<Step> {
    let mut steps = vec![Step::SetGuard(guard().into())];
    steps.extend(sysctls().into_iter().map(|path| Step::SetSysctl { path, value: "0".to_owned() }));
    steps.push(Step::SetLink { name: "wan".to_owned(), up: true });
    for ipv6 in [false, true] {
        for (priority, value, action) in [(900, 1, RuleAction::Lookup(1)), (901, 0, RuleAction::Lookup(254))]
        {
            let mark = Some(FwMark { value, mask: 1 });
            let selector = Selector { mark, ..Selector::default() };
            steps.push(Step::AddRule(Rule {
                ipv6,
                priority,
                selector,
                action,
                suppress_prefix_len: None,
                protocol: PROTOCOL,
            }));
        }
        let (own, network, router, default) = match ipv6 {
            false => ("192.0.2.77/24", "192.0.2.0/24", "192.0.2.1", "0.0.0.0/0"),
            true => ("2001:db8::77/64", "2001:db8::/64", "fe80::1", "::/0"),
        };
        let prefix = |text: &str| text.parse().expect("a prefix");
        steps.push(Step::AddAddress(Address {
            link: wan,
            prefix: prefix(own),
            broadcast: None,
            preferred_until: None,
            valid_until: None,
            no_prefix_route: true,
            protocol: PROTOCOL,
            dad_failed: false,
            tentative: false,
        }));
        let route = |dst: &str, kind, via: Option<&str>, metric| Route {
            table: 1,
            dst: prefix(dst),
            kind,
            via: via.map(|a| a.parse().expect("an address")),
            link: (kind == RouteKind::Unicast).then_some(wan),
            metric,
            onlink: false,
            source: None,
            protocol: PROTOCOL,
        };
        steps.push(Step::AddRoute(route(default, RouteKind::Unreachable, None, 65535)));
        steps.push(Step::AddRoute(route(network, RouteKind::Unicast, None, 1024)));
        steps.push(Step::AddRoute(route(default, RouteKind::Unicast, Some(router), 1024)));
    }
    steps
}

/// Thirty rules in four chains, about what the guard of one uplink has.
fn guard() -> Ruleset {
    let rules = |n: u16| {
        (0..n)
            .map(|i| nft::Rule {
                label: "rule",
                matches: vec![Match::Oif("wan".to_owned()), Match::L4Proto(17), Match::DstPort(1000 + i)],
                counter: Some("seen"),
                action: Action::Accept,
            })
            .collect()
    };
    let chain = |name, hook, n| Chain {
        name,
        kind: ChainKind::Filter,
        hook,
        priority: 0,
        policy: Policy::Accept,
        devices: Vec::new(),
        rules: rules(n),
    };
    let inet =
        vec![chain("out", Hook::Output, 12), chain("in", Hook::Input, 6), chain("fwd", Hook::Forward, 2)];
    let egress = Chain { devices: vec!["wan".to_owned()], ..chain("egress", Hook::Egress, 10) };
    let set = |name, version| Set { name, version, elements: Vec::new() };
    let sets = vec![set(Set::PEERS4, IpVersion::V4), set(Set::PEERS6, IpVersion::V6)];
    let table = |family, sets, chains| Table { family, counters: vec!["seen"], sets, chains };
    Ruleset { tables: vec![table(Family::Inet, sets, inet), table(Family::Netdev, Vec::new(), vec![egress])] }
}
