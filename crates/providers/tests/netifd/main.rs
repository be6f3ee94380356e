//! The provider `netifd` against a stand-in for ubusd and netifd (see [`ubusd`]) that answers what a real netifd answered.

mod auto;
mod node;
#[path = "../../../wire/tests/ubus_json/mod.rs"]
#[allow(dead_code)]
mod ubus_json;
mod ubusd;

use narrowgate_model::Facts;
use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{Origin, UplinkState};
use narrowgate_providers::netifd::Netifd;
use narrowgate_providers::{Places, Provider};
use narrowgate_sys::path::PathBuf;
use node::{Node, link, now};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use ubusd::{Mood, Ubusd};

/// Where the bus of one test is; gone when dropped.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("ngu{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(id);
        std::fs::create_dir(&dir).unwrap();
        Place(dir.into())
    }

    fn socket(&self) -> PathBuf {
        self.0.join("ubus.sock")
    }

    /// An old path where nobody is, and the real one.
    fn sockets(&self) -> Vec<PathBuf> {
        vec![self.0.join("other.sock"), self.socket()]
    }

    fn ubusd(&self) -> Ubusd {
        Ubusd::new(self.socket().as_ref())
    }

    fn node(&self, uplink: &Uplink) -> Node {
        let places = Places { ubus: self.sockets(), gluon: self.0.join("interface.d"), ..Places::default() };
        let mut node = Node::new(Netifd::new(uplink, &places, now()));
        node.link(Some(&link(&uplink.device, 2)));
        node
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const UP: [(&str, &str); 2] = [("wan", "wan.up.json"), ("wan6", "wan6.up.json")];
const EVENT: &str = "network.interface";

fn uplink() -> Uplink {
    Uplink::new("wan", "wan")
}

fn dns(facts: &Facts) -> Vec<String> {
    facts.dns.iter().map(|d| d.server.to_string()).collect()
}

fn routes(facts: &Facts) -> Vec<String> {
    facts
        .routes
        .iter()
        .map(|r| format!("{} {}", r.dst, r.via.map(|v| v.to_string()).unwrap_or_default()))
        .collect()
}

fn problem(provider: &dyn Provider) -> String {
    let described = provider.describe(now());
    described.into_iter().find(|(name, _)| name == "problem").map(|(_, text)| text).unwrap_or_default()
}

#[test]
fn a_running_netifd_is_known_at_once_with_servers_and_routes_and_no_address_is_ours() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    node.until("up", |facts| facts.state() == UplinkState::Up);
    let facts = node.provider.facts();
    assert_eq!(dns(facts), ["192.168.77.1", "fe80::1%wan", "fe80::8c01:12ff:fed1:d752%wan"]);
    let wanted =
        ["192.168.77.0/24 ", "0.0.0.0/0 192.168.77.1", "2001:db8:77::/64 ", "::/0 fe80::8c01:12ff:fed1:d752"];
    assert_eq!(routes(facts), wanted);
    assert!(facts.routes.iter().all(|r| r.origin == Origin::Netifd));
    assert_eq!(facts.addresses, []);
    let left = facts.routes[3].until.unwrap().since(node.now()).as_secs();
    assert!((105..=111).contains(&left), "{left}");
    assert!(node.provider.settled(node.now()));
    let described = format!("{:?}", node.provider.describe(node.now()));
    assert!(described.contains("wan6 (dhcpv6, up, ip6table 1)"), "{described}");
    assert_eq!(problem(&*node.provider), "");
}

#[test]
fn an_event_brings_the_change_and_a_carrier_lost_takes_the_servers_away() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    node.until("up", |facts| facts.dns.len() == 3);
    ubusd.wait_for_ears(EVENT);
    ubusd.set(&[("wan", "wan.carrier-lost.json"), ("wan6", "wan6.carrier-lost.json")]);
    ubusd.event(EVENT, ("action", "ifdown"));
    node.until("down", |facts| facts.dns.is_empty() && facts.routes.is_empty());
    ubusd.set(&[("wan", "wan.up.json"), ("wan6", "wan6.back.json")]);
    ubusd.event(EVENT, ("action", "ifup"));
    node.until("back", |facts| {
        dns(facts) == ["192.168.77.1", "fe80::8c01:12ff:fed1:d752%wan", "fe80::1%wan"]
            && routes(facts).contains(&"::/0 fe80::1".to_owned())
    });
    assert_eq!(ubusd.connections(), 1);
}

