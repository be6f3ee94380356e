//! The builtin provider and a household with a real dnsmasq, radvd and Kea. Needs root, iproute2 and those.

mod conflict;
mod dhcp6;
mod node;
mod place;
mod routers;

use narrowgate_model::Facts;
use narrowgate_model::config::Uplink;
use narrowgate_model::facts::Origin;
use node::{Node, now};
use place::{Place, WAN, ip};

const DHCP: &[&str] =
    &["--dhcp-range=192.0.2.100,192.0.2.150,255.255.255.0,120", "--dhcp-authoritative", "--no-ping"];
const RA: &[&str] = &[
    "--enable-ra",
    "--dhcp-range=2001:db8:1::,ra-only,64,120",
    "--ra-param=lan0,10,1800",
    "--dhcp-option=option6:dns-server,[2001:db8:1::53],[fe80::]",
    "--dhcp-option=option6:domain-search,home.example",
];

#[test]
fn both_families_are_learnt_as_soon_as_the_carrier_comes() {
    let mut place = Place::new();
    let mut node = Node::new(&place);
    let options =
        [DHCP, RA, &["--dhcp-option=option:dns-server,192.0.2.53", "--dhcp-option=option:router,192.0.2.1"]];
    place.dnsmasq(&options.concat());
    wait_for_daemon(&place);
    assert_eq!(node.provider.facts().routes, []);
    ip(&["link", "set", WAN, "up"]);
    let took6 =
        node.until("an advertisement", 5, |f| has_default(f, Origin::Ra) && has_dns(f, "2001:db8:1::53"));
    let took4 = node.until("a lease", 5, |f| has_default(f, Origin::Dhcp4) && has_dns(f, "192.0.2.53"));
    println!("carrier to advertisement {took6:?}, and from then to the lease {took4:?}");
    let facts = node.provider.facts();
    let scoped = facts.dns.iter().find(|d| d.server.is_link_local()).expect("a link-local DNS server");
    assert_eq!(scoped.server.scope.as_deref(), Some(WAN));
    assert_eq!(facts.search, ["home.example"]);
    let on_link: Vec<String> =
        facts.routes.iter().filter(|r| r.via.is_none()).map(|r| r.dst.to_string()).collect();
    assert_eq!(on_link, ["2001:db8:1::/64", "192.0.2.0/24"]);
    let slaac = facts.addresses.iter().find(|a| a.origin == Origin::Ra).unwrap();
    assert!(slaac.valid_until.unwrap().seconds_from(now()) <= 120);
    assert!(node.provider.settled(now()));
    // It is the node's from now on: the household reaches it, and the daemon knows it by its lease.
    assert!(place.log().contains("DHCPACK"));
    assert!(!place.log().contains("client provides name"), "nothing is told that is not asked for");
}

#[test]
fn a_lease_is_extended_by_marked_packets_before_it_ends() {
    let mut place = Place::new();
    let nft = "add table inet t; add chain inet t out { type filter hook output priority 0; }; \
               add rule inet t out meta mark 1 udp dport 67 counter accept; add rule inet t out udp dport 67 drop";
    run("nft", &[nft]);
    place.dnsmasq(&[DHCP, &["--dhcp-option=option:T1,3"]].concat());
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    node.until("a lease", 5, |f| has_address(f, "192.0.2."));
    let first = node.provider.facts().addresses[0].clone();
    let asked = place.log().matches("DHCPDISCOVER").count(); // more than once where the household is slow
    node.until("its extension", 6, |f| {
        f.addresses.first().is_some_and(|a| a.valid_until > first.valid_until)
    });
    assert_eq!(node.provider.facts().addresses[0].prefix, first.prefix);
    // The rule counts what has the mark; what has not would have been dropped, and the lease not extended by T1.
    let rules = run("nft", &["list table inet t"]);
    assert!(rules.contains("counter packets 1 "), "{rules}");
    assert_eq!(place.log().matches("DHCPDISCOVER").count(), asked);
    assert_eq!(place.log().matches("DHCPACK").count(), 2);
}

#[test]
fn a_household_that_changes_its_network_takes_the_lease_away_and_gives_another() {
    let mut place = Place::new();
    place.dnsmasq(&[DHCP, &["--dhcp-option=option:T1,3", "--dhcp-option=option:T2,5"]].concat());
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    node.until("a lease", 5, |f| has_address(f, "192.0.2."));
    place.home(&["addr", "del", "192.0.2.1/24", "dev", "lan0"]);
    place.dnsmasq(&[
        "--dhcp-range=198.51.100.100,198.51.100.150,255.255.255.0,120",
        "--dhcp-authoritative",
        "--no-ping",
    ]);
    node.until("another lease", 12, |f| has_address(f, "198.51.100.") && !has_address(f, "192.0.2."));
    assert!(place.log().contains("DHCPNAK"));
}

