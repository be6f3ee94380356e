//! Connections that somebody else has begun are forgotten; ours, and those to a service, are not.

use crate::namespace::{enter, sh};
use narrowgate_kernel::conntrack::{Flow, forget_incoming, recent_flow};
use narrowgate_model::config::Inbound;
use std::net::{IpAddr, SocketAddr, UdpSocket};

const OURS: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const THEIRS: [&str; 2] = ["192.0.2.9", "2001:db8::9"];

/// A namespace with both addresses, in which some other firewall tracks connections.
fn enter_tracked() -> Vec<IpAddr> {
    let _ = enter();
    sh("ip link set lo up");
    for addr in OURS.iter().chain(&THEIRS) {
        sh(&format!("ip addr add {addr} dev lo {}", if addr.contains(':') { "nodad" } else { "" }));
    }
    sh("nft add table inet fw");
    sh("nft 'add chain inet fw output { type filter hook output priority 0; }'");
    sh("nft add rule inet fw output ct state new accept");
    OURS.map(|a| a.parse().expect("an address")).to_vec()
}

fn speak(from: (&str, u16), to: (&str, u16)) {
    let addr = |(addr, port): (&str, u16)| SocketAddr::new(addr.parse().expect("an address"), port);
    let socket = UdpSocket::bind(addr(from)).expect("a socket");
    // Nobody listens there: what is tracked is the packet on its way.
    socket.send_to(b"hello", addr(to)).expect("sending");
}

/// The tracked connections by their first ports, `from>to`.
fn tracked() -> Vec<String> {
    let text =
        std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").expect("the tracked connections");
    let field = |line: &str, name: &str| {
        let words = line.split_whitespace().find_map(|w| w.strip_prefix(name).map(str::to_owned));
        words.unwrap_or_default()
    };
    let udp = text.lines().filter(|line| line.contains(" udp "));
    let mut seen: Vec<String> =
        udp.map(|l| format!("{}>{}", field(l, "sport="), field(l, "dport="))).collect();
    seen.sort();
    seen
}

#[test]
fn what_others_began_is_forgotten_and_nothing_else() {
    let own = enter_tracked();
    for (ours, theirs) in OURS.into_iter().zip(THEIRS) {
        speak((theirs, 10_000), (ours, 20_000)); // the gateway speaks first
        speak((ours, 20_001), (theirs, 10_001)); // the tunnel does
        speak((theirs, 10_002), (ours, 161)); // a service that is wanted
        speak((ours, 20_003), (ours, 10_003)); // within the node
        speak((theirs, 10_004), (theirs, 20_004)); // passing by
    }
    let all = ["10000>20000", "10002>161", "10004>20004", "20001>10001", "20003>10003"];
    assert_eq!(tracked(), all.map(|s| [s, s]).concat());
    assert_eq!(forget_incoming(&own, &[Inbound::Udp(161), Inbound::Tcp(20_000)]), Ok(2));
    assert_eq!(tracked(), all.iter().skip(1).flat_map(|s| [*s, *s]).collect::<Vec<_>>());
    assert_eq!(forget_incoming(&own, &[Inbound::Udp(161)]), Ok(0));
}

#[test]
fn thousands_are_forgotten_too() {
    let own = enter_tracked();
    for port in 30_000..31_000 {
        speak((THEIRS[0], port), (OURS[0], 20_000));
    }
    assert_eq!(forget_incoming(&own, &[]), Ok(1000));
    assert_eq!(tracked(), [""; 0]);
}

#[test]
fn what_has_just_been_sent_to_a_port_or_answered_is_seen() {
    enter_tracked();
    assert_eq!(recent_flow(&[10_000, 10_001], 3, 3), Ok(Flow::None));
    speak((OURS[0], 20_000), (THEIRS[0], 10_000));
    assert_eq!(recent_flow(&[10_000, 10_001], 3, 3), Ok(Flow::Sent));
    assert_eq!(recent_flow(&[10_001, 20_000], 3, 3), Ok(Flow::None), "other ports");
    speak((OURS[1], 20_001), (THEIRS[1], 10_001));
    speak((THEIRS[1], 10_001), (OURS[1], 20_001));
    assert_eq!(recent_flow(&[10_000, 10_001], 3, 3), Ok(Flow::Answered));
    // As if it were long ago: what is tracked has less time left than a new connection would have.
    sh("echo 60 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout");
    assert_eq!(recent_flow(&[10_000, 10_001], 3, 3), Ok(Flow::None));
    assert_eq!(recent_flow(&[10_000, 10_001], 40, 3), Ok(Flow::Sent));
    assert_eq!(recent_flow(&[10_000, 10_001], 3, 40), Ok(Flow::Answered));
}