#[test]
fn a_bunch_of_events_makes_few_questions_and_the_last_state_counts() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&[("wan", "wan.down.json")]);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    let before = ubusd.dumps();
    for _ in 0..50 {
        ubusd.event(EVENT, ("action", "ifup"));
    }
    ubusd.set(&UP);
    ubusd.event(EVENT, ("action", "ifup"));
    node.until("up", |facts| facts.dns.len() == 3);
    let asked = ubusd.dumps() - before;
    assert!((1..=4).contains(&asked), "asked {asked} times");
}

#[test]
fn questions_are_a_tenth_of_a_second_apart() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    node.later(Duration::from_secs(1));
    let (now, asked) = (node.now(), ubusd.dumps());
    let mut read_until = |what: &str, wanted: &dyn Fn(Duration) -> bool| {
        let end = crate::now() + Duration::from_secs(5);
        while !wanted(node.provider.next_timeout().unwrap().since(now)) {
            assert!(crate::now() < end, "{what}: never");
            node.provider.on_readable(now); // the clock stands still
        }
    };
    ubusd.event(EVENT, ("action", "ifup"));
    read_until("asked at once", &|_| ubusd.dumps() == asked + 1);
    read_until("answered", &|span| span > Duration::from_secs(10));
    ubusd.event(EVENT, ("action", "ifup"));
    read_until("the next in a while", &|span| span == Duration::from_millis(100));
    assert_eq!(ubusd.dumps(), asked + 1);
}

#[test]
fn an_event_that_comes_while_an_answer_is_awaited_makes_another_question() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&[("wan", "wan.down.json")]);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    owes_an_answer(&ubusd, &mut node, "ifdown");
    ubusd.set(&UP);
    ubusd.event(EVENT, ("action", "ifup"));
    let now = node.now();
    node.provider.on_readable(now);
    ubusd.hold(false);
    node.until("up", |facts| facts.dns.len() == 3);
}

/// Runs the node until the bus knows of both events it wants, and nothing is under way or due soon.
fn ubusd_ready(ubusd: &Ubusd, node: &mut Node) {
    let idle =
        |p: &dyn Provider| p.next_timeout().is_some_and(|at| at.since(now()) > Duration::from_secs(10));
    node.until_all("idle", |provider| provider.settled(now()) && idle(provider));
    ubusd.wait_for_ears(EVENT);
    ubusd.wait_for_ears("ubus.object.add");
}

/// An event comes, and netifd owes the answer to the question that it leads to.
fn owes_an_answer(ubusd: &Ubusd, node: &mut Node, action: &str) {
    let asked = ubusd.dumps();
    ubusd.hold(true);
    ubusd.event(EVENT, ("action", action));
    let due_in = |p: &dyn Provider| p.next_timeout().unwrap().since(now());
    node.until_all("awaits", |p| due_in(p) > Duration::from_secs(2) && due_in(p) < Duration::from_secs(10));
    ubusd.wait_for_dumps(asked + 1);
}

#[test]
fn servers_that_change_without_an_event_are_found_by_the_poll() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    ubusd.set(&[("wan", "wan.up.json"), ("wan6", "wan6.back.json")]);
    node.later(Duration::from_secs(31));
    node.until("other servers", |facts| dns(facts).get(1).is_some_and(|s| s.starts_with("fe80::8c01")));
}

#[test]
fn what_netifd_tells_its_subscribers_alone_is_heard() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    ubusd.wait_for_subscriber();
    ubusd.set(&[("wan", "wan.up.json"), ("wan6", "wan6.back.json")]);
    ubusd.notify("interface.update");
    node.until("another router", |facts| routes(facts).contains(&"::/0 fe80::1".to_owned()));
    // So it is with the next netifd.
    ubusd.restart_netifd();
    ubusd.set(&[("wan", "wan.up.json")]);
    ubusd.event("ubus.object.add", ("path", "network.interface"));
    node.until("the new one's answer", |facts| facts.dns.len() == 1);
    ubusd.wait_for_subscriber();
}

