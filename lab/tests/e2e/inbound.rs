//! Who may come in by the uplink: ssh and ping from the household, and nobody else hears anything.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};

use narrowgate_lab::layout::{CABLE, WAN};
use narrowgate_lab::{Host, Options};

use crate::scene::{SILENCE, SOON, Scene};

/// With reverse path filtering off, strict and loose, and with the household's neighbour cache cold.
fn household_comes_in(rp_filter: u8) {
    let scene = Scene::uplink_up(Options::default());
    for device in ["all", "default", WAN.0] {
        let name = format!("net.ipv4.conf.{device}.rp_filter={rp_filter}");
        scene.lab.run(Host::Node, &format!("sysctl -qw {name}")).unwrap();
    }
    let home = scene.lab.host(Host::Home);
    let addresses = scene.addresses();
    assert!(addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6), "{addresses:?}");
    for address in addresses {
        let cold = || scene.lab.run(Host::Home, &format!("ip neigh flush dev {}", CABLE.0)).unwrap();
        cold();
        let page = home.http(SocketAddr::new(address, 22), SOON);
        let page = page.unwrap_or_else(|error| panic!("rp_filter {rp_filter}: {error}\n{}", scene.log()));
        assert!(page.contains("hello from the lab"), "{page}");
        cold();
        let pinged = home.ping(address, None, SOON);
        pinged.unwrap_or_else(|error| panic!("rp_filter {rp_filter}: {error}\n{}", scene.log()));
        cold();
        let connected =
            home.in_network(|| TcpStream::connect_timeout(&SocketAddr::new(address, 80), SILENCE)).unwrap();
        let refused = connected.expect_err("the web server answered the household");
        assert_eq!(refused.kind(), ErrorKind::TimedOut, "the web server is not silent: {refused}");
    }
    scene.assert_no_leak("after the household came in");
}

#[test]
fn without_reverse_path_filter() {
    household_comes_in(0);
}

#[test]
fn with_strict_reverse_path_filter() {
    household_comes_in(1);
}

#[test]
fn with_loose_reverse_path_filter() {
    household_comes_in(2);
}

/// A gateway that speaks first (after a restart, or when conntrack forgot the flow) must not turn the tunnel's own
/// packets into replies, which are not let out.
#[test]
fn a_gateway_that_speaks_first_does_not_break_the_tunnel() {
    let mut scene = Scene::uplink_up(Options::default());
    let addresses = scene.addresses();
    // The gateway's port, towards the port that the node's fastd will use: nobody knows it, so all likely ones.
    let gate = scene.lab.host(Host::Gate);
    gate.in_network(|| {
        for address in addresses.iter().filter(|address| address.is_ipv6()) {
            let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
            for port in (32768..61000).step_by(7) {
                let _ = socket.send_to(b"first", (*address, port));
            }
        }
    })
    .unwrap();
    scene.start_fastd(narrowgate_lab::fastd::Start::InGroup);
    scene.wait_mesh();
    scene.assert_mesh_works("after unasked packets");
    scene.capture.assert_no_leak("while the gateway speaks first").unwrap();
}
