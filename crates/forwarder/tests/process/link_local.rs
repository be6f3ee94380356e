//! A household's DNS server is often known by its link-local address alone, and the cable comes later than the program.
//! Two network namespaces of this test's own; it needs root.

use crate::parts::{Process, ask, client, example, query};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// A namespace that goes away with the test.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new(role: &str) -> Namespace {
        let name = format!("ngfwd-{}-{role}", std::process::id());
        ip(&["netns", "add", &name]);
        let namespace = Namespace(name);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    pub fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.0], arguments].concat());
    }

    pub fn start(&self, program: &str, arguments: &[&str]) -> Process {
        Process::start("ip", &[&["netns", "exec", &self.0, program], arguments].concat())
    }

    /// Runs a part of the test inside.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::spawn(move || {
            narrowgate_sys::process::enter_namespace(std::os::fd::AsFd::as_fd(&namespace)).unwrap();
            work()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

pub fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("iproute2 is needed for this test");
    assert!(status.success(), "ip {}: this test needs root", arguments.join(" "));
}

#[test]
fn a_link_local_server_is_asked_as_soon_as_its_device_is_there() {
    let (node, home) = (Namespace::new("node"), Namespace::new("home"));
    let program = example("forward");
    let listen: SocketAddr = "127.0.0.1:5354".parse().unwrap();
    let _forward = node.start(
        program.to_str().unwrap(),
        &["--listen", &listen.to_string(), "--server", "[fe80::53%wan0]:5353"],
    );
    // It runs: what is no query is answered without a server.
    node.inside(move || ask(listen, &[0; 12])).join().unwrap();
    let early = node.inside(move || {
        let socket = client(listen);
        socket.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
        socket.send(&query(1, "vpn.example", 1, 1232)).unwrap();
        let mut buffer = [0; 512];
        socket.recv(&mut buffer).map(|length| buffer[..length].to_vec())
    });
    ip(&["link", "add", "wan0", "netns", &node.0, "type", "veth", "peer", "name", "lan0", "netns", &home.0]);
    for (namespace, device, address) in [(&home, "lan0", "fe80::53/64"), (&node, "wan0", "fe80::1/64")] {
        namespace.ip(&["link", "set", device, "addrgenmode", "none"]);
        namespace.ip(&["addr", "add", address, "dev", device, "nodad"]);
        namespace.ip(&["link", "set", device, "up"]);
    }
    let _dnsmasq = home.start(
        "dnsmasq",
        &[
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file",
            "--no-hosts",
            "--no-resolv",
            "--interface=lan0",
            "--bind-dynamic",
            "--port=5353",
            "--address=/vpn.example/192.0.2.7",
        ],
    );
    let reply = early.join().unwrap().expect("an answer to the one question that was asked too early");
    assert_eq!((reply[3] & 15, reply[7]), (0, 1), "{reply:?}");
    let big =
        node.inside(move || crate::parts::ask_tcp(listen, &[query(2, "vpn.example", 1, 0)])).join().unwrap();
    assert_eq!(big[0][7], 1, "by TCP too");
}