#[test]
fn a_netifd_that_ends_before_it_has_answered_is_asked_again_when_it_is_back() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&[("wan", "wan.down.json")]);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    owes_an_answer(&ubusd, &mut node, "ifup");
    ubusd.restart_netifd();
    ubusd.hold(false);
    ubusd.set(&UP);
    ubusd.event("ubus.object.add", ("path", "network.interface"));
    let now = node.now();
    let mut read_until = |what: &str, wanted: &dyn Fn(&dyn Provider) -> bool| {
        let end = crate::now() + Duration::from_secs(5);
        while !wanted(&*node.provider) {
            assert!(crate::now() < end, "{what}: never");
            node.provider.on_readable(now); // the clock stands still: nobody's patience is over
        }
    };
    read_until("up", &|provider| provider.facts().dns.len() == 3);
    assert_eq!(ubusd.connections(), 1);
}

#[test]
fn polls_that_learn_nothing_change_no_fact() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    let before = node.provider.facts().clone();
    // A second later: the lifetime that is told is the same, so it ends a second later.
    node.later(Duration::from_secs(1));
    let answered = |node: &Node| format!("{:?}", node.provider.describe(node.now()));
    assert!(answered(&node).contains("answered 1 s ago"));
    ubusd.event(EVENT, ("action", "ifup"));
    let at = node.now();
    node.until_all("asked again", |p| format!("{:?}", p.describe(at)).contains("answered 0 s ago"));
    assert_eq!(*node.provider.facts(), before);
}

#[test]
fn routes_end_with_their_lifetime_when_netifd_is_gone() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    node.until("up", |facts| facts.routes.len() == 4);
    drop(ubusd);
    node.until_all("noticed", |provider| !problem(provider).is_empty());
    node.later(Duration::from_secs(60));
    assert_eq!(node.provider.facts().routes.len(), 4);
    node.later(Duration::from_secs(60));
    assert_eq!(routes(node.provider.facts()), ["192.168.77.0/24 ", "0.0.0.0/0 192.168.77.1"]);
    assert_eq!(node.provider.facts().dns.len(), 3);
}

// Absent, late, hanging, garbled, restarted

#[test]
fn a_bus_that_comes_late_is_found_by_itself() {
    let place = Place::new();
    let mut node = place.node(&uplink());
    node.until_all("says so", |provider| problem(provider).contains("ubus cannot be reached"));
    assert!(!node.provider.settled(node.now()));
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    node.until("up", |facts| facts.dns.len() == 3);
    assert_eq!(problem(&*node.provider), "");
}

#[test]
fn a_netifd_that_comes_late_is_found_by_its_event() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.mood(Mood::NoNetifd);
    let mut node = place.node(&uplink());
    node.until_all("says so", |provider| problem(provider).contains("not found"));
    ubusd.wait_for_ears("ubus.object.add");
    ubusd.mood(Mood::Fine);
    ubusd.set(&UP);
    ubusd.event("ubus.object.add", ("path", "some.other"));
    ubusd.event("ubus.object.add", ("path", "network.interface"));
    node.until("up", |facts| facts.dns.len() == 3);
    assert_eq!(problem(&*node.provider), "");
}

#[test]
fn a_netifd_that_was_started_again_is_looked_up_again() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    ubusd.restart_netifd();
    ubusd.set(&[("wan", "wan.up.json")]);
    ubusd.event(EVENT, ("action", "ifup"));
    node.until("the new one's answer", |facts| facts.dns.len() == 1);
    assert_eq!(ubusd.connections(), 1);
}

#[test]
fn a_bus_that_restarts_or_hangs_or_talks_nonsense_takes_nothing_away() {
    let place = Place::new();
    let mut ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    node.until("up", |facts| facts.dns.len() == 3);
    for (mood, complaint) in [
        (Mood::Garbage, "ubus says what is no message"),
        (Mood::Hanging, "netifd does not answer on ubus"),
        (Mood::NoNetifd, "not found"),
    ] {
        drop(ubusd);
        node.until_all("lost", |provider| problem(provider).contains("ubus"));
        ubusd = place.ubusd();
        ubusd.mood(mood);
        node.later(Duration::from_secs(6)); // whatever the wait before the next connection is
        node.until_all("connected again", |_| ubusd.connections() > 0);
        if mood == Mood::Hanging {
            node.later(Duration::from_secs(5));
        }
        node.until_all(complaint, |provider| problem(provider).contains(complaint));
        let mut facts = node.provider.facts().clone();
        facts.routes.retain(|r| r.until.is_none());
        assert_eq!((facts.dns.len(), facts.routes.len()), (3, 2), "{mood:?}");
        ubusd.mood(Mood::Fine);
        ubusd.set(&UP);
        node.later(Duration::from_secs(31));
        node.until_all("in order again", |provider| {
            problem(provider).is_empty() && provider.facts().routes.len() == 4
        });
    }
}