#[test]
fn a_new_prefix_is_taken_up_and_a_router_that_retires_is_used_no_more() {
    let mut place = Place::new();
    place.dnsmasq(RA);
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    node.until("an advertisement", 5, |f| has_address(f, "2001:db8:1:") && has_default(f, Origin::Ra));
    place.dnsmasq(&[
        "--enable-ra",
        "--dhcp-range=2001:db8:2::,ra-only,64,120",
        "--ra-param=lan0,10,1800",
        "--dhcp-option=option6:dns-server,[2001:db8:2::53]",
    ]);
    node.until("the new prefix", 15, |f| has_address(f, "2001:db8:2:") && has_dns(f, "2001:db8:2::53"));
    assert!(has_address(node.provider.facts(), "2001:db8:1:"), "its lifetime is not over");
    place.dnsmasq(&["--enable-ra", "--dhcp-range=2001:db8:2::,ra-only,64,120", "--ra-param=lan0,10,0"]);
    node.until("no default route", 15, |f| !has_default(f, Origin::Ra));
    assert!(has_address(node.provider.facts(), "2001:db8:2:"));
}

#[test]
fn after_a_flap_the_same_network_is_confirmed_without_a_new_lease() {
    let mut place = Place::new();
    place.dnsmasq(&[DHCP, RA].concat());
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    node.until("both", 5, |f| has_address(f, "192.0.2.") && has_default(f, Origin::Ra));
    let asked = place.log().matches("DHCPDISCOVER").count(); // more than once where the household is slow
    let before = node.provider.facts().clone();
    place.home_down();
    node.until("no carrier", 5, |f| f.link.as_ref().is_some_and(|l| !l.carrier));
    assert_eq!(node.provider.facts().dns, before.dns);
    place.home_up();
    let took = node.until("the lease, asked for again", 5, |f| {
        f.addresses
            .iter()
            .any(|a| a.origin == Origin::Dhcp4 && a.valid_until > before.addresses[1].valid_until)
    });
    println!("carrier to confirmed lease {took:?}");
    node.until("the router", 5, |f| {
        f.routes.iter().any(|r| r.dst.is_default() && r.until > before.routes[0].until)
    });
    assert_eq!(place.log().matches("DHCPDISCOVER").count(), asked);
}

#[test]
fn after_a_flap_nothing_is_left_of_a_network_that_is_not_there_any_more() {
    let mut place = Place::new();
    place.dnsmasq(&[DHCP, RA].concat());
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    node.until("both", 5, |f| has_address(f, "192.0.2.") && has_default(f, Origin::Ra));
    place.home_down();
    node.until("no carrier", 5, |f| f.link.as_ref().is_some_and(|l| !l.carrier));
    place.stop_dnsmasq();
    place.home_up();
    place.dnsmasq(&[
        "--dhcp-range=198.51.100.100,198.51.100.150,255.255.255.0,120",
        "--no-ping", // not authoritative: it says nothing about addresses that it does not know
    ]);
    node.until("the other network alone", 10, |f| {
        has_address(f, "198.51.100.") && f.addresses.len() == 1 && !has_default(f, Origin::Ra)
    });
}

#[test]
fn a_restarted_provider_holds_the_lease_that_its_address_still_stands_for() {
    let mut place = Place::new();
    place.dnsmasq(&[DHCP, &["--dhcp-option=option:dns-server,192.0.2.53"]].concat());
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    node.until("a lease", 5, |f| has_address(f, "192.0.2."));
    let before = node.provider.facts().clone();
    drop(node); // as if killed
    place.stop_dnsmasq();
    let node = Node::new(&place);
    assert_eq!(node.provider.facts().addresses, before.addresses);
    assert_eq!(node.provider.facts().dns, before.dns);
    drop(node);
    // Without the address, the file is only a wish.
    ip(&["-4", "addr", "flush", "dev", WAN]);
    let node = Node::new(&place);
    assert_eq!(node.provider.facts().addresses, []);
}

#[test]
fn a_stopped_provider_gives_the_lease_back() {
    let mut place = Place::new();
    place.dnsmasq(DHCP);
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    node.until("a lease", 5, |f| has_address(f, "192.0.2."));
    let file = place.state_dir().join("lease-wan");
    assert!(file.exists());
    node.provider.stop(now());
    assert_eq!(node.provider.facts(), &Facts::default());
    assert!(!file.exists());
    place.wait_for_log("DHCPRELEASE");
}

#[test]
fn a_server_that_pings_first_is_not_slowed_down_by_our_asking_again() {
    let mut place = Place::new();
    place.dnsmasq(&["--dhcp-range=192.0.2.100,192.0.2.150,255.255.255.0,120"]);
    wait_for_daemon(&place);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    let took = node.until("a lease", 10, |f| has_address(f, "192.0.2."));
    println!("lease after {took:?}, with {} questions", place.log().matches("DHCPDISCOVER").count());
    assert!(took.as_millis() < 4500, "dnsmasq pings for 3 s: {took:?}");
}

