//! IPv4 addresses that somebody else has (RFC 5227).

use crate::node::{Node, now};
use crate::place::{Place, WAN, ip};
use crate::{DHCP, has_address, wait_for_daemon};

#[test]
fn an_address_that_a_neighbour_has_is_used_at_once_but_declined_when_the_neighbour_says_so() {
    let mut place = Place::new();
    // What is to be lent at first is the neighbour's; dnsmasq does not look.
    place.neighbour(&["192.0.2.200/24"]);
    place.dnsmasq(&[
        "--dhcp-range=192.0.2.100,192.0.2.101,255.255.255.0,120",
        "--dhcp-host=02:00:00:00:00:77,192.0.2.200",
        "--dhcp-authoritative",
        "--no-ping",
    ]);
    wait_for_daemon(&place);
    ip(&["link", "set", WAN, "address", "02:00:00:00:00:77"]);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("the taken address", 5, |f| has_address(f, "192.0.2.200"));
    let took = node.until("its end", 5, |f| !has_address(f, "192.0.2."));
    println!("conflict seen after {took:?}");
    place.wait_for_log("DHCPDECLINE");
    node.until("another", 20, |f| has_address(f, "192.0.2.10"));
}

#[test]
fn where_every_address_is_somebody_elses_the_third_is_kept_and_that_is_told() {
    let mut place = Place::new();
    place.neighbour(&["192.0.2.100/24", "192.0.2.101/24", "192.0.2.102/24", "192.0.2.103/24"]);
    place.dnsmasq(&[
        "--dhcp-range=192.0.2.100,192.0.2.103,255.255.255.0,120",
        "--dhcp-authoritative",
        "--no-ping",
    ]);
    wait_for_daemon(&place);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until_all("three conflicts", 60, |p| {
        has_address(p.facts(), "192.0.2.10")
            && p.describe(now()).iter().any(|(k, v)| k == "problem" && v.contains("IPv4"))
            && place.log().matches("DHCPDECLINE").count() == 2
    });
    let end = now() + std::time::Duration::from_secs(3);
    node.until_all("some time", 5, |p| {
        assert!(has_address(p.facts(), "192.0.2.10"));
        now() > end || p.next_timeout().is_none_or(|t| t > end)
    });
    assert_eq!(place.log().matches("DHCPDECLINE").count(), 2);
}

#[test]
fn an_address_that_nobody_has_is_announced() {
    let mut place = Place::new();
    place.dnsmasq(DHCP);
    wait_for_daemon(&place);
    let mut node = Node::new(&place);
    ip(&["link", "set", WAN, "up"]);
    node.until("a lease", 5, |f| has_address(f, "192.0.2."));
    let address = node.provider.facts().addresses[0].prefix.addr.to_string();
    // The household learns of it by the announcement, being told to learn from such.
    place.home(&["neigh", "flush", "dev", "lan0"]);
    place.learn_from_announcements();
    let start = now();
    let known = |place: &Place| place.home(&["neigh", "show", "dev", "lan0"]).contains(&address);
    node.until_all("the announcement", 12, |_| known(&place));
    println!("announced after {:?}", now() - start);
}
