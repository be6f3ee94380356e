//! Households whose DNS servers have one and the same address: each is asked by its own device. Network namespaces of this
//! test's own; it needs root, and Linux 5.7.

use crate::link_local::{Namespace, ip};
use crate::parts::{Process, ask, ask_tcp, example, query};
use std::net::SocketAddr;
use std::time::Duration;

const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];
const AT_ONCE: u16 = 16;

/// A household on `device` whose server knows `NAME.example`, and records of `N.NAME.example` that UDP cannot carry; everything
/// else it refuses.
fn household(node: &Namespace, home: &Namespace, device: &str, name: &str) -> Process {
    let end = format!("to-{name}");
    ip(&["link", "add", device, "netns", &node.0, "type", "veth", "peer", "name", &end, "netns", &home.0]);
    home.ip(&["addr", "add", "192.168.1.1/24", "dev", &end]);
    home.ip(&["addr", "add", "fd01::1/64", "dev", &end, "nodad"]);
    node.ip(&["addr", "add", "192.168.1.50/24", "dev", device]);
    node.ip(&["addr", "add", "fd01::50/64", "dev", device, "nodad"]);
    home.ip(&["link", "set", &end, "up"]);
    node.ip(&["link", "set", device, "up"]);
    let mut arguments: Vec<String> =
        ["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--no-hosts", "--no-resolv"]
            .map(str::to_owned)
            .to_vec();
    arguments.extend([format!("--interface={end}"), "--bind-dynamic".to_owned()]);
    arguments.push(format!("--host-record={name}.example,192.0.2.7"));
    let big = vec!["x".repeat(200); 7].join(",");
    arguments.extend((0..AT_ONCE).map(|n| format!("--txt-record={n}.{name}.example,{big}")));
    home.start("dnsmasq", &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What was asked, and whether it was answered by the one server that knows it.
fn ask_for_all(listen: SocketAddr) -> Vec<(String, bool)> {
    let known = |answer: &[u8]| (answer[3] & 15, answer[7]) == (0, 1);
    let mut answers = Vec::new();
    // Until all are there: what one refuses the others are asked.
    for name in NAMES {
        let question = format!("{name}.example");
        let found = (0..100).any(|id| {
            let found = known(&ask(listen, &query(id, &question, 1, 1232)));
            if !found {
                std::thread::sleep(Duration::from_millis(50));
            }
            found
        });
        answers.push((question, found));
    }
    // So many at once that they need a stream each, and in all more of them than a resolver has.
    for name in NAMES {
        let questions: Vec<Vec<u8>> =
            (0..AT_ONCE).map(|n| query(n, &format!("{n}.{name}.example"), 16, 0)).collect();
        for answer in ask_tcp(listen, &questions) {
            answers.push((format!("{}.{name}.example", answer[1]), known(&answer) && answer.len() > 1400));
        }
    }
    answers
}

fn each_is_asked_by_its_own_device(address: &str) {
    let node = Namespace::new("devices");
    let homes = NAMES.map(Namespace::new);
    // The answers come by devices that no route leads back by: only the loose filter asks for no more than any.
    let filter = || std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "2").unwrap();
    node.inside(filter).join().unwrap();
    let devices = NAMES.map(|name| format!("up-{name}"));
    let places = NAMES.iter().zip(&homes).zip(&devices);
    let servers: Vec<Process> =
        places.map(|((name, home), device)| household(&node, home, device, name)).collect();
    let listen: SocketAddr = "127.0.0.1:5354".parse().unwrap();
    let mut arguments = vec!["--listen".to_owned(), listen.to_string()];
    arguments
        .extend(devices.iter().flat_map(|device| ["--server".to_owned(), format!("{address}%{device}")]));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _forward = node.start(example("forward").to_str().unwrap(), &arguments);
    let answers = node.inside(move || ask_for_all(listen)).join().unwrap();
    drop(servers);
    assert_eq!(answers.len(), NAMES.len() * (1 + usize::from(AT_ONCE)));
    let wrong: Vec<&String> = answers.iter().filter(|(_, right)| !right).map(|(name, _)| name).collect();
    assert!(wrong.is_empty(), "not answered: {wrong:?}");
}

#[test]
fn of_servers_at_one_ipv4_address_each_is_asked_by_its_own_device() {
    each_is_asked_by_its_own_device("192.168.1.1");
}

#[test]
fn of_servers_at_one_ipv6_address_each_is_asked_by_its_own_device() {
    each_is_asked_by_its_own_device("fd01::1");
}
