//! DHCPv6 with real servers.

use crate::node::{Node, now};
use crate::place::{Place, WAN, ip};
use crate::{DHCP, has_address, has_default, has_dns, wait_for_daemon};
use narrowgate_model::Facts;
use narrowgate_model::facts::Origin;

/// Addresses by DHCPv6 alone: the prefix is on-link, but not autonomous.
const STATEFUL: &[&str] = &[
    "--enable-ra",
    "--dhcp-range=2001:db8:1::100,2001:db8:1::1ff,64,120",
    "--ra-param=lan0,10,1800",
    "--dhcp-option=option6:dns-server,[2001:db8:1::53],[fe80::]",
    "--dhcp-option=option6:domain-search,home.example",
];
/// Addresses by the prefix, DNS by DHCPv6 as well.
const STATELESS: &[&str] = &[
    "--enable-ra",
    "--dhcp-range=2001:db8:1::,ra-stateless,64,120",
    "--ra-param=lan0,10,1800",
    "--dhcp-option=option6:dns-server,[2001:db8:1::53]",
    "--dhcp-option=option6:103,https://portal.example/api",
];

#[test]
fn an_address_is_lent_where_the_router_says_so_and_is_given_back() {
    let mut place = Place::new();
    place.dnsmasq(STATEFUL);
    wait_for_daemon(&place);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    let took = node.until("a lease", 5, |f| lent(f).is_some() && has_default(f, Origin::Ra));
    println!("carrier to DHCPv6 lease {took:?}");
    let facts = node.provider.facts();
    assert_eq!(facts.addresses.len(), 1, "the prefix is not autonomous: {facts:#?}");
    assert!(facts.addresses[0].valid_until.unwrap().seconds_from(now()) <= 120);
    assert_eq!(facts.addresses[0].prefix.len, 128);
    assert!(facts.routes.iter().any(|r| r.via.is_none() && r.dst.to_string() == "2001:db8:1::/64"));
    assert!(has_dns(facts, "2001:db8:1::53"));
    assert!(!place.log().contains("DHCPREQUEST"), "rapid commit saves a round");
    node.until_all("quiet", 5, |p| {
        p.describe(now()).iter().any(|(k, v)| k == "dhcp6" && v.starts_with("Bound"))
    });
    node.provider.stop(now());
    place.wait_for_log("DHCPRELEASE");
    assert_eq!(node.provider.facts(), &Facts::default());
}

#[test]
fn information_is_asked_for_where_there_are_no_addresses() {
    let mut place = Place::new();
    place.dnsmasq(STATELESS);
    wait_for_daemon(&place);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until_all("information", 5, |p| said(p, "dhcp6", "information until"));
    assert!(has_address(node.provider.facts(), "2001:db8:1:"));
    assert!(has_dns(node.provider.facts(), "2001:db8:1::53"));
    assert_eq!(portals(node.provider.facts()), ["https://portal.example/api"]);
    let log = place.log();
    assert!(log.contains("DHCPINFORMATION-REQUEST") && !log.contains("DHCPSOLICIT"));
    // Nothing is told of who asks: the server cannot know a client's identifier.
    let line = log.lines().find(|l| l.contains("DHCPINFORMATION-REQUEST")).unwrap().trim_end();
    assert!(line.ends_with("<null>"), "{line}");
}

#[test]
fn nothing_is_asked_of_dhcpv6_where_no_router_says_that_there_is_any() {
    let mut place = Place::new();
    place.dnsmasq(&[DHCP, super::RA].concat());
    wait_for_daemon(&place);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("both", 5, |f| has_address(f, "192.0.2.") && has_default(f, Origin::Ra));
    assert!(said(&*node.provider, "dhcp6", "Idle") && said(&*node.provider, "dhcp6 messages", "0 sent"));
}

#[test]
fn a_lease_is_renewed_before_it_ends() {
    let mut place = Place::new();
    place.radvd(RADVD_MANAGED);
    place.kea("kea-dhcp6", &kea(3, 6, false));
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 10, |f| lent(f).is_some());
    let first = lent(node.provider.facts()).unwrap();
    node.until("its extension", 6, |f| lent(f).is_some_and(|l| l.0 == first.0 && l.1 > first.1));
    assert_eq!(said_number(&node, "dhcp6 messages", " replies"), 2);
}