#[test]
fn an_address_that_a_neighbour_has_is_given_up_for_the_next() {
    let mut place = Place::new();
    place.dnsmasq(RA);
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let address = |facts: &Facts| facts.addresses.first().map(|a| a.prefix.addr.to_string());
    let mut node = Node::new(&place);
    node.until("an address", 5, |f| address(f).is_some());
    let taken = address(node.provider.facts()).unwrap();
    drop(node);
    ip(&["addr", "del", &format!("{taken}/64"), "dev", WAN]);
    place.home(&["addr", "add", &format!("{taken}/64"), "dev", "lan0", "nodad"]);
    let mut node = Node::new(&place);
    node.until("the same address", 5, |f| address(f).as_ref() == Some(&taken));
    node.until("another", 8, |f| address(f).is_some_and(|a| a != taken));
}

#[test]
fn a_device_that_goes_and_comes_back_is_taken_up_again() {
    let mut place = Place::new();
    place.dnsmasq(&[DHCP, RA].concat());
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    let both = |f: &Facts| has_address(f, "192.0.2.") && has_default(f, Origin::Ra);
    node.until("both", 5, both);
    ip(&["link", "set", WAN, "down"]);
    node.until("down", 5, |f| f.link.as_ref().is_some_and(|l| !l.up));
    ip(&["link", "set", WAN, "up"]);
    let until = node.provider.facts().addresses[0].valid_until;
    node.until("both, heard anew", 5, |f| both(f) && f.addresses[0].valid_until > until);

    place.unplug();
    node.until("no device", 5, |f| f == &Facts::default());
    assert_eq!(fds(&node), 0);
    place.plug();
    place.home_up();
    place.dnsmasq(&[DHCP, RA].concat());
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("both, on the new device", 5, both);
}

#[test]
fn a_cable_that_was_put_elsewhere_while_nobody_looked_leads_to_the_other_network() {
    let mut place = Place::new();
    place.dnsmasq(DHCP);
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    node.until("a lease", 5, |f| has_address(f, "192.0.2."));
    place.stop_dnsmasq();
    place.dnsmasq(&["--dhcp-range=198.51.100.100,198.51.100.150,255.255.255.0,120", "--no-ping"]);
    wait_for_daemon(&place);
    node.carrier_losses += 1;
    node.observe();
    node.until("the other network alone", 10, |f| has_address(f, "198.51.100.") && f.addresses.len() == 1);
}

#[test]
fn a_thousand_flaps_leave_nothing_behind() {
    let mut place = Place::new();
    place.dnsmasq(&[DHCP, RA].concat());
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut node = Node::new(&place);
    let both = |f: &Facts| has_address(f, "192.0.2.") && has_default(f, Origin::Ra);
    node.until("both", 5, both);
    let mut link = node.provider.facts().link.clone().unwrap();
    let mut most = 0;
    for _ in 0..1000 {
        link.carrier = false;
        node.provider.on_link(Some(&link), now());
        link.carrier = true;
        node.provider.on_link(Some(&link), now());
        node.provider.on_readable(now());
        most = most.max(fds(&node));
    }
    assert!(most <= 3);
    node.until_all("a lease, held quietly", 10, |p| {
        both(p.facts()) && p.describe(now()).iter().any(|(_, v)| v.starts_with("Bound"))
    });
    assert_eq!(node.provider.facts().addresses.len(), 2);
}

#[test]
fn configured_servers_take_the_place_of_those_that_are_learnt() {
    let mut place = Place::new();
    place.dnsmasq(RA);
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "up"]);
    let mut uplink = Uplink::new("wan", WAN);
    uplink.dns = vec!["fe80::99".parse().unwrap()];
    let mut node = Node::with(&place, &uplink);
    node.until("an advertisement", 5, |f| has_default(f, Origin::Ra));
    let dns: Vec<String> = node.provider.facts().dns.iter().map(|d| d.server.to_string()).collect();
    assert_eq!(dns, [format!("fe80::99%{WAN}")]);
}

fn has_default(facts: &Facts, origin: Origin) -> bool {
    facts.routes.iter().any(|r| r.dst.is_default() && r.origin == origin)
}

fn has_dns(facts: &Facts, addr: &str) -> bool {
    facts.dns.iter().any(|d| d.server.addr.to_string() == addr)
}

fn has_address(facts: &Facts, start: &str) -> bool {
    facts.addresses.iter().any(|a| a.prefix.to_string().starts_with(start))
}

fn fds(node: &Node) -> usize {
    let mut fds = Vec::new();
    node.provider.fds(&mut fds);
    fds.len()
}

fn run(program: &str, args: &[&str]) -> String {
    let out =
        std::process::Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// dnsmasq says so when it is ready.
fn wait_for_daemon(place: &Place) {
    place.wait_for_log("started, ");
}