#[test]
fn one_that_hangs_in_its_queue_of_connections_does_not_block_us() {
    let place = Place::new();
    let listener =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&*place.socket()).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(place.socket()).unwrap();
    let started = now();
    let mut node = place.node(&uplink());
    node.until_all("says so", |provider| problem(provider).contains("ubus cannot be reached"));
    assert!(now() - started < Duration::from_secs(1));
}

// Which interfaces

#[test]
fn named_interfaces_alone_count_in_their_order() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut uplink = uplink();
    uplink.interfaces = vec!["wan6".to_owned(), "wan".to_owned()];
    let mut node = place.node(&uplink);
    node.until("up", |facts| facts.dns.len() == 3);
    assert_eq!(dns(node.provider.facts())[2], "192.168.77.1");
    uplink.interfaces = vec!["wan".to_owned()];
    let mut node = place.node(&uplink);
    node.until("up", |facts| dns(facts) == ["192.168.77.1"]);
}

#[test]
fn an_interface_of_any_name_on_the_device_is_found_and_no_other() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set_json(
        r#"[ {"interface":"wwan_4","up":true,"proto":"dhcp","device":"@wwan","l3_device":"wwan0","dns-server":["192.0.2.4"]},
             {"interface":"lan","up":true,"proto":"static","device":"br-lan","dns-server":["192.0.2.5"]},
             {"interface":"wan","up":true,"proto":"dhcp","device":"eth1","dns-server":["192.0.2.6"]},
             {"interface":"cellular","up":true,"proto":"qmi","device":"/dev/cdc-wdm0","l3_device":"wwan0","dns-server":["192.0.2.7"],
              "inactive":{"dns-server":["192.0.2.8","127.0.0.1"]}} ]"#,
    );
    let mut node = place.node(&Uplink::new("cellular", "wwan0"));
    node.until("up", |facts| !facts.dns.is_empty());
    assert_eq!(dns(node.provider.facts()), ["192.0.2.8", "192.0.2.7", "192.0.2.4"]);
}

#[test]
fn what_gluons_packages_list_comes_before_what_nobody_lists() {
    let place = Place::new();
    std::fs::create_dir(place.0.join("interface.d")).unwrap();
    std::fs::write(place.0.join("interface.d/060-tether"), "dsl\n\n tether ").unwrap();
    std::fs::write(
        place.0.join("interface.d/050-gluon-wan-dnsmasq"),
        "wan\nwan6\ncellular\ncellular_4\ncellular_6\n",
    )
    .unwrap();
    let ubusd = place.ubusd();
    let names = ["other", "tether", "dsl", "cellular_6", "wan6", "wan"];
    let one = |(n, name): (usize, &&str)| {
        format!(
            r#"{{"interface":"{name}","up":true,"l3_device":"br-wan","inactive":{{"dns-server":["192.0.2.{n}"]}}}}"#
        )
    };
    let all: Vec<String> = names.iter().enumerate().map(one).collect();
    ubusd.set_json(&format!("[{}]", all.join(",")));
    let mut node = place.node(&Uplink::new("wan", "br-wan"));
    node.until("up", |facts| !facts.dns.is_empty());
    let asked = ["192.0.2.5", "192.0.2.4", "192.0.2.3", "192.0.2.2", "192.0.2.1", "192.0.2.0"];
    assert_eq!(dns(node.provider.facts()), asked);
}