#[test]
fn kea_lends_in_two_rounds_and_tells_the_rest() {
    let mut place = Place::new();
    place.radvd(RADVD_MANAGED);
    place.kea("kea-dhcp6", &kea(1000, 2000, false));
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 10, |f| lent(f).is_some_and(|(a, _)| a.starts_with("2001:db8:1::1:")));
    let facts = node.provider.facts();
    assert!(has_dns(facts, "2001:db8:1::53"));
    assert_eq!(facts.search, ["home.example"]);
    assert_eq!(facts.addresses.len(), 1);
    assert_eq!(portals(node.provider.facts()), ["https://portal.example/api"]);
    assert!(said(&*node.provider, "dhcp6 messages", " 0 refusals"));
    node.provider.stop(now());
    assert!(
        !node.provider.describe(now()).iter().any(|(k, _)| k == "problem"),
        "{:?}",
        node.provider.describe(now())
    );
    place.wait_for_log("DHCP6_RELEASE_NA");
}

#[test]
fn kea_lends_in_one_round_where_it_may() {
    let mut place = Place::new();
    place.radvd(RADVD_MANAGED);
    place.kea("kea-dhcp6", &kea(1000, 2000, true));
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 10, |f| lent(f).is_some());
    assert!(!place.log().contains("DHCP6_LEASE_ADVERT"));
}

#[test]
fn after_a_flap_the_lease_is_confirmed_and_stays() {
    let mut place = Place::new();
    place.dnsmasq(STATEFUL);
    wait_for_daemon(&place);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 5, |f| lent(f).is_some());
    let before = lent(node.provider.facts()).unwrap();
    place.home_down();
    node.until("no carrier", 5, |f| f.link.as_ref().is_some_and(|l| !l.carrier));
    assert_eq!(lent(node.provider.facts()), Some(before.clone()));
    place.home_up();
    node.until_all("the confirmation", 10, |p| {
        said(p, "dhcp6", "Bound") && place.log().contains("DHCPCONFIRM")
    });
    assert_eq!(lent(node.provider.facts()).map(|l| l.0), Some(before.0));
}

#[test]
fn after_a_flap_the_lease_of_another_network_is_given_up_for_a_new_one() {
    let mut place = Place::new();
    place.dnsmasq(STATEFUL);
    wait_for_daemon(&place);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 5, |f| lent(f).is_some());
    place.home_down();
    node.until("no carrier", 5, |f| f.link.as_ref().is_some_and(|l| !l.carrier));
    place.stop_dnsmasq();
    place.home_up();
    place.home(&["addr", "del", "2001:db8:1::1/64", "dev", "lan0"]);
    place.dnsmasq(&[
        "--enable-ra",
        "--dhcp-range=2001:db8:2::100,2001:db8:2::1ff,64,120",
        "--ra-param=lan0,10,1800",
    ]);
    node.until("the other network's", 12, |f| {
        f.addresses.len() == 1 && lent(f).is_some_and(|(a, _)| a.starts_with("2001:db8:2::"))
    });
}

#[test]
fn a_server_that_has_forgotten_the_lease_is_asked_for_it_anew() {
    let mut place = Place::new();
    place.radvd(RADVD_MANAGED);
    place.kea("kea-dhcp6", &kea(2, 60, false));
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 10, |f| lent(f).is_some());
    let before = lent(node.provider.facts()).unwrap();
    place.stop_daemons();
    place.kea("kea-dhcp6", &kea(2, 60, false)); // leases were in its memory
    node.until("the same, lent again", 20, |f| lent(f).is_some_and(|l| l.0 == before.0 && l.1 > before.1));
}

/// Its daemon died: what stands on the device stays, and one question is enough.
#[test]
fn a_kept_lease_is_confirmed_by_kea() {
    let mut place = Place::new();
    place.radvd(RADVD_MANAGED);
    place.kea("kea-dhcp6", &kea(1000, 2000, false));
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 10, |f| lent(f).is_some());
    let before = lent(node.provider.facts()).unwrap();
    node.until_all("its address", 10, |_| ip(&["addr", "show", "dev", WAN]).contains(&before.0));
    drop(node);
    let mut node = Node::new(&place);
    assert_eq!(lent(node.provider.facts()), Some(before.clone()), "at once");
    node.until_all("the confirmation", 10, |p| said(p, "dhcp6 messages", "1 sent, 1 replies"));
    assert_eq!(lent(node.provider.facts()), Some(before));
    assert!(said(&*node.provider, "dhcp6", "Bound"));
}

