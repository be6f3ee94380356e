//! The provider `auto`: who is chosen, and when that changes.

use crate::node::{Node, link, now};
use crate::ubusd::{Mood, Ubusd};
use crate::{Place, UP, dns};
use narrowgate_model::Mark;
use narrowgate_model::config::Uplink;
use narrowgate_providers::auto::Auto;
use narrowgate_providers::{Places, Provider};
use narrowgate_sys::path::PathBuf;
use std::fs;
use std::time::Duration;

/// A device that this host does not have, so that the builtin provider sends nothing.
const INDEX: u32 = 4_000_000;

impl Place {
    fn netif(&self) -> PathBuf {
        self.0.join("netif")
    }

    /// No other managers.
    fn nobody(&self) -> Places {
        let nowhere = self.0.join("nowhere");
        Places { networkmanager: nowhere.clone(), handed: nowhere, ..Places::default() }
    }

    fn auto(&self, device: &str) -> Node {
        self.auto_with(&Uplink::new("wan", device))
    }

    fn auto_with(&self, uplink: &Uplink) -> Node {
        let state = self.0.join("state");
        let places = Places { ubus: self.sockets(), networkd: self.netif(), ..self.nobody() };
        let auto = Auto::new(uplink, Mark::DEFAULT, &state, places, now());
        let mut node = Node::new(auto);
        let mut down = link(&uplink.device, INDEX);
        (down.up, down.carrier) = (false, false);
        node.link(Some(&down));
        node
    }

    fn networkd_says(&self, text: &str) {
        fs::create_dir_all(self.netif().join("links")).unwrap();
        fs::create_dir_all(self.netif().join("leases")).unwrap();
        let file = self.netif().join("links").join(INDEX.to_string());
        let new = file.with_file_name("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, file).unwrap();
    }
}

fn why(provider: &dyn Provider) -> String {
    provider.describe(now()).into_iter().find(|(name, _)| name == "chosen").map(|(_, text)| text).unwrap()
}

fn with_bus() -> (Place, Ubusd) {
    let place = Place::new();
    let ubusd = place.ubusd();
    (place, ubusd)
}

#[test]
fn where_nobody_manages_the_device_it_is_ours_at_once() {
    let place = Place::new();
    let node = place.auto("eth0");
    assert_eq!(node.provider.kind(), "builtin");
    assert_eq!(
        why(&*node.provider),
        "nobody else manages eth0 (asked: netifd, networkd, networkmanager, hook)"
    );
}

#[test]
fn netifd_is_chosen_when_it_has_the_device_and_says_by_which_interfaces() {
    let (place, ubusd) = with_bus();
    ubusd.set(&UP);
    let mut node = place.auto("wan");
    node.until_all("netifd", |p| p.kind() == "netifd");
    assert_eq!(why(&*node.provider), "netifd has wan as interface wan, wan6");
    node.until("its facts", |facts| dns(facts).len() == 3 && facts.link.is_some());
}

#[test]
fn a_device_that_netifd_does_not_have_is_ours() {
    let (place, ubusd) = with_bus();
    ubusd.set(&UP);
    let mut node = place.auto("usb0");
    node.until_all("builtin", |p| p.kind() == "builtin");
}

#[test]
fn an_interface_named_in_the_config_says_that_the_device_is_netifds_though_it_is_not_there_yet() {
    let (place, ubusd) = with_bus();
    ubusd.set_json(r#"[ {"interface":"cellular","up":false,"proto":"qmi","device":"/dev/cdc-wdm0"} ]"#);
    let mut uplink = Uplink::new("cellular", "wwan0");
    uplink.interfaces = vec!["cellular".to_owned()];
    let mut node = place.auto_with(&uplink);
    node.until_all("netifd", |p| p.kind() == "netifd");
}

#[test]
fn a_netifd_that_does_not_answer_is_waited_for_and_then_taken() {
    let (place, ubusd) = with_bus();
    ubusd.mood(Mood::Hanging);
    let mut node = place.auto("wan");
    assert_eq!(node.provider.kind(), "auto");
    node.later(Duration::from_secs(6));
    assert_eq!(node.provider.kind(), "netifd");
    ubusd.mood(Mood::Fine);
    ubusd.set(&UP);
    node.later(Duration::from_secs(40));
    node.until("its facts", |facts| facts.dns.len() == 3);
}

#[test]
fn a_manager_that_comes_late_takes_over_and_keeps_the_device_when_it_restarts() {
    let (place, ubusd) = with_bus();
    let mut node = place.auto("wan");
    node.until_all("builtin", |p| p.kind() == "builtin");
    ubusd.set(&UP);
    ubusd.wait_for_ears("network.interface");
    ubusd.event("network.interface", ("action", "ifup"));
    node.until_all("netifd", |p| p.kind() == "netifd" && p.facts().dns.len() == 3);
    ubusd.set(&[]);
    ubusd.event("network.interface", ("action", "ifdown"));
    node.until("nothing known", |facts| facts.dns.is_empty());
    assert_eq!(node.provider.kind(), "netifd");
}

#[test]
fn networkd_is_chosen_when_its_state_file_says_so_also_later() {
    let place = Place::new();
    place.networkd_says("ADMIN_STATE=unmanaged\n");
    let mut node = place.auto("eth0");
    assert_eq!(node.provider.kind(), "builtin");
    place.networkd_says(
        "ADMIN_STATE=configuring\nNETWORK_FILE=/etc/systemd/network/wan.network\nDNS=192.0.2.53 fe80::1\n",
    );
    node.until_all("networkd", |p| p.kind() == "networkd");
    assert_eq!(why(&*node.provider), "systemd-networkd manages eth0 by /etc/systemd/network/wan.network");
    assert_eq!(dns(node.provider.facts()), ["192.0.2.53", "fe80::1%eth0"]);
    let now = node.now();
    node.provider.stop(now);
    assert_eq!(*node.provider.facts(), narrowgate_model::Facts::default());
}
