//! The table of what is what, and that nothing unknown is let through.

use proptest::prelude::*;

use super::*;
use crate::frame::decode;
use crate::probe::build;

fn context() -> Context {
    Context {
        households: vec![Household::FIRST],
        dns: crate::capture::servers(Household::FIRST),
        gate: (
            vec![crate::layout::GATE4.into(), crate::layout::GATE6.into()],
            vec![crate::layout::GATE_PORT],
        ),
        tunnel_names: vec!["vpn.example.net".to_owned()],
        other_names: vec!["asked.example".to_owned()],
        inbound: vec![22],
    }
}

fn packet(from: &str, to: &str, protocol: u8, transport: Transport, payload: &[u8]) -> Frame {
    let source = from.parse().expect("an address");
    let destination = to.parse().expect("an address");
    let content =
        Content::Ip(Packet { source, destination, hops: 64, protocol, transport, payload: payload.to_vec() });
    Frame { to: [2; 6], from: [4; 6], content }
}

fn udp(from: &str, to: &str, ports: (u16, u16), payload: &[u8]) -> Frame {
    packet(from, to, 17, Transport::Udp { source: ports.0, destination: ports.1 }, payload)
}

fn tcp(to: &str, ports: (u16, u16), flags: u8, payload: &[u8]) -> Frame {
    packet(NODE4, to, 6, Transport::Tcp { source: ports.0, destination: ports.1, flags }, payload)
}

fn icmp(to: &str, kind: u8, hops: u8, payload: &[u8]) -> Frame {
    let from = if to.contains(':') { NODE6 } else { NODE4 };
    let protocol = if to.contains(':') { 58 } else { 1 };
    let mut frame = packet(from, to, protocol, Transport::Icmp { kind, code: 0 }, payload);
    if let Content::Ip(packet) = &mut frame.content {
        packet.hops = hops;
    }
    frame
}

fn arp(request: bool, sender: &str, target: &str) -> Frame {
    let (sender, target) = (sender.parse().expect("an address"), target.parse().expect("an address"));
    Frame { to: [255; 6], from: [4; 6], content: Content::Arp { request, sender, target } }
}

fn dns(name: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("short"));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn solicit(target: &str) -> Vec<u8> {
    let target: Ipv6Addr = target.parse().expect("an address");
    [&[0; 4][..], &target.octets()].concat()
}

#[test]
fn what_is_needed_is_told_apart() {
    let long = |name: &str| [&[0, 33][..], &dns(name)].concat();
    let housekeeping = Kind::Housekeeping;
    let table = [
        (udp(NODE4, "198.51.100.130", (5000, 10000), b"x"), Kind::Tunnel),
        (udp(NODE6, "2001:db8:9::10", (5000, 10000), b"x"), Kind::Tunnel),
        (udp(NODE4, "192.168.77.1", (4000, 53), &dns("vpn.example.net")), Kind::TunnelDns),
        (udp(NODE4, "192.168.77.1", (4000, 53), &dns("VPN.Example.NET")), Kind::TunnelDns),
        (udp(NODE6, "fe80::1", (4000, 53), &dns("vpn.example.net")), Kind::TunnelDns),
        (udp(NODE6, "fe80::1", (4000, 53), &dns("asked.example")), Kind::OtherDns),
        (tcp("192.168.77.1", (40000, 53), SYN, b""), Kind::TunnelDns),
        (tcp("192.168.77.1", (40000, 53), ACK, &long("vpn.example.net")), Kind::TunnelDns),
        (udp("0.0.0.0", "255.255.255.255", (68, 67), b""), housekeeping("DHCPv4")),
        (udp(NODE4, "192.168.77.1", (68, 67), b""), housekeeping("DHCPv4")),
        (udp("fe80::2", "ff02::1:2", (546, 547), b""), housekeeping("DHCPv6")),
        (arp(true, NODE4, "192.168.77.1"), housekeeping("ARP")),
        (arp(true, "0.0.0.0", NODE4), housekeeping("ARP")),
        (arp(false, NODE4, "192.168.77.1"), housekeeping("ARP")),
        (icmp("ff02::2", 133, 255, b""), housekeeping("router solicitation")),
        (icmp("ff02::1:ff00:1", 135, 255, &solicit("fe80::1")), housekeeping("neighbour discovery")),
        (icmp("fe80::1", 136, 255, &solicit(NODE6)), housekeeping("neighbour discovery")),
        (icmp("ff02::16", 143, 1, b""), housekeeping("MLD")),
        (icmp("192.168.77.1", 3, 64, b""), housekeeping("ICMP error")),
        (icmp("192.168.77.20", 0, 64, b""), Kind::Reply("reply to ping")),
        (icmp("fe80::1", 129, 64, b""), Kind::Reply("reply to ping")),
        (tcp("192.168.77.20", (22, 50000), SYN | ACK, b""), Kind::Reply("reply to ssh")),
    ];
    for (frame, kind) in table {
        assert_eq!(sort(&frame, &context()), kind, "{frame}");
    }
}

