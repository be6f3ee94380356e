//! The provider `networkmanager` against the real NetworkManager and a D-Bus daemon of its own, which run in a network namespace
//! with a /run of their own and without systemd; the household is a real dnsmasq. Needs root, iproute2, util-linux, dnsmasq,
//! dbus-daemon and NetworkManager.

mod daemon;
#[path = "../networkd/node.rs"]
mod node;
#[path = "../household/place.rs"]
#[allow(dead_code)]
mod place;

use daemon::Daemon;
use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{Origin, UplinkState};
use narrowgate_model::{Facts, Mark};
use narrowgate_providers::auto::Auto;
use narrowgate_providers::{Places, Provider, networkmanager};
use narrowgate_sys::path::PathBuf;
use node::{Node, now};
use place::{Place, WAN};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// The connection of docs/networkmanager.md, for this device.
fn snippet() -> String {
    let page = include_str!("../../../../docs/networkmanager.md");
    let text = page.split("```ini\n").nth(1).and_then(|rest| rest.split("```").next());
    text.expect("the page has a snippet").replace("eth0", WAN)
}

const HOUSEHOLD: [&str; 5] = [
    "--dhcp-range=192.0.2.50,192.0.2.99,5m",
    "--dhcp-range=2001:db8:1::,ra-only,64,5m",
    "--enable-ra",
    "--dhcp-option=option:dns-server,192.0.2.53",
    "--dhcp-option=option6:dns-server,[fe80::],[2001:db8:1::53]",
];

fn household() -> Place {
    let mut place = Place::new();
    place.dnsmasq(&HOUSEHOLD);
    place
}

