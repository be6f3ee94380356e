//! The provider `hook`: files that hooks of other managers hand over, and the ready-made hooks with the real dhcpcd and ifupdown in a network
//! namespace. Needs root, iproute2, util-linux, dnsmasq, dhcpcd and ifupdown.

mod managers;
#[path = "../networkd/node.rs"]
mod node;
#[path = "../household/place.rs"]
#[allow(dead_code)]
mod place;

use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{Origin, UplinkState};
use narrowgate_model::{Facts, Mark};
use narrowgate_providers::auto::Auto;
use narrowgate_providers::{Places, Provider, hook};
use narrowgate_sys::path::{Path, PathBuf};
use node::{Node, now};
use place::{Place, WAN};
use std::fs;

fn dir(place: &Place) -> PathBuf {
    place.state_dir().with_file_name("uplink")
}

fn provider(place: &Place) -> Node {
    place::ip(&["link", "set", WAN, "up"]);
    Node::new(hook::open(&Uplink::new("wan", WAN), &dir(place), now()))
}

/// As a hook does it: whole, by rename(2).
fn hand_over(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(".new"), text).unwrap();
    fs::rename(dir.join(".new"), dir.join(name)).unwrap();
}

fn dns(facts: &Facts) -> Vec<String> {
    facts.dns.iter().map(|d| d.server.to_string()).collect()
}

fn routes(facts: &Facts) -> Vec<String> {
    let via = |v: std::net::IpAddr| if v.is_ipv6() { "a router".to_owned() } else { v.to_string() };
    facts.routes.iter().map(|r| format!("{} {}", r.dst, r.via.map(via).unwrap_or_default())).collect()
}

fn said(provider: &dyn Provider, key: &str) -> String {
    let described = provider.describe(now());
    described.into_iter().find(|(name, _)| name == key).map(|(_, text)| text).unwrap_or_default()
}

#[test]
fn what_is_handed_over_are_facts_at_once_and_no_longer_than_the_file_is_there() {
    let place = Place::new();
    let mut node = provider(&place);
    assert!(said(&*node.provider, "problem").contains("is the hook installed?"));
    let own =
        "manager ifupdown\nnameserver fe80::1\nsearch home.example\ngateway 192.0.2.1\nroute 192.0.2.0/24\n";
    hand_over(&dir(&place), "wan0.conf", own);
    hand_over(&dir(&place), "wan0:ra.conf", "nameserver 192.0.2.53\nportal https://portal.example/\n");
    hand_over(&dir(&place), "wan01.conf", "nameserver 192.0.2.99\n");
    node.until("both files", |facts| facts.dns.len() == 2);
    let facts = node.provider.facts();
    assert_eq!(dns(facts), ["fe80::1%wan0", "192.0.2.53"]);
    assert_eq!(routes(facts), ["0.0.0.0/0 192.0.2.1", "192.0.2.0/24 "]);
    assert_eq!((facts.search.as_slice(), facts.portals.len()), (&["home.example".to_owned()][..], 1));
    assert!(facts.dns.iter().all(|d| d.origin == Origin::Hook));
    assert_eq!(facts.state(), UplinkState::Up);
    assert_eq!(said(&*node.provider, "handed"), "wan0.conf wan0:ra.conf by ifupdown");
    assert!(node.provider.settled(now()));
    fs::remove_file(dir(&place).join("wan0.conf")).unwrap();
    node.until("the other alone", |facts| dns(facts) == ["192.0.2.53"] && facts.routes.is_empty());
    hand_over(&dir(&place), "wan0:ra.conf", "nameserver 192.0.2.53\ncolour green\n");
    node.until_all("garbage", |p| said(p, "problem").ends_with("wan0:ra.conf: 1 lines mean nothing"));
}

#[test]
fn routes_that_the_manager_has_set_itself_are_facts_and_in_the_main_table_a_problem() {
    let place = Place::new();
    let mut node = provider(&place);
    hand_over(&dir(&place), "wan0.conf", "manager dhcpcd\nnameserver 192.0.2.53\ngateway 192.0.2.1\n");
    place::ip(&["addr", "add", "192.0.2.77/24", "dev", WAN]);
    place::ip(&["route", "add", "default", "via", "192.0.2.1", "dev", WAN]);
    let all = ["192.0.2.0/24 ", "0.0.0.0/0 192.0.2.1"];
    node.until("each route once", |facts| {
        let known = routes(facts);
        known.len() == 2 && all.iter().all(|route| known.iter().any(|r| r == route))
    });
    let problem =
        "dhcpcd writes the default route of wan0 to the main table: tell it not to (dhcpcd: `nogateway`";
    assert!(said(&*node.provider, "problem").starts_with(problem));
}

#[test]
fn auto_takes_who_has_handed_something_over_also_later() {
    let place = Place::new();
    let nowhere = place.state_dir().with_file_name("nowhere");
    let places = Places {
        ubus: Vec::new(),
        networkd: nowhere.clone(),
        networkmanager: nowhere.clone(),
        nmcli: nowhere,
        handed: dir(&place),
        ..Places::default()
    };
    let mut node =
        Node::new(Auto::new(&Uplink::new("wan", WAN), Mark::DEFAULT, &place.state_dir(), places, now()));
    assert_eq!(node.provider.kind(), "builtin");
    assert!(!dir(&place).exists(), "nothing is made on systems without hooks");
    hand_over(&dir(&place), "wan0:dhcp.conf", "manager dhcpcd\nnameserver 192.0.2.53\n");
    place::ip(&["link", "set", WAN, "up"]); // an event, after which the directory is found
    node.until_all("the hook", |p| p.kind() == "hook" && dns(p.facts()) == ["192.0.2.53"]);
    let why = said(&*node.provider, "chosen");
    assert!(why.starts_with("dhcpcd manages wan0 and has handed over "), "{why}");
    assert!(why.ends_with("uplink/wan0:dhcp.conf"), "{why}");
}