/// As after a reboot: nothing stands, and the times in the file are of another clock.
#[test]
fn a_lease_from_before_a_reboot_is_extended_by_kea_in_one_round() {
    let mut place = Place::new();
    place.radvd(RADVD_MANAGED);
    place.kea("kea-dhcp6", &kea(1000, 2000, false));
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 10, |f| lent(f).is_some());
    let before = lent(node.provider.facts()).unwrap();
    drop(node);
    ip(&["addr", "flush", "dev", WAN, "scope", "global"]);
    let file = place.state_dir().join("lease6-wan");
    let text = std::fs::read_to_string(&file).unwrap();
    let boot = text.lines().find(|line| line.starts_with("boot ")).unwrap();
    std::fs::write(&file, text.replace(boot, "boot another")).unwrap();
    let mut node = Node::new(&place);
    node.until("the same", 10, |f| lent(f).is_some_and(|l| l.0 == before.0 && l.1 > before.1));
    assert!(said(&*node.provider, "dhcp6 messages", "1 sent, 1 replies"));
}

#[test]
fn a_leased_address_that_a_neighbour_has_is_declined() {
    let mut place = Place::new();
    // The first that Kea lends.
    place.home(&["addr", "add", "2001:db8:1::1:0/128", "dev", "lan0", "nodad"]);
    place.radvd(RADVD_MANAGED);
    place.kea("kea-dhcp6", &kea(1000, 2000, false));
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("the taken one", 10, |f| lent(f).is_some_and(|(a, _)| a == "2001:db8:1::1:0"));
    node.until("another", 10, |f| lent(f).is_some_and(|(a, _)| a != "2001:db8:1::1:0"));
    place.wait_for_log("DHCP6_DECLINE_LEASE");
}

#[test]
fn a_router_that_promises_addresses_nobody_has_costs_no_dns() {
    let mut place = Place::new();
    // M flag, but a server that knows of information alone.
    place.radvd("AdvManagedFlag on; AdvOtherConfigFlag on; prefix 2001:db8:1::/64 { AdvAutonomous on; };");
    place.dnsmasq(&[
        "--dhcp-range=2001:db8:1::,static,64,120",
        "--dhcp-option=option6:dns-server,[2001:db8:1::53]",
    ]);
    wait_for_daemon(&place);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("DNS", 10, |f| has_dns(f, "2001:db8:1::53") && has_address(f, "2001:db8:1:"));
    assert_eq!(lent(node.provider.facts()), None);
}

const RADVD_MANAGED: &str = "AdvManagedFlag on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; prefix 2001:db8:1::/64 { AdvAutonomous off; };";

/// Addresses from 2001:db8:1::1:0 on, for an hour.
fn kea(t1: u32, t2: u32, rapid: bool) -> String {
    format!(
        r#"{{ "Dhcp6": {{
            "interfaces-config": {{ "interfaces": [ "lan0" ], "service-sockets-max-retries": 50, "service-sockets-retry-wait-time": 100 }},
            "lease-database": {{ "type": "memfile", "persist": false }},
            "server-id": {{ "type": "LL", "htype": 1, "identifier": "020000000099", "persist": false }},
            "renew-timer": {t1}, "rebind-timer": {t2}, "preferred-lifetime": 3000, "valid-lifetime": 3600,
            "option-data": [
                {{ "name": "dns-servers", "data": "2001:db8:1::53" }},
                {{ "name": "domain-search", "data": "home.example" }},
                {{ "name": "v6-captive-portal", "data": "https://portal.example/api" }}
            ],
            "subnet6": [ {{ "interface": "lan0", "subnet": "2001:db8:1::/64", "rapid-commit": {rapid},
                "pools": [ {{ "pool": "2001:db8:1::1:0-2001:db8:1::1:ff" }} ] }} ],
            "loggers": [ {{ "name": "kea-dhcp6", "severity": "DEBUG", "debuglevel": 55,
                "output_options": [ {{ "output": "stdout" }} ] }} ]
        }} }}"#
    )
}

/// The address that DHCPv6 has lent, and its end.
fn lent(facts: &Facts) -> Option<(String, Option<narrowgate_model::Time>)> {
    let fact = facts.addresses.iter().find(|a| a.origin == Origin::Dhcp6)?;
    Some((fact.prefix.addr.to_string(), fact.valid_until))
}

fn portals(facts: &Facts) -> Vec<&str> {
    facts.portals.iter().map(|p| p.uri.as_str()).collect()
}

fn said(provider: &dyn narrowgate_providers::Provider, key: &str, text: &str) -> bool {
    provider.describe(now()).iter().any(|(k, v)| k == key && v.contains(text))
}

/// The number ahead of a word.
fn said_number(node: &Node, key: &str, word: &str) -> u32 {
    let all = node.provider.describe(now());
    let text = &all.iter().find(|(k, _)| k == key).unwrap().1;
    let end = text.find(word).unwrap();
    text[..end].rsplit(' ').next().unwrap().parse().unwrap()
}