#[test]
fn names_that_do_not_fit_are_told_with_the_mend() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut wrong = Uplink::new("wan", "eth7");
    let mut node = place.node(&wrong);
    node.until_all("says so", |p| {
        problem(p) == "netifd has no interface on eth7; it has: wan on wan, wan6 on wan"
    });
    wrong.interfaces = vec!["wan".to_owned()];
    let mut node = place.node(&wrong);
    node.until_all("says so", |p| problem(p).contains("netifd has interface 'wan' on wan, not on eth7"));
    assert_eq!(node.provider.facts().dns, []);
    wrong.interfaces = vec!["wwan".to_owned()];
    let mut node = place.node(&wrong);
    node.until_all("says so", |p| {
        problem(p) == "netifd has no interface wwan; it has: wan on wan, wan6 on wan"
    });
}

#[test]
fn a_default_route_in_the_main_table_is_noted_with_the_mend() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    node.until("up", |facts| facts.dns.len() == 3);
    let described = node.provider.describe(node.now());
    let notes: Vec<&str> =
        described.iter().filter(|(name, _)| name == "note").map(|(_, text)| text.as_str()).collect();
    // wan6 has ip6table 1.
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("IPv4 default route of 'wan'")
            && notes[0].ends_with("uci set network.wan.ip4table=1")
    );
}

#[test]
fn a_default_route_that_netifd_was_told_not_to_set_is_ours_to_use() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set_json(
        r#"[ {"interface":"wan","up":true,"proto":"dhcp","l3_device":"wan","ipv4-address":[{"address":"192.0.2.7","mask":24}],
              "inactive":{"dns-server":["192.0.2.1"],"route":[{"target":"0.0.0.0","mask":0,"nexthop":"192.0.2.1"}]}} ]"#,
    );
    let mut node = place.node(&uplink());
    node.until("up", |facts| facts.state() == UplinkState::Up);
    assert_eq!(routes(node.provider.facts()), ["192.0.2.0/24 ", "0.0.0.0/0 192.0.2.1"]);
    assert!(!format!("{:?}", node.provider.describe(node.now())).contains("main table"));
}

#[test]
fn ipv6_prefixes_are_on_link_only_where_netifd_says_so_or_they_are_written_by_hand() {
    let place = Place::new();
    let ubusd = place.ubusd();
    let interface = |proto: &str| {
        format!(
            r#"[ {{"interface":"wan6","up":true,"proto":"{proto}","l3_device":"wan","dns-server":["2001:db8:1::1"],
                 "ipv6-address":[{{"address":"2001:db8:1::7","mask":64}},{{"address":"2001:db8:2::7","mask":128}}]}} ]"#
        )
    };
    ubusd.set_json(&interface("dhcpv6"));
    let mut node = place.node(&uplink());
    node.until("a server", |facts| !facts.dns.is_empty());
    assert_eq!(routes(node.provider.facts()), [""; 0]);
    ubusd.set_json(&interface("static"));
    node.later(Duration::from_secs(31));
    node.until("its network", |facts| routes(facts) == ["2001:db8:1::/64 "]);
}

#[test]
fn servers_that_are_written_override_those_that_are_learnt() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut uplink = uplink();
    uplink.dns = vec!["fe80::53".parse().unwrap()];
    let mut node = place.node(&uplink);
    node.until("up", |facts| facts.state() == UplinkState::Up);
    assert_eq!(dns(node.provider.facts()), ["fe80::53%wan"]);
}

// The device

#[test]
fn a_device_made_anew_is_another_cable() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    ubusd.mood(Mood::Hanging);
    node.link(None);
    assert_eq!(*node.provider.facts(), Facts::default());
    node.link(Some(&link("wan", 9)));
    let facts = node.provider.facts();
    assert_eq!((facts.dns.len(), facts.routes.len(), facts.link.as_ref().map(|l| l.index)), (0, 0, Some(9)));
    ubusd.mood(Mood::Fine);
    node.later(Duration::from_secs(40));
    node.until("up again", |facts| facts.dns.len() == 3);
}

#[test]
fn after_stop_nothing_is_known_asked_or_open() {
    let place = Place::new();
    let ubusd = place.ubusd();
    ubusd.set(&UP);
    let mut node = place.node(&uplink());
    ubusd_ready(&ubusd, &mut node);
    let now = node.now();
    node.provider.stop(now);
    assert_eq!(*node.provider.facts(), Facts::default());
    assert_eq!(node.provider.next_timeout(), None);
    let mut fds = Vec::new();
    node.provider.fds(&mut fds);
    assert!(fds.is_empty());
}
