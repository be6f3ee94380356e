//! In every state: nothing leaks, and what must work does.

use std::time::Duration;

use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::Household;
use narrowgate_lab::probe::Flood;
use narrowgate_lab::{Families, Host, Lab, Options, wait};
use nix::sys::signal::Signal;

use crate::scene::{SOON, Scene};

#[test]
fn before_the_first_ra() {
    let lab = Lab::new(Options::default()).unwrap();
    lab.stop_household().unwrap();
    let mut scene = Scene::with(lab);
    scene
        .capture
        .wait_for("question for a router or a lease", SOON, |seen| {
            ["router solicitation", "DHCPv4"].contains(&seen.kind.label())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    scene.assert_no_leak("before the first RA");
    // And from there the node comes up, once there is a household.
    scene.lab.start_household(&Options::default()).unwrap();
    scene.wait_addresses();
    scene.start_fastd(Start::InGroup);
    scene.wait_mesh();
    scene.assert_mesh_works("after a late household");
    scene.assert_no_leak("after a late household");
}

#[test]
fn uplink_up_and_tunnel_down() {
    let scene = Scene::uplink_up(Options::default());
    scene.assert_no_leak("uplink up, tunnel down");
    scene.assert_uplink_works("uplink up, tunnel down");
    scene.assert_wan_dns_works("uplink up, tunnel down");
    scene.capture.assert_no_leak("while it works").unwrap();
}

/// The household asks for the node's address from one that nothing calls on-link, and has to be answered.
#[test]
fn a_household_whose_prefix_is_not_on_link() {
    let options = Options { household: Families::V6, off_link: true, ..Options::default() };
    let scene = Scene::uplink_up(options);
    let routes = scene.lab.run(Host::Node, "ip -6 route show table 1").unwrap();
    let near = routes.lines().filter(|line| line.contains("/64") && !line.starts_with("fe80:"));
    assert_eq!(near.count(), 0, "a prefix is on-link: {routes}");
    scene.assert_uplink_works("without an on-link prefix");
    scene.assert_wan_dns_works("without an on-link prefix");
    scene.assert_no_leak("without an on-link prefix");
}

#[test]
fn tunnel_up() {
    let scene = Scene::tunnel_up(Options::default());
    scene.assert_no_leak("tunnel up");
    scene.assert_uplink_works("tunnel up");
    scene.assert_wan_dns_works("tunnel up");
    scene.assert_mesh_works("tunnel up");
    scene.capture.assert_no_leak("while it works").unwrap();
}

#[test]
fn mesh_without_a_default_route() {
    let scene = Scene::tunnel_up(Options::default());
    let node = Host::Node;
    // The kernel would take the next RA's route: let it not.
    scene.lab.run(node, "sysctl -qw net.ipv6.conf.mesh-vpn.accept_ra=0").unwrap();
    scene.lab.run(node, "ip -6 route del default dev mesh-vpn").unwrap();
    scene.lab.run(node, "ip route del default dev mesh-vpn").unwrap();
    scene.assert_no_leak("mesh without a default route");
    scene.assert_uplink_works("mesh without a default route");
    scene.assert_wan_dns_works("mesh without a default route");
    scene.assert_mesh_works("mesh without a default route");
    scene.capture.assert_no_leak("while it works").unwrap();
}

#[test]
fn daemon_killed() {
    let mut scene = Scene::tunnel_up(Options::default());
    scene.daemon.kill().unwrap();
    scene.assert_no_leak("daemon killed");
    scene.assert_uplink_works("daemon killed");
    for far in [std::net::IpAddr::from(narrowgate_lab::layout::FAR6), narrowgate_lab::layout::FAR4.into()] {
        scene.lab.host(Host::Node).ping(far, None, SOON).unwrap();
    }
    scene.capture.assert_no_leak("while it works").unwrap();
}

/// The resolvers are processes of their own: they answer while nobody is there to start them again.
#[test]
fn daemon_killed_and_its_resolvers_still_answer() {
    let mut scene = Scene::tunnel_up(Options::default());
    scene.daemon.kill().unwrap();
    scene.assert_wan_dns_works("daemon killed");
    scene.assert_mesh_works("daemon killed");
    scene.assert_no_leak("daemon killed");
}

#[test]
fn during_reload() {
    let scene = Scene::tunnel_up(Options::default());
    let flood = Flood::start(&scene.lab).unwrap();
    for _ in 0..10 {
        scene.daemon.signal(Signal::SIGHUP).unwrap();
        scene.assert_no_leak("during reload");
    }
    flood.end_after(10).unwrap();
    scene.assert_no_leak("after ten reloads");
    scene.assert_uplink_works("after ten reloads");
    scene.assert_wan_dns_works("after ten reloads");
    scene.assert_mesh_works("after ten reloads");
    scene.capture.assert_no_leak("while it works").unwrap();
}

#[test]
fn link_flap() {
    let scene = Scene::tunnel_up(Options::default());
    let flood = Flood::start(&scene.lab).unwrap();
    for _ in 0..3 {
        scene.lab.set_carrier(false).unwrap();
        scene.assert_no_leak("cable pulled");
        scene.lab.set_carrier(true).unwrap();
        scene.assert_no_leak("cable back");
    }
    flood.end_after(10).unwrap();
    scene.wait_addresses();
    scene.assert_uplink_works("after a link flap");
    scene.assert_wan_dns_works("after a link flap");
    scene.wait_mesh();
    scene.assert_mesh_works("after a link flap");
    scene.assert_no_leak("after a link flap");
}

#[test]
fn household_changes_its_prefix_and_dns() {
    let scene = Scene::tunnel_up(Options::default());
    let (old, new) = (Household::FIRST, Household::SECOND);
    scene.capture.adjust(|context| {
        context.households.push(new);
        context.dns.extend(narrowgate_lab::capture::servers(new));
    });
    let flood = Flood::start(&scene.lab).unwrap();
    scene.lab.renumber(new).unwrap();
    scene.assert_no_leak("household renumbered");
    // Without a word from the DHCP server the lease would last; a node whose cable was pulled asks again (RFC 2131, 3.7).
    scene.lab.set_carrier(false).unwrap();
    scene.lab.set_carrier(true).unwrap();
    wait::until("addresses of the new network, and no others", Duration::from_secs(15), || {
        let addresses = scene.addresses();
        let all_new = addresses.iter().all(|address| new.on_link(*address));
        let both = addresses.iter().any(|a| a.is_ipv4()) && addresses.iter().any(|a| a.is_ipv6());
        Ok((all_new && both).then_some(()))
    })
    .unwrap_or_else(|error| {
        panic!("{error}: {:?} (the old was {old:?})\n{}", scene.addresses(), scene.log())
    });
    flood.end_after(10).unwrap();
    scene.assert_uplink_works("household renumbered");
    scene.assert_wan_dns_works("household renumbered");
    // fastd floats to the new address by a handshake of the gateway's, which it offers a strange address every 15 s.
    scene.wait_mesh_within(Duration::from_secs(45));
    scene.assert_mesh_works("household renumbered");
    scene.assert_no_leak("household renumbered");
}

#[test]
fn tunnel_up_in_a_household_with_ipv4_alone() {
    one_family(Families::V4);
}

#[test]
fn tunnel_up_in_a_household_with_ipv6_alone() {
    one_family(Families::V6);
}

fn one_family(families: Families) {
    let scene = Scene::tunnel_up(Options { household: families, gate_name: families, ..Options::default() });
    scene.assert_no_leak("tunnel up, one family");
    scene.assert_uplink_works("tunnel up, one family");
    scene.assert_wan_dns_works("tunnel up, one family");
    scene.assert_mesh_works("tunnel up, one family");
    scene.capture.assert_no_leak("while it works").unwrap();
}

/// netifd's own rules send what has the WAN's address, or goes to its prefix, or starts here, to table 1.
#[test]
fn beside_netifds_extra_rules() {
    let scene = Scene::tunnel_up(Options::default());
    for address in scene.addresses() {
        let (family, prefix) = if address.is_ipv4() { ("-4", 24) } else { ("-6", 64) };
        let rules = [
            format!("from {address} lookup 1 priority 10000"),
            format!("to {address}/{prefix} lookup 1 priority 20000"),
            "iif lo lookup 1 priority 90011".to_owned(),
        ];
        for rule in rules {
            scene.lab.run(Host::Node, &format!("ip {family} rule add {rule}")).unwrap();
        }
    }
    scene.assert_no_leak("beside netifd's rules");
    scene.lab.run(Host::Node, "sysctl -qw net.ipv6.conf.mesh-vpn.accept_ra=0").unwrap();
    scene.lab.run(Host::Node, "ip -6 route del default dev mesh-vpn").unwrap();
    scene.lab.run(Host::Node, "ip route del default dev mesh-vpn").unwrap();
    scene.assert_no_leak("beside netifd's rules, mesh without a default route");
    scene.assert_uplink_works("beside netifd's rules");
    scene.assert_wan_dns_works("beside netifd's rules");
}

/// Rules of others, for containers or another VPN, go on working: ours do not stand in their way.
#[test]
fn foreign_rules_are_not_shadowed() {
    let scene = Scene::tunnel_up(Options::default());
    scene.lab.run(Host::Node, "ip route del default dev mesh-vpn").unwrap();
    scene.lab.run(Host::Node, "ip rule add to 203.0.113.0/24 lookup 77 priority 15000").unwrap();
    scene.lab.run(Host::Node, "ip route add 203.0.113.0/24 via 10.42.0.1 dev mesh-vpn table 77").unwrap();
    let node = scene.lab.host(Host::Node);
    let pinged = node.ping(narrowgate_lab::layout::FOREIGN4.into(), None, SOON);
    pinged.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    scene.capture.assert_no_leak("with a foreign rule").unwrap();
}
