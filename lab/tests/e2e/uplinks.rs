//! Two uplinks, a cable and a modem, whose households have the same IPv4 network, DNS server and router address: as long as one
//! of them leads anywhere, the tunnel's DNS is answered.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use narrowgate_lab::layout::{CABLE, FOREIGN4, FOREIGN6, GATE_NAME, Household, MODEM, ROUTER_LL, WAN};
use narrowgate_lab::packet::PacketSocket;
use narrowgate_lab::probe::build;
use narrowgate_lab::usage::Usage;
use narrowgate_lab::{Capture, Families, Host, Lab, Options, demo, wait};
use socket2::{Domain, Socket, Type};

use crate::scene::{SILENCE, SOON, Scene};

/// How long the tunnel's DNS may fail when an uplink is lost.
const PROMISE: Duration = Duration::from_secs(1);
const RESOLVER: &str = "127.0.0.1:54";

#[test]
fn of_two_uplinks_any_one_may_be_lost_and_the_other_answers_within_a_second() {
    let scene = with_modem(Families::Both);
    let mut modem = Some(scene.lab.plug_modem().unwrap());
    let second = Capture::open_modem(&scene.lab).unwrap();
    let captures = [&scene.capture, &second];
    both_up(&scene);
    let asking = Asking::start(&scene, &captures);
    asking.asserts("both uplinks");

    let network = scene.lab.network();
    scene.lab.silence_dns(&[network.router4.into(), network.router6.into(), ROUTER_LL.into()]).unwrap();
    asking.asserts("the cable's DNS is dead");
    scene.lab.run(Host::Home, "nft delete table inet silence").unwrap();

    scene.lab.run(Host::Home, "ip link set eth0 down").unwrap();
    asking.asserts("the cable's household is cut off");
    scene.lab.batch(Host::Home, HOME_UPSTREAM).unwrap();

    scene.lab.set_carrier(false).unwrap();
    asking.asserts("the cable is pulled");
    scene.lab.set_carrier(true).unwrap();
    both_up(&scene);

    scene.lab.unplug_modem(modem.take().unwrap()).unwrap();
    asking.asserts("the modem is gone");
    // Another device with the same name. Its capture is a new one too.
    second.assert_no_leak("at the modem").unwrap();
    drop(second);
    let modem = scene.lab.plug_modem().unwrap();
    let second = Capture::open_modem(&scene.lab).unwrap();
    allow(&second);
    both_up(&scene);
    scene.lab.set_carrier(false).unwrap();
    asking.asserts("the modem is back, and the cable is pulled");
    scene.lab.set_carrier(true).unwrap();

    let longest = asking.end();
    assert!(longest < PROMISE, "an answer took {longest:?}\n{}", scene.log());
    scene.capture.assert_no_leak("at the cable").unwrap();
    second.assert_no_leak("at the modem that came back").unwrap();
    drop(modem);
}

#[test]
fn each_household_is_asked_by_its_own_cable_though_both_servers_have_one_address() {
    let scene = with_modem(Families::V4);
    let _modem = scene.lab.plug_modem().unwrap();
    let second = Capture::open_modem(&scene.lab).unwrap();
    both_up(&scene);
    let (_, table, _) = scene.lab.narrowgate(&["status"]).unwrap();
    for device in [WAN.0, MODEM.0] {
        let server = format!("{}%{device}", scene.lab.network().router4);
        assert!(table.contains(&server), "{server} is not in\n{table}");
    }
    // Only the second knows: so it is asked, and its answer comes through, whatever the first says.
    let network = scene.lab.network();
    scene.lab.silence_dns(&[network.router4.into(), network.router6.into(), ROUTER_LL.into()]).unwrap();
    let name = "only-the-second.any.example.org";
    for capture in [&scene.capture, &second] {
        capture.adjust(|context| context.other_names.push(name.to_owned()));
    }
    scene.lab.host(Host::Node).ask_until(RESOLVER.parse().unwrap(), name, false, SOON).unwrap();
    second
        .wait_for("question at the modem", SOON, |seen| seen.kind.label() == "other DNS, asked for")
        .unwrap();
    scene.capture.assert_no_leak("at the cable").unwrap();
    second.assert_no_leak("at the modem").unwrap();
}

