//! An uplink that netifd manages, as on a Gluon node: it has set addresses, routes and rules of its own; what it has learnt is told on
//! ubus, by a stand-in that answers as netifd does.

use narrowgate_lab::demo::config;
use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::{ROUTER_LL, WAN};
use narrowgate_lab::snapshot::Snapshot;
use narrowgate_lab::{Host, Lab, Options, wait};

use crate::scene::{SOON, Scene};

#[path = "../../../crates/wire/tests/ubus_json/mod.rs"]
#[allow(dead_code)]
mod ubus_json;
#[path = "../../../crates/providers/tests/netifd/ubusd.rs"]
#[allow(dead_code)]
mod ubusd;

use ubusd::Ubusd;

/// What Gluon's netifd does: IPv6 in table 1 with rules around it, IPv4 in the main table.
fn as_netifd_does(lab: &Lab) {
    lab.configure_by_hand().unwrap();
    lab.set_nameserver("127.0.0.1").unwrap();
    let wan = WAN.0;
    let ip6 = |line: &str| lab.run(Host::Node, &format!("ip -6 {line}")).unwrap();
    ip6(&format!("route del default dev {wan}"));
    ip6(&format!("route add default via {ROUTER_LL} dev {wan} metric 512 table 1"));
    ip6("rule add iif lo lookup 1 priority 90011");
    for line in ip6(&format!("-o addr show dev {wan} scope global")).lines() {
        let address = line.split_whitespace().nth(3).unwrap();
        ip6(&format!("rule add from {} lookup 1 priority 10000", address.split('/').next().unwrap()));
        ip6(&format!("rule add to {address} lookup 1 priority 20000"));
    }
}

/// What it says on the bus: the interfaces of Gluon, up, and the server of `wan6`.
fn told(lab: &Lab, server6: std::net::Ipv6Addr) -> String {
    let network = lab.network();
    let (router4, own4) = (network.router4, network.host4(50));
    format!(
        r#"[ {{"interface":"loopback","up":true,"proto":"static","l3_device":"lo"}},
             {{"interface":"wan","up":true,"proto":"dhcp","device":"wan","l3_device":"wan",
               "ipv4-address":[{{"address":"{own4}","mask":24}}],
               "route":[{{"target":"0.0.0.0","mask":0,"nexthop":"{router4}","source":"{own4}/32"}}],
               "inactive":{{"dns-server":["{router4}"]}}}},
             {{"interface":"wan6","up":true,"proto":"dhcpv6","device":"wan","l3_device":"wan","ip6table":1,
               "route":[{{"target":"{router6}","mask":64,"nexthop":"::","metric":256,"valid":1800,"source":"::/0"}},
                        {{"target":"::","mask":0,"nexthop":"{ROUTER_LL}","metric":512,"valid":1800,"source":"::/0"}}],
               "inactive":{{"dns-server":["{server6}"]}}}} ]"#,
        router6 = network.router6,
    )
}

#[test]
fn a_gluon_node_behind_netifd_has_its_tunnel_leaks_nothing_and_is_left_as_it_was() {
    let lab = Lab::new(Options::default()).unwrap();
    as_netifd_does(&lab);
    let before = Snapshot::of(&lab.host(Host::Node)).unwrap();
    let socket = lab.file("ubus.sock");
    let ubusd = Ubusd::new(&socket);
    ubusd.set_json(
        r#"[ {"interface":"wan","up":false,"proto":"dhcp","device":"wan"},
             {"interface":"wan6","up":false,"proto":"dhcpv6","device":"wan"} ]"#,
    );
    lab.run(Host::Node, "mkdir -p /run/ubus").unwrap();
    lab.run(Host::Node, &format!("ln -s {} /run/ubus/ubus.sock", socket.display())).unwrap();
    let mut scene = Scene::with_config(lab, &config().replace("'builtin'", "'netifd'"));
    ubusd.wait_for_ears("network.interface");
    ubusd.wait_for_subscriber();

    ubusd.set_json(&told(&scene.lab, ROUTER_LL));
    ubusd.event("network.interface", ("action", "ifup"));
    scene.assert_wan_dns_works("behind netifd");
    scene.start_fastd(Start::InGroup);
    scene.wait_mesh();
    scene.assert_uplink_works("behind netifd");
    scene.assert_no_leak("behind netifd");
    let status = || scene.lab.narrowgate(&["status"]).unwrap().1;
    assert!(status().contains("uci set network.wan.ip4table=1"), "{}", status());

    // Another server, told to subscribers alone.
    let router6 = scene.lab.network().router6;
    ubusd.set_json(&told(&scene.lab, router6));
    ubusd.notify("interface.update");
    let gone = format!("{ROUTER_LL}%{}", WAN.0);
    let changed = |text: &str| text.contains(&router6.to_string()) && !text.contains(&gone);
    wait::until("the other server", SOON, || Ok(changed(&status()).then_some(())))
        .unwrap_or_else(|error| panic!("{error}: {}", status()));

    // Without a bus it goes on with what it knows.
    drop(ubusd);
    scene.lab.wait_logged(&scene.daemon, "what was learnt last stays", SOON).unwrap();
    scene.assert_wan_dns_works("without a bus");
    scene.assert_mesh_works("without a bus");
    scene.capture.assert_no_leak("without a bus").unwrap();

    drop(scene.fastd.take());
    assert!(scene.daemon.terminate(SOON).unwrap().success(), "{}", scene.log());
    let after = Snapshot::of(&scene.lab.host(Host::Node)).unwrap();
    before.assert_same(&after, "the node behind netifd").unwrap();
}