#[test]
fn what_only_looks_like_it_is_a_leak() {
    let table = [
        udp(NODE4, "198.51.100.130", (5000, 10001), b"another port of the gateway's"),
        udp(NODE4, "198.51.100.131", (5000, 10000), b"another host"),
        udp(NODE4, "203.0.113.53", (4000, 53), &dns("vpn.example.net")),
        udp(NODE4, "192.168.77.1", (4000, 53), &dns("www.example.org")),
        udp(NODE4, "192.168.77.1", (4000, 53), &dns("notvpn.example.net")),
        udp(NODE4, "192.168.77.1", (4000, 53), b"no DNS"),
        udp(NODE4, "224.0.0.251", (5353, 5353), &dns("vpn.example.net")),
        udp(NODE4, "203.0.113.1", (68, 67), b""),
        udp(NODE4, "255.255.255.255", (67, 68), b"a DHCP server"),
        tcp("192.168.77.1", (40000, 53), ACK, &[&[0, 33][..], &dns("www.example.org")].concat()),
        tcp("192.168.77.20", (22, 50000), SYN, b"a connection from port 22 is no reply"),
        tcp("192.168.77.20", (80, 50000), SYN | ACK, b""),
        tcp("192.168.77.20", (80, 50000), 4 | ACK, b"a reset tells that the node is there"),
        arp(true, NODE4, "203.0.113.99"),
        arp(true, "10.42.0.2", "192.168.77.1"),
        arp(false, "10.42.0.2", "192.168.77.1"),
        icmp("203.0.113.1", 8, 64, b""),
        icmp("203.0.113.1", 0, 64, b"a reply to far away"),
        icmp("192.168.77.1", 5, 64, b"a redirect"),
        icmp("ff02::1", 134, 255, b"a router advertisement"),
        icmp("ff02::1:ff00:1", 135, 255, &solicit("2001:db8:f00::1")),
        icmp("ff02::1:ff00:1", 135, 64, &solicit("fe80::1")),
        icmp("ff02::2", 133, 255, b"narrowgate-probe:some;"),
        packet(NODE4, "203.0.113.1", 253, Transport::Other, b""),
        packet(NODE4, "203.0.113.1", 17, Transport::Fragment, b""),
        Frame { to: [1; 6], from: [4; 6], content: Content::Other(0x88cc) },
    ];
    for frame in table {
        assert!(sort(&frame, &context()).is_leak(), "{frame}");
    }
}

#[test]
fn frames_built_by_hand_are_read_back_with_their_tags() {
    let (here, there) = (NODE4.parse().expect("v4"), "203.0.113.80".parse().expect("v4"));
    let frame = decode(&build::udp_frame(here, there, 9, &build::payload("packet-udp4"))).expect("a frame");
    assert_eq!(tag(&frame).as_deref(), Some("packet-udp4"));
    let frame = decode(&build::udp_frame(
        here,
        "192.168.77.1".parse().expect("v4"),
        53,
        &build::query("packet-dns4"),
    ));
    let kind = frame.map(|frame| sort(&frame, &context()));
    assert!(matches!(kind, Some(Kind::Leak(text)) if text.contains("[probe packet-dns4]")));
    let frame = decode(&build::arp_frame(Ipv4Addr::UNSPECIFIED)).expect("a frame");
    assert_eq!(tag(&frame).as_deref(), Some("arp-foreign"));
    let marker = decode(&build::marker(77)).expect("a frame");
    assert_eq!(sort(&marker, &context()), Kind::Housekeeping("neighbour discovery"));
}

proptest! {
    /// Whatever goes to an address that is neither the gateway's nor on the link is a leak, ICMP errors excepted.
    #[test]
    fn foreign_destinations_are_leaks(to: u32, ports: (u16, u16), payload: Vec<u8>, protocol in 2u8..255) {
        let to = Ipv4Addr::from(to);
        let known = to.is_multicast() || to.is_broadcast() || to == crate::layout::GATE4;
        prop_assume!(!known && !Household::FIRST.on_link(to.into()));
        let transport = match protocol {
            17 => Transport::Udp { source: ports.0, destination: ports.1 },
            6 => Transport::Tcp { source: ports.0, destination: ports.1, flags: SYN },
            _ => Transport::Other,
        };
        let frame = packet(NODE4, &to.to_string(), protocol, transport, &payload);
        prop_assert!(sort(&frame, &context()).is_leak());
    }
}

const NODE4: &str = "192.168.77.50";
const NODE6: &str = "2001:db8:77:1::50";