fn provider(daemon: &Daemon) -> Node {
    Node::new(networkmanager::open(&Uplink::new("wan", WAN), &daemon.state(), &daemon.nmcli(), now()))
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

const BOTH: [&str; 4] = ["0.0.0.0/0 192.0.2.1", "192.0.2.0/24 ", "2001:db8:1::/64 ", "::/0 a router"];

fn complete(facts: &Facts) -> bool {
    let known = routes(facts);
    facts.state() == UplinkState::Up && BOTH.iter().all(|route| known.iter().any(|r| r == route))
}

#[test]
fn with_the_documented_connection_everything_is_known_and_nothing_is_in_the_main_table() {
    let place = household();
    let daemon = Daemon::start(&place, &snippet());
    let mut node = provider(&daemon);
    node.until("both families", complete);
    let facts = node.provider.facts();
    assert_eq!(dns(facts), ["192.0.2.53"], "the lease's, though nobody may use it");
    assert_eq!(facts.dns[0].origin, Origin::NetworkManager);
    assert_eq!(facts.addresses, []);
    assert_eq!(said(&*node.provider, "problem"), "");
    assert_eq!(said(&*node.provider, "connection"), "wan (state 100)");
    for family in ["-4", "-6"] {
        let main = place::ip(&[family, "route", "show", "table", "main", "dev", WAN]);
        assert!(main.lines().all(|line| line.starts_with("fe80::/64")), "{main}");
    }
    node.until_all("settled", |provider| provider.settled(now()));
}

#[test]
fn servers_of_advertisements_are_known_where_the_connection_takes_them_and_those_of_dhcpv6_anyway() {
    let mut place = Place::new();
    place.dnsmasq(&[
        "--dhcp-range=2001:db8:1::,ra-stateless,64,5m",
        "--enable-ra",
        "--dhcp-option=option6:dns-server,[2001:db8:1::53]",
    ]);
    let ignoring = snippet().replacen("method=auto", "method=disabled", 1);
    let mut daemon = Daemon::start(&place, &ignoring);
    let mut node = provider(&daemon);
    node.until("DHCPv6's", |facts| dns(facts) == ["2001:db8:1::53"]);
    // Without DHCPv6: the advertisements' own.
    place.dnsmasq(&HOUSEHOLD[1..]);
    daemon.stop();
    daemon.restart(&ignoring.replace("ignore-auto-dns=true", "ignore-auto-dns=false"));
    node.until("the advertisements'", |facts| {
        dns(facts).iter().any(|s| s.starts_with("fe80::") && s.ends_with("%wan0"))
    });
}

#[test]
fn a_default_route_in_the_main_table_is_told_with_the_mend() {
    let place = household();
    let daemon = Daemon::start(&place, &snippet().replace("route-table=1\n", ""));
    let mut node = provider(&daemon);
    let mend = "to the main table: nmcli connection modify 'wan' ipv4.route-table 1 ipv6.route-table 1";
    node.until_all("says so", |p| said(p, "problem").contains(mend));
    node.until("the facts all the same", |facts| facts.state() == UplinkState::Up);
}

#[test]
fn a_cable_unplugged_and_plugged_in_again_is_followed() {
    let place = household();
    let daemon = Daemon::start(&place, &snippet());
    let mut node = provider(&daemon);
    node.until("up", complete);
    place.home_down();
    node.until("no carrier", |facts| facts.state() == UplinkState::NoCarrier);
    node.until("nothing", |facts| facts.dns.is_empty() && facts.routes.is_empty()); // after NetworkManager's 5 s
    place.home_up();
    node.until("up again", complete);
}

#[test]
fn a_networkmanager_that_dies_takes_nothing_away_and_one_that_comes_back_is_heard() {
    let place = household();
    let mut daemon = Daemon::start(&place, &snippet());
    let mut node = provider(&daemon);
    node.until("up", complete);
    daemon.stop();
    place::ip(&["link", "set", WAN, "mtu", "1400"]); // an event, after which it is asked
    node.until_all("silence", |p| said(p, "problem").contains("NetworkManager is not running"));
    assert!(complete(node.provider.facts()));
    assert_eq!(dns(node.provider.facts()), ["192.0.2.53"]);
    daemon.restart(&snippet());
    node.until_all("an answer", |p| said(p, "problem").is_empty() && complete(p.facts()));
}

/// A program in the place of nmcli, which does this.
fn instead(place: &Place, script: &str) -> PathBuf {
    let path = place.state_dir().with_file_name("nmcli");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn an_nmcli_that_hangs_or_is_not_there_is_told_and_nothing_waits_for_it() {
    let place = Place::new();
    let uplink = Uplink::new("wan", WAN);
    let dir = place.state_dir();
    let begun = now();
    let mut node = Node::new(networkmanager::open(&uplink, &dir, &instead(&place, "exec sleep 60"), begun));
    node.provider.on_timer(now());
    let patience = node.provider.next_timeout().unwrap();
    assert!(patience.since(begun) <= Duration::from_secs(11), "{patience:?}");
    node.provider.on_timer(patience + Duration::from_secs(30));
    assert_eq!(said(&*node.provider, "problem"), "nmcli: it does not answer");
    let again = node.provider.next_timeout().unwrap();
    assert!(again.since(patience) <= Duration::from_secs(31), "it is asked again");

    let mut node = Node::new(networkmanager::open(&uplink, &dir, &dir.join("nowhere"), now()));
    node.provider.on_timer(now());
    assert!(said(&*node.provider, "problem").contains("nowhere cannot be run: No such file"));
}

#[test]
fn an_endless_answer_does_not_fill_the_memory() {
    let place = Place::new();
    let nmcli = instead(&place, "exec yes 'IP4.DNS[1]:192.0.2.53'");
    let mut node =
        Node::new(networkmanager::open(&Uplink::new("wan", WAN), &place.state_dir(), &nmcli, now()));
    node.until_all("given up", |p| said(p, "problem") == "nmcli: no answer");
}

fn auto(place: &Place, networkmanager: PathBuf, nmcli: PathBuf) -> Node {
    let nowhere = place.state_dir().with_file_name("nowhere");
    let (networkd, handed) = (nowhere.clone(), nowhere);
    let places = Places { ubus: Vec::new(), networkd, networkmanager, nmcli, handed, ..Places::default() };
    Node::new(Auto::new(&Uplink::new("wan", WAN), Mark::DEFAULT, &place.state_dir(), places, now()))
}

#[test]
fn auto_chooses_networkmanager_and_says_by_which_connection() {
    let place = household();
    let daemon = Daemon::start(&place, &snippet());
    let mut node = auto(&place, daemon.state(), daemon.nmcli());
    node.until_all("networkmanager", |p| p.kind() == "networkmanager" && complete(p.facts()));
    assert_eq!(said(&*node.provider, "chosen"), "NetworkManager manages wan0 by its connection 'wan'");
}

#[test]
fn auto_leaves_alone_what_networkmanager_only_looks_at_or_has_left_behind() {
    let place = Place::new();
    let dir = place.state_dir().with_file_name("devices");
    fs::create_dir(&dir).unwrap();
    let index = node::link().index;
    fs::write(dir.join(index.to_string()), "[device]\nmanaged=true\n").unwrap();
    for answer in [
        "echo 'GENERAL.STATE:100 (connected (externally))'; echo GENERAL.CONNECTION:wan0",
        "echo 'Error: NetworkManager is not running.' >&2; exit 8",
    ] {
        let mut node = auto(&place, dir.clone(), instead(&place, answer));
        assert_eq!(node.provider.kind(), "auto", "it is being asked");
        node.until_all("ours", |p| p.kind() == "builtin");
    }
}
