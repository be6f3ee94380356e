//! The provider `networkd` against the real systemd-networkd, which runs in a network namespace with a /run of its own and
//! without systemd; the household is a real dnsmasq. Needs root, iproute2, util-linux, dnsmasq and systemd-networkd.

mod node;
#[path = "../household/place.rs"]
#[allow(dead_code)]
mod place;

use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{Origin, UplinkState};
use narrowgate_model::{Facts, Mark};
use narrowgate_providers::auto::Auto;
use narrowgate_providers::networkd;
use narrowgate_providers::{Places, Provider};
use narrowgate_sys::path::PathBuf;
use node::{Node, now};
use place::{Place, WAN};
use std::fs;
use std::process::{Child, Command, Stdio};

/// A running systemd-networkd for the node; gone when dropped.
struct Daemon {
    run: PathBuf,
    child: Child,
}

impl Daemon {
    /// With this `.network` file for the uplink. The test's thread has to be in the node's namespace already.
    fn start(place: &Place, network: &str) -> Daemon {
        let run = place.state_dir().with_file_name("run");
        for dir in ["systemd/network", "systemd/netif/links", "systemd/netif/leases", "systemd/netif/lldp"] {
            fs::create_dir_all(run.join(dir)).unwrap();
        }
        fs::write(run.join("systemd/network/10-wan.network"), network).unwrap();
        let log = fs::File::create(run.join("log")).unwrap();
        // A read-only /sys means that there is no udev to be waited for.
        let script = "mount --bind \"$1\" /run && mount -o remount,ro,bind /sys \
            && { [ ! -d /etc/systemd/network ] || mount -t tmpfs none /etc/systemd/network; } \
            && chown -R systemd-network /run/systemd/netif && exec /lib/systemd/systemd-networkd";
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&run)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("these tests need unshare (util-linux) and systemd-networkd (Debian: systemd)");
        Daemon { run, child }
    }

    fn dir(&self) -> PathBuf {
        self.run.join("systemd/netif")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.run.join("log")).unwrap_or_default();
            eprintln!("--- systemd-networkd (Debian: systemd):\n{log}");
        }
    }
}

/// The snippet of docs/networkd.md, for this device.
fn snippet() -> String {
    let page = include_str!("../../../../docs/networkd.md");
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
    Node::new(networkd::open(&Uplink::new("wan", WAN), &daemon.dir(), now()))
}

fn dns(facts: &Facts) -> Vec<String> {
    facts.dns.iter().map(|d| d.server.to_string()).collect()
}

fn routes(facts: &Facts) -> Vec<String> {
    let via = |v: std::net::IpAddr| if v.is_ipv6() { "a router".to_owned() } else { v.to_string() };
    facts.routes.iter().map(|r| format!("{} {}", r.dst, r.via.map(via).unwrap_or_default())).collect()
}

fn problem(provider: &dyn Provider) -> String {
    let described = provider.describe(now());
    described.into_iter().find(|(name, _)| name == "problem").map(|(_, text)| text).unwrap_or_default()
}

const BOTH: [&str; 4] = ["0.0.0.0/0 192.0.2.1", "192.0.2.0/24 ", "2001:db8:1::/64 ", "::/0 a router"];

fn complete(facts: &Facts) -> bool {
    let known = routes(facts);
    facts.state() == UplinkState::Up && BOTH.iter().all(|route| known.iter().any(|r| r == route))
}

#[test]
fn with_the_documented_snippet_everything_is_known_and_nothing_is_in_the_main_table() {
    let place = household();
    let daemon = Daemon::start(&place, &snippet());
    let mut node = provider(&daemon);
    node.until("both families", |facts| complete(facts) && facts.dns.len() == 3);
    let facts = node.provider.facts();
    let known = dns(facts);
    assert!(
        known.contains(&"192.0.2.53".to_owned()) && known.contains(&"2001:db8:1::53".to_owned()),
        "{known:?}"
    );
    assert!(known.iter().any(|s| s.starts_with("fe80::") && s.ends_with("%wan0")), "{known:?}");
    assert!(facts.dns.iter().all(|d| d.origin == Origin::Networkd));
    assert_eq!(facts.addresses, []);
    assert_eq!(problem(&*node.provider), "");
    for family in ["-4", "-6"] {
        let main = place::ip(&[family, "route", "show", "table", "main", "dev", WAN]);
        assert!(main.lines().all(|line| line.starts_with("fe80::/64")), "{main}");
    }
    node.until_all("settled", |provider| provider.settled(now()));
}

