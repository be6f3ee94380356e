//! WireGuard in userland over the uplink: however its peer's name is looked up, and whichever family the household has.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use narrowgate_lab::demo::config;
use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::{FAR4, FAR6, SERVICE_PORT};
use narrowgate_lab::wireguard::{self, INNER_GATE4, INNER_GATE6, WireGuard};
use narrowgate_lab::{Families, Host, Lab, Options, wait};

use crate::scene::{SOON, Scene};

/// `wg` run as root, as by an init script: the mesh resolver knows that the peer's name is the uplink's.
#[test]
fn plainly_over_both() {
    comes_up(Start::Plain, Families::Both);
}

#[test]
fn in_its_group_over_ipv6() {
    comes_up(Start::InGroup, Families::V6);
}

#[test]
fn by_exec_over_ipv4() {
    comes_up(Start::Exec, Families::V4);
}

/// What is behind the tunnel is reached, and every frame on the cable is the tunnel's, its DNS or housekeeping.
fn comes_up(start: Start, families: Families) {
    let (scene, mut wireguard) = scene(start, families);
    assert!(wireguard.lookup.wait(SOON).unwrap().success(), "wg set: {}", scene.lab.read_log("node-wg"));
    let node = scene.lab.host(Host::Node);
    for inside in [IpAddr::from(INNER_GATE4), INNER_GATE6.into(), FAR4.into(), FAR6.into()] {
        // A packet that comes in the middle of the handshake may be lost.
        let reached = wait::until("an answer through the tunnel", SOON, || {
            Ok(node.ping(inside, None, Duration::from_millis(500)).ok())
        });
        reached.unwrap_or_else(|error| panic!("{inside}: {error}\n{}", scene.log()));
    }
    node.http(SocketAddr::from((FAR4, SERVICE_PORT)), SOON).unwrap();
    scene.assert_no_leak("WireGuard's tunnel up");
    let counts = scene.capture.counts();
    assert!(counts.get("tunnel").is_some_and(|frames| *frames > 0), "{counts:?}");
}

/// The daemon READY, then WireGuard at once, whatever the household has told by then; the tunnel stands.
fn scene(start: Start, families: Families) -> (Scene, WireGuard) {
    let options = Options { household: families, gate_name: families, ..Options::default() };
    let scene = Scene::with_config(Lab::new(options).unwrap(), &(config() + &wireguard::config()));
    let wireguard = scene.lab.start_wireguard(start).unwrap();
    let up = scene.lab.wait_wireguard(&wireguard, SOON);
    let up = up.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    println!("{start:?} {families:?}: {:?} from `wg set` to the tunnel", up - wireguard.started);
    (scene, wireguard)
}
