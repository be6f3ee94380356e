//! A cable that comes and goes: nothing leaks, nothing is left behind, and the tunnel's DNS is back at once.

use std::time::{Duration, Instant};

use narrowgate_lab::capture::{is_dhcp_ack, is_router_advertisement};
use narrowgate_lab::demo::family;
use narrowgate_lab::layout::{CABLE, ROUTER_LL};
use narrowgate_lab::probe::Flood;
use narrowgate_lab::usage::Usage;
use narrowgate_lab::{Host, Options, wait};

use crate::scene::{SOON, Scene};

/// From the household's first answer to the answer to a query that waits.
const BACK: Duration = Duration::from_millis(500);

#[test]
fn a_hundred_short_flaps_leave_nothing_behind() {
    // From 10 ms on, so that some are noticed and some are not.
    flaps(100, |n| Duration::from_millis(10 + n % 30));
}

/// `make soak`: half an hour.
#[test]
#[ignore = "takes half an hour: make soak"]
fn a_thousand_flaps_of_all_lengths_leave_nothing_behind() {
    // From 10 ms to 10 s, each a little longer than the one before on a scale of proportions, and in no order.
    flaps(1000, |n| Duration::from_millis(10).mul_f64(1000f64.powf(((n * 619) % 1000) as f64 / 1000.0)));
}

fn flaps(count: u64, length: impl Fn(u64) -> Duration) {
    let scene = Scene::uplink_up(Options::default());
    let flood = Flood::start(&scene.lab).unwrap();
    // What the first ones need once, such as buffers, is no growth.
    (0..10).for_each(|n| flap(&scene, length(n)));
    settled(&scene);
    let (objects, usage) = (objects(&scene), usage(&scene));
    (0..count).for_each(|n| flap(&scene, length(n)));
    settled(&scene);
    assert_eq!(self::objects(&scene), objects, "{}", scene.log());
    for (before, after) in usage.iter().zip(self::usage(&scene)) {
        assert!(after.descriptors <= before.descriptors + 2, "{before:?} {after:?}");
        assert!(after.anonymous <= before.anonymous + GROWTH, "{before:?} {after:?}");
    }
    flood.end_after(10).unwrap();
    for n in 0..5 {
        back_at_once(&scene, n);
    }
    scene.assert_no_leak("after the flaps");
    scene.assert_uplink_works("after the flaps");
}

/// The cable is out for that long, and in for as long or for a second.
fn flap(scene: &Scene, length: Duration) {
    let cable = CABLE.0;
    scene.lab.run(Host::Home, &format!("ip link set {cable} down")).unwrap();
    std::thread::sleep(length);
    let router6 = scene.lab.network().router6;
    let batch = format!(
        "link set {cable} up\naddr replace {ROUTER_LL}/64 dev {cable} nodad\naddr replace {router6}/64 dev {cable} nodad\n"
    );
    scene.lab.batch(Host::Home, &batch).unwrap();
    std::thread::sleep(length.min(Duration::from_secs(1)));
}

/// How much the kernel holds for us, and how many servers the resolver has.
fn objects(scene: &Scene) -> Vec<(&'static str, usize)> {
    let lists = [
        "ip rule",
        "ip -6 rule",
        "ip route show table 1",
        "ip -6 route show table 1",
        "ip -o addr show dev wan scope global",
        "nft list ruleset",
    ];
    let lines = |command: &str| scene.lab.run(Host::Node, command).unwrap().lines().count();
    let mut counts: Vec<_> = lists.into_iter().map(|command| (command, lines(command))).collect();
    counts
        .push(("words about the servers", servers(scene).map_or(0, |line| line.split_whitespace().count())));
    counts
}

fn usage(scene: &Scene) -> Vec<Usage> {
    family(scene.daemon.pid()).into_iter().filter_map(Usage::of).collect()
}

/// Addresses of both families, the household's three DNS servers, and an answer.
fn settled(scene: &Scene) {
    scene.wait_addresses();
    wait::until("the household's servers", SOON, || Ok(servers(scene).map(drop))).unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", scene.lab.narrowgate(&["status"]).unwrap().1, scene.log())
    });
    scene.assert_wan_dns_works("after flaps");
}

/// The line of `status` that has all of the household's servers.
fn servers(scene: &Scene) -> Option<String> {
    let network = scene.lab.network();
    let servers = [network.router4.to_string(), network.router6.to_string(), format!("{ROUTER_LL}%wan")];
    let table = scene.lab.narrowgate(&["status"]).unwrap().1;
    table.lines().find(|line| servers.iter().all(|server| line.contains(server))).map(str::to_owned)
}

/// A query that is asked while the cable is out is answered within [`BACK`] of the household's first word.
fn back_at_once(scene: &Scene, n: usize) {
    let name = format!("back-{n}.any.example.org");
    scene.capture.adjust(|context| context.other_names.push(name.clone()));
    scene.lab.set_carrier(false).unwrap();
    scene.capture.reset();
    let node = scene.lab.host(Host::Node);
    let asked = std::thread::spawn(move || {
        node.ask("127.0.0.1:54".parse().unwrap(), &name, false, SOON).map(|_| Instant::now())
    });
    scene.lab.set_carrier(true).unwrap();
    let answered = asked.join().unwrap().unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    let heard = scene.capture.first_answer(|frame| is_router_advertisement(frame) || is_dhcp_ack(frame));
    // Where the answer came first, what was known from before was good enough.
    let after = heard.map_or(Duration::ZERO, |heard| answered.saturating_duration_since(heard));
    assert!(after < BACK, "{after:?}\n{}", scene.log());
}

/// KiB by which a process may grow: an allocator's heap is cut in other pieces each time.
const GROWTH: u64 = 256;