#[test]
fn a_leases_servers_are_known_though_nobody_may_use_them() {
    let place = household();
    let network = format!(
        "[Match]\nName={WAN}\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n[DHCPv4]\nRouteTable=1\nUseDNS=no\n"
    );
    let daemon = Daemon::start(&place, &network);
    let mut node = provider(&daemon);
    node.until("a server", |facts| facts.state() == UplinkState::Up);
    assert_eq!(dns(node.provider.facts()), ["192.0.2.53"]);
}

#[test]
fn a_default_route_in_the_main_table_is_told_with_the_mend() {
    let place = household();
    let daemon = Daemon::start(&place, &format!("[Match]\nName={WAN}\n[Network]\nDHCP=ipv4\n"));
    let mut node = provider(&daemon);
    node.until_all("says so", |p| problem(p).contains("to the main table: set RouteTable=1"));
    node.until("the facts all the same", |facts| facts.state() == UplinkState::Up);
}

#[test]
fn a_cable_unplugged_and_plugged_in_again_is_followed() {
    let place = household();
    let daemon = Daemon::start(&place, &snippet());
    let mut node = provider(&daemon);
    node.until("up", complete);
    place.home_down();
    node.until("nothing", |facts| facts.dns.is_empty() && facts.routes.is_empty());
    assert_eq!(node.provider.facts().state(), UplinkState::NoCarrier);
    place.home_up();
    node.until("up again", |facts| complete(facts) && facts.dns.len() == 3);
}

#[test]
fn a_route_that_comes_and_goes_is_followed_though_no_file_tells_of_it() {
    let place = household();
    let daemon = Daemon::start(&place, &snippet());
    let mut node = provider(&daemon);
    node.until_all("settled", |p| p.settled(now()) && complete(p.facts()));
    let route = ["198.51.100.0/24", "via", "192.0.2.1", "dev", WAN, "table", "1"];
    let known = |facts: &Facts| routes(facts).contains(&"198.51.100.0/24 192.0.2.1".to_owned());
    place::ip(&[&["route", "add"], &route[..]].concat());
    node.until("there", known);
    place::ip(&[&["route", "del"], &route[..]].concat());
    node.until("gone", |facts| !known(facts));
    // Our own routes are no facts, or they would keep themselves alive.
    let number = narrowgate_model::PROTOCOL.to_string();
    place::ip(&[&["route", "add"], &route[..], &["proto", &number]].concat());
    place::ip(&["link", "set", WAN, "mtu", "1400"]);
    node.until("the event behind it", |facts| facts.link.as_ref().is_some_and(|l| l.mtu == 1400));
    assert!(!known(node.provider.facts()));
}

#[test]
fn a_networkd_that_dies_takes_nothing_away() {
    let place = household();
    let daemon = Daemon::start(&place, &snippet());
    let mut node = provider(&daemon);
    node.until("up", |facts| complete(facts) && facts.dns.len() == 3);
    let dir = daemon.run.clone();
    drop(daemon);
    assert!(dir.exists());
    place::ip(&["link", "set", WAN, "mtu", "1400"]); // an event, after which all is read again
    node.until("the event", |facts| facts.link.as_ref().is_some_and(|l| l.mtu == 1400));
    assert!(complete(node.provider.facts()));
}

#[test]
fn auto_chooses_networkd_and_says_by_which_file() {
    let place = household();
    let daemon = Daemon::start(&place, &snippet());
    let uplink = Uplink::new("wan", WAN);
    let places = Places { ubus: Vec::new(), networkd: daemon.dir(), ..Places::default() };
    let auto = Auto::new(&uplink, Mark::DEFAULT, &place.state_dir(), places, now());
    let mut node = Node::new(auto);
    node.until_all("networkd", |p| p.kind() == "networkd" && complete(p.facts()));
    let described = format!("{:?}", node.provider.describe(now()));
    assert!(
        described.contains("systemd-networkd manages wan0 by /run/systemd/network/10-wan.network"),
        "{described}"
    );
}
