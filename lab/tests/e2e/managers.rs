//! An uplink that another manager brings up, with its routes in the main table, and that is known by what a hook hands over.

use std::time::Duration;

use narrowgate_lab::demo::config;
use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::{ROUTER_LL, WAN};
use narrowgate_lab::{Host, Lab, Options};

use crate::scene::Scene;

#[test]
fn a_manager_that_takes_the_main_table_carries_the_tunnel_and_nothing_else() {
    let lab = Lab::new(Options::default()).unwrap();
    lab.configure_by_hand().unwrap();
    lab.set_nameserver("127.0.0.1").unwrap();
    let routes =
        |version| lab.run(Host::Node, &format!("ip {version} route show default dev {}", WAN.0)).unwrap();
    for version in ["-4", "-6"] {
        assert!(routes(version).contains(" via "), "{}", routes(version));
    }
    // Before there is a daemon, as at boot.
    let dir = lab.file("runtime").join("uplink");
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!("manager dhcpcd\nnameserver {}\nnameserver {ROUTER_LL}\n", lab.network().router4);
    std::fs::write(dir.join(format!("{}:dhcp.conf", WAN.0)), text).unwrap();

    let mut scene = Scene::with_config(lab, &config().replace("'builtin'", "'auto'"));
    scene.assert_wan_dns_works("by a hook");
    scene.start_fastd(Start::InGroup);
    scene.wait_mesh_within(Duration::from_secs(30));
    scene.assert_uplink_works("by a hook");
    scene.assert_no_leak("by a hook, with default routes in the main table");
    let (_, status, _) = scene.lab.narrowgate(&["status"]).unwrap();
    for told in ["uplink wan on wan (hook)", "dhcpcd manages wan", "to the main table: tell it not to"] {
        assert!(status.contains(told), "{told}: {status}");
    }
    // What was handed over outlives the daemon.
    scene.daemon.terminate(crate::scene::SOON).unwrap();
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
}