/// Unmarked packets of both families, from bound sockets and from packet sockets: none comes out at the modem.
#[test]
fn the_second_uplink_is_guarded_from_its_first_frame_to_its_last() {
    let scene = with_modem(Families::Both);
    let flood = Flood::start(&scene.lab);
    for _ in 0..3 {
        let modem = scene.lab.plug_modem().unwrap();
        let second = Capture::open_modem(&scene.lab).unwrap();
        wait::until("the modem's addresses", SOON, || {
            Ok((addresses(&scene.lab, MODEM.0).len() >= 2).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
        let sent = flood.sent();
        wait::until("more frames", SOON, || Ok((flood.sent() > sent + 20).then_some(()))).unwrap();
        // What was sent last may still be on its way to the capture.
        std::thread::sleep(SILENCE);
        second.assert_no_leak("at the modem").unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
        assert!(!second.frames().is_empty(), "the capture sees nothing at all");
        scene.lab.unplug_modem(modem).unwrap();
    }
    flood.end();
}

/// Each is from another router and makes some lifetime longer, so that the facts change with every one.
#[test]
fn a_flood_of_advertisements_costs_little_of_a_processor() {
    let scene = Scene::uplink_up(Options::default());
    let before = Usage::of(scene.daemon.pid()).unwrap().processor;
    let started = Instant::now();
    let flood = || {
        let mut socket = PacketSocket::open(CABLE.0).unwrap();
        let mut sent = 0;
        while started.elapsed() < Duration::from_secs(2) {
            let source = Ipv6Addr::from((0xfe80 << 112) | (0xbad0_0000 + u128::from(sent)));
            sent += u32::from(socket.send(&build::advertisement(source, 2000 + sent)).is_ok());
        }
        sent
    };
    let sent = scene.lab.host(Host::Home).in_network(flood).unwrap();
    assert!(sent > 1000, "{sent} is no flood");
    let spent = Usage::of(scene.daemon.pid()).unwrap().processor - before;
    assert!(spent < started.elapsed() / 6, "{spent:?} for {sent} advertisements");
    scene.assert_wan_dns_works("after a flood of advertisements");
}

/// The bridge is no uplink, and its port is still one: what the bridge sends, by itself or for others, does not get out.
#[test]
fn an_uplink_that_becomes_a_bridges_port_lets_nothing_out_and_works_again_when_it_is_none() {
    let scene = Scene::uplink_up(Options::default());
    let bridge = "ip link add br-wan type bridge stp_state 0 mcast_snooping 0";
    for command in [bridge, "ip link set wan master br-wan", "ip link set br-wan up"] {
        scene.lab.run(Host::Node, command).unwrap();
    }
    let flood = Flood::of_bound_sockets(&scene.lab, "br-wan");
    wait::until("dropped frames at the port", SOON, || {
        let counter = scene.lab.run(Host::Node, "nft list counter netdev narrowgate leak_egress")?;
        let packets =
            counter.split_once("packets ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        Ok((packets.unwrap_or(0) > 100).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    flood.end();
    scene.lab.run(Host::Node, "ip link del br-wan").unwrap();
    // The kernel takes its routes away and gives them back.
    let router = SocketAddr::new(scene.lab.network().router6.into(), 53);
    let node = scene.lab.host(Host::Node);
    wait::until("an answer from the router", SOON, || {
        Ok(node.ask_marked(router, GATE_NAME, 1, PROMISE).ok())
    })
    .unwrap_or_else(|error| {
        let routes = scene.lab.run(Host::Node, "ip -6 route show table all").unwrap();
        panic!("{error}\n{routes}\n{}", scene.log())
    });
    scene.assert_uplink_works("no port any more");
    scene.assert_wan_dns_works("no port any more");
    scene.capture.assert_no_leak("in a bridge").unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
}

/// As Gluon's br-wan. Others' frames pass by as ever (a private WLAN is bridged to the household), and what the node itself sends past the bridge does not, be it
/// LLDP or anything else.
#[test]
fn the_port_of_a_bridge_that_is_the_uplink_sends_nothing_that_did_not_come_by_the_bridge() {
    let lab = Lab::new(Options::default()).unwrap();
    let address = format!("ip link set wan address {}", WAN.1.map(|b| format!("{b:02x}")).join(":"));
    for command in [
        "ip link set wan name port",
        "ip link add wan type bridge stp_state 0 mcast_snooping 0",
        "ip link add guest type veth peer name behind",
        "sysctl -qw net.ipv6.conf.guest.disable_ipv6=1 net.ipv6.conf.behind.disable_ipv6=1",
        // As on OpenWrt: else netfilter takes what a bridge passes on for forwarded packets.
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0",
        "ip link set port master wan",
        "ip link set guest master wan",
        &address,
        "ip link set port up",
        "ip link set guest up",
        // It is another host.
        "ip link set behind up arp off",
    ] {
        lab.run(Host::Node, command).unwrap();
    }
    let scene = Scene::with(lab);
    scene.wait_addresses();
    scene.assert_uplink_works("by a bridge");
    scene.assert_wan_dns_works("by a bridge");
    scene.assert_no_leak("by a bridge");
    let bound = Flood::of_bound_sockets(&scene.lab, "port");
    let lldp = Flood::with(&scene.lab, || {
        let mut socket = PacketSocket::open("port").unwrap();
        move || {
            // To the nearest bridge, which no bridge passes on (IEEE 802.1Q, 8.6.3); type LLDP.
            let head = [&[1, 0x80, 0xc2, 0, 0, 14, 2, 0, 0, 0, 0, 9, 0x88, 0xcc][..], &[0; 46]].concat();
            let _ = socket.send(&head);
            true
        }
    });
    for flood in [&bound, &lldp] {
        let sent = flood.sent();
        wait::until("frames", SOON, || Ok((flood.sent() > sent + 100).then_some(()))).unwrap();
    }
    bound.end();
    lldp.end();
    std::thread::sleep(SILENCE);
    scene.capture.assert_no_leak("past a bridge").unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    let other = Flood::with(&scene.lab, || {
        let mut socket = PacketSocket::open("behind").unwrap();
        let from = Household::OTHER.host4(100).into();
        let frame = build::udp_frame(from, FOREIGN4.into(), 9, &build::payload("guest"));
        move || socket.send(&frame).is_ok()
    });
    let passed = wait::until("a guest's frame at the household", SOON, || {
        Ok((!scene.capture.leaks().is_empty()).then_some(()))
    });
    other.end();
    passed.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
}

/// Frames of sockets that were bound to the device before, and ask for no name any more: none comes out, neither before we have
/// heard of the other name nor afterwards.
#[test]
fn a_device_that_somebody_renames_is_guarded_and_used_under_its_other_name() {
    let scene = Scene::uplink_up(Options::default());
    let flood = Flood::of_bound_sockets(&scene.lab, WAN.0);
    let rename = |from: &str, to: &str, says: &str| {
        scene.lab.run(Host::Node, &format!("ip link set {from} name {to}")).unwrap();
        let said = || {
            let problems = scene.lab.narrowgate(&["status"])?.1.contains("is called wan9 now");
            Ok((problems == (to == "wan9")).then_some(()))
        };
        wait::until(says, SOON, said).unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
        let sent = flood.sent();
        wait::until("more frames", SOON, || Ok((flood.sent() > sent + 20).then_some(()))).unwrap();
        std::thread::sleep(SILENCE);
        scene.capture.assert_no_leak(says).unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
        scene.assert_wan_dns_works(says);
    };
    for _ in 0..3 {
        rename(WAN.0, "wan9", "renamed");
        rename("wan9", WAN.0, "renamed back");
    }
    rename(WAN.0, "wan9", "renamed");
    let name = "by-another-name.any.example.org";
    scene.capture.adjust(|context| context.other_names.push(name.to_owned()));
    scene.lab.host(Host::Node).ask_until(RESOLVER.parse().unwrap(), name, false, SOON).unwrap();
    rename("wan9", WAN.0, "renamed back");
    scene.assert_uplink_works("renamed back");
    flood.end();
    scene.capture.assert_no_leak("after the device was renamed").unwrap();
}

/// A lab with a modem that is not plugged in, and a daemon that knows of it.
fn with_modem(household: Families) -> Scene {
    let lab = Lab::new(Options { modem: true, household, ..Options::default() }).unwrap();
    // The strict filter would drop what the second household answers: the way back to it is the first's cable.
    lab.run(Host::Node, "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1")
        .unwrap();
    let config = format!(
        "{}\nconfig uplink 'modem'\n\toption device '{}'\n\toption provider 'builtin'\n",
        demo::config(),
        MODEM.0
    );
    let scene = Scene::with_config(lab, &config);
    scene.wait_addresses();
    scene
}

fn addresses(lab: &Lab, device: &str) -> Vec<String> {
    let text = lab.run(Host::Node, &format!("ip -o addr show dev {device} scope global")).unwrap_or_default();
    let found = text.lines().filter_map(|line| line.split_whitespace().nth(3).map(str::to_owned));
    found.collect()
}

/// Both have addresses of each family that there is, and the resolver was told the servers of both.
fn both_up(scene: &Scene) {
    let waited = wait::until("both uplinks", SOON, || {
        let (_, table, _) = scene.lab.narrowgate(&["status"])?;
        let router = Household::OTHER.router4;
        let told = |device| table.contains(&format!("{router}%{device}"));
        let families = scene.lab.options().household;
        let wanted = usize::from(families.v4()) + usize::from(families.v6());
        let there = |device| addresses(&scene.lab, device).len() >= wanted;
        let whole = [WAN.0, MODEM.0].into_iter().all(|device| there(device) && told(device));
        Ok(whole.then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
}

/// The names that [`Asking`] asks for are no leak.
fn allow(capture: &Capture) {
    capture.adjust(|context| {
        context.other_names.extend((0..5000).map(Asking::name));
    });
}

/// A thread that asks for one name after the other, none of which was asked before.
struct Asking {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Duration>,
}

impl Asking {
    fn name(at: usize) -> String {
        format!("failover-{at}.any.example.org")
    }

    fn start(scene: &Scene, captures: &[&Capture]) -> Asking {
        captures.iter().for_each(|capture| allow(capture));
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let node = scene.lab.host(Host::Node);
        let (stopped, count) = (stop.clone(), answered.clone());
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            for at in 0..5000 {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let asked = Instant::now();
                let answer = node.ask(RESOLVER.parse().unwrap(), &Self::name(at), false, SOON);
                let took = if answer.is_ok() { asked.elapsed() } else { SOON };
                longest = longest.max(took);
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            longest
        });
        Asking { stop, answered, thread }
    }

    /// Some more questions are answered.
    fn asserts(&self, when: &str) {
        let wanted = self.answered.load(Ordering::Relaxed) + 20;
        let more = || Ok((self.answered.load(Ordering::Relaxed) >= wanted).then_some(()));
        wait::until(&format!("answers while {when}"), Duration::from_secs(20), more).unwrap();
    }

    /// How long the slowest took.
    fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Sends what only a guard stops by one device, without pause.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Flood {
    /// By new sockets each time, whether the device is there or not.
    fn start(lab: &Lab) -> Flood {
        Flood::with(lab, || || Bound::to(MODEM.0).map(|mut bound| bound.send()).is_some())
    }

    /// By the same sockets always.
    fn of_bound_sockets(lab: &Lab, device: &'static str) -> Flood {
        let flood = Flood::with(lab, move || {
            let mut bound = Bound::to(device).unwrap();
            move || {
                bound.send();
                true
            }
        });
        // Bound before the device gets another name.
        wait::until("the flood", SOON, || Ok((flood.sent() > 0).then_some(()))).unwrap();
        flood
    }

    fn with<R: FnMut() -> bool>(lab: &Lab, begin: impl FnOnce() -> R + Send + 'static) -> Flood {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let node = lab.host(Host::Node);
        let (stopped, count) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let flood = || {
                let mut round = begin();
                while !stopped.load(Ordering::Relaxed) {
                    count.fetch_add(round().into(), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            node.in_network(flood).unwrap();
        });
        Flood { stop, sent, thread }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// Sockets that send by one device what only a guard stops.
struct Bound {
    datagrams: Vec<(Socket, SocketAddr)>,
    packets: PacketSocket,
}

impl Bound {
    /// Nothing if there is no such device.
    fn to(device: &str) -> Option<Bound> {
        let bind = |foreign: IpAddr| {
            let to = SocketAddr::new(foreign, 9);
            let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).unwrap();
            socket.bind_device(Some(device.as_bytes())).ok()?;
            Some((socket, to))
        };
        let datagrams = vec![bind(FOREIGN4.into())?, bind(FOREIGN6.into())?];
        Some(Bound { datagrams, packets: PacketSocket::open(device).ok()? })
    }

    /// What becomes of it the capture tells; the guard's drop may be an error here.
    fn send(&mut self) {
        for (socket, to) in &self.datagrams {
            let _ = socket.send_to(&build::payload("bound-device"), &(*to).into());
        }
        let own = Household::OTHER.host4(100).into();
        let frame = build::udp_frame(own, FOREIGN4.into(), 9, &build::payload("packet-udp4"));
        let _ = self.packets.send(&frame);
    }
}

/// The household's way to the internet, whose routes went with the device.
const HOME_UPSTREAM: &str = "link set eth0 up
    addr replace 2001:db8:1::2/64 dev eth0 nodad
    route replace default via 198.51.100.1
    route replace default via 2001:db8:1::1
    ";
