//! ubus: recorded answers of a real netifd, an independent client (the crate `ubus`) as the judge of the bytes, and garbage.

mod ubus_json;

use miniserde::json::Value;
use narrowgate_wire::ubus::network::{self, Interface, Route};
use narrowgate_wire::ubus::{self, Broken, Kind, blob};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::IpAddr;
use ubus_json::fixture;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

// What netifd says

#[test]
fn servers_that_peerdns_0_made_inactive_are_found() {
    let wan = network::status(&fixture("wan.up.json"));
    assert_eq!(wan.dns, [ip("192.168.77.1")]);
    assert_eq!(wan.device.as_deref(), Some("wan"));
    assert_eq!((wan.proto.as_str(), wan.up), ("dhcp", true));
    assert_eq!(wan.addresses, ["192.168.77.127/24".parse().unwrap()]);
    let default = Route {
        dst: "0.0.0.0/0".parse().unwrap(),
        via: Some(ip("192.168.77.1")),
        metric: None,
        valid: None,
        active: true,
    };
    assert_eq!(wan.routes, [default]);
    assert_eq!((wan.ip4table, wan.ip6table), (None, None));
}

#[test]
fn ipv6_routes_come_with_their_router_lifetime_and_table() {
    let wan6 = network::status(&fixture("wan6.up.json"));
    assert_eq!(wan6.ip6table, Some(1));
    assert_eq!(wan6.dns, [ip("fe80::1"), ip("fe80::8c01:12ff:fed1:d752")]);
    let shown: Vec<_> = wan6.routes.iter().map(|r| (r.dst.to_string(), r.via, r.metric, r.valid)).collect();
    let on_link = ("2001:db8:77::/64".to_owned(), None, Some(256), Some(111));
    let default = ("::/0".to_owned(), Some(ip("fe80::8c01:12ff:fed1:d752")), Some(512), Some(111));
    assert_eq!(shown, [on_link, default]);
}

#[test]
fn the_order_of_the_servers_is_netifds() {
    let back = network::status(&fixture("wan6.back.json"));
    assert_eq!(back.dns, [ip("fe80::8c01:12ff:fed1:d752"), ip("fe80::1")]);
}

#[test]
fn an_interface_that_is_down_has_a_device_and_nothing_else() {
    for name in ["wan.down.json", "wan.carrier-lost.json", "wan6.carrier-lost.json"] {
        let status = network::status(&fixture(name));
        let bare =
            Interface { proto: status.proto.clone(), device: Some("wan".to_owned()), ..Interface::default() };
        assert_eq!(status, bare, "{name}");
    }
}

#[test]
fn a_dump_has_every_interface_and_what_is_unreachable_is_no_route() {
    let all = network::dump(&fixture("dump.up.json"));
    let names: Vec<&str> = all.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["loopback", "wan", "wan6"]);
    assert_eq!(all[0].routes, []);
    let named = Interface { name: "wan6".to_owned(), ..network::status(&fixture("wan6.up.json")) };
    assert_eq!(all[2], named);
}

#[test]
fn inactive_comes_before_active_and_nonsense_is_passed_over() {
    let text = r#"{ "up": 1, "device": "eth0", "dns-server": ["192.0.2.2", null, 7, "not an address"],
        "inactive": { "dns-server": ["192.0.2.1"], "route": [ { "target": "0.0.0.0", "mask": 0, "nexthop": "192.0.2.9" },
        { "target": "198.51.100.0", "mask": 99 }, { "target": "x", "mask": 0 }, {}, 3, [] ] },
        "route": "none", "ipv4-address": [ { "address": "192.0.2.7", "mask": 33 } ], "unknown": { "a": [ {} ] } }"#;
    let Ok(Value::Object(object)) = miniserde::json::from_str::<Value>(text) else { panic!() };
    let status = network::status(&ubus_json::fields(&object));
    assert!(status.up);
    assert_eq!(status.dns, [ip("192.0.2.1"), ip("192.0.2.2")]);
    assert_eq!(status.routes.len(), 1);
    assert_eq!((status.routes[0].via, status.routes[0].active), (Some(ip("192.0.2.9")), false));
    assert_eq!(status.addresses, []);
}

// The bytes, judged by an independent client

/// Both directions of a connection in memory.
#[derive(Default)]
struct Memory {
    sent: Vec<u8>,
    answers: VecDeque<u8>,
}

impl ::ubus::IO for &mut Memory {
    type Error = std::io::Error;
    fn put(&mut self, data: &[u8]) -> Result<(), ::ubus::UbusError> {
        self.sent.extend_from_slice(data);
        Ok(())
    }
    fn get(&mut self, data: &mut [u8]) -> Result<(), ::ubus::UbusError> {
        for byte in data {
            *byte = self.answers.pop_front().ok_or(::ubus::UbusError::InvalidData("end"))?;
        }
        Ok(())
    }
}

#[test]
fn an_independent_client_sends_the_same_requests_and_reads_the_same_answers() {
    let mut answers = Vec::new();
    ubus::put(&mut answers, Kind::Hello, 0, |_| {});
    ubus::put_data(&mut answers, 1, 77, |out| out.extend(fixture("dump.up.json")));
    ubus::put_status(&mut answers, 1, 0);
    let mut memory = Memory { answers: answers.into(), ..Memory::default() };
    let mut text = String::new();
    let mut client = Box::new(::ubus::Connection::new(&mut memory).expect("hello"));
    let got = client.invoke(77, "dump", &[], |fields| {
        for field in fields {
            let field: ::ubus::BlobMsg<'_> = field.try_into().expect("a field");
            text += &field.to_string();
        }
    });
    got.expect("an answer");
    let read: Value = miniserde::json::from_str(&format!("{{{text}}}")).expect("JSON");
    let wanted = miniserde::json::to_string(&ubus_json::read("dump.up.json"));
    // On the wire a truth is a number of 8 bits, and that client shows it as such.
    let wanted = wanted.replace(":true", ":1").replace(":false", ":0");
    assert_eq!(miniserde::json::to_string(&read), wanted);

    let mut ours = Vec::new();
    ubus::put_call(&mut ours, 1, 77, "dump", |_| {});
    assert_eq!(without_peer(memory.sent), without_peer(ours));
}

#[test]
fn an_independent_client_looks_up_as_we_do() {
    let mut answers = Vec::new();
    ubus::put(&mut answers, Kind::Hello, 0, |_| {});
    ubus::put_status(&mut answers, 1, ubus::NOT_FOUND);
    let mut memory = Memory { answers: answers.into(), ..Memory::default() };
    let mut client = Box::new(::ubus::Connection::new(&mut memory).expect("hello"));
    let got = client.lookup("network.interface", |_| panic!("nothing is there"));
    assert!(matches!(got, Err(::ubus::UbusError::Status(4))), "{got:?}");
    let mut ours = Vec::new();
    ubus::put_lookup(&mut ours, 1, "network.interface");
    assert_eq!(memory.sent, ours);
}

/// The peer is the called object's number in some clients and is overwritten by the bus.
fn without_peer(mut message: Vec<u8>) -> Vec<u8> {
    message[4..8].fill(0);
    message
}

#[test]
fn a_call_is_these_bytes() {
    let mut out = Vec::new();
    ubus::put_listen(&mut out, 0x102, 0x8000_0003, "net*");
    let wanted = [
        &[0, 5, 1, 2, 0, 0, 0, 0][..], // version, invoke, sequence, peer
        &[0, 0, 0, 76],                // the blob
        &[3, 0, 0, 8, 0, 0, 0, 1],     // object 1: events
        &[4, 0, 0, 13],
        b"register\0\0\0\0", // method
        &[7, 0, 0, 48],      // arguments
        &[0x85, 0, 0, 20, 0, 6],
        b"object\0\0\0\0",
        &[0x80, 0, 0, 3],
        &[0x83, 0, 0, 21, 0, 7],
        b"pattern\0\0\0",
        b"net*\0\0\0\0",
    ];
    assert_eq!(out, wanted.concat());
}

// Streams and garbage

#[test]
fn messages_are_found_however_the_stream_is_cut() {
    let mut stream = Vec::new();
    ubus::put(&mut stream, Kind::Hello, 0, |_| {});
    ubus::put_data(&mut stream, 7, 3, |out| blob::put_field_string(out, "a", "b"));
    ubus::put_status(&mut stream, 7, 4);
    let (mut start, mut seen) = (0, Vec::new());
    for end in 0..=stream.len() {
        while let Some((message, len)) = ubus::next(&stream[start..end]).unwrap() {
            seen.push((message.kind, message.sequence, message.object(), message.status()));
            start += len;
        }
    }
    let wanted =
        [(Kind::Hello, 0, None, None), (Kind::Data, 7, Some(3), None), (Kind::Status, 7, None, Some(4))];
    assert_eq!((start, seen.as_slice()), (stream.len(), &wanted[..]));
}

#[test]
fn what_is_no_message_is_said_to_be_broken() {
    for head in [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0],
    ] {
        assert_eq!(ubus::next(&head), Err(Broken), "{head:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(Some((message, len))) = ubus::next(&bytes) {
            prop_assert!(len <= bytes.len());
            let _ = (message.status(), message.object(), message.path(), message.method(), message.data());
        }
        network::dump(&bytes);
        network::status(&bytes);
    }

    #[test]
    fn a_damaged_answer_is_read_without_harm(at in 0usize..4096, value: u8, cut in 0usize..4096) {
        let mut bytes = fixture("dump.up.json");
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(bytes.len() - cut % bytes.len());
        prop_assert!(network::dump(&bytes).len() <= 4096);
    }

    #[test]
    fn what_is_written_is_read(name in "[a-z-]{0,20}", text in "[^\\x00]{0,40}", number in 0u32..=i32::MAX as u32, truth: bool) {
        let mut out = Vec::new();
        blob::put_field_string(&mut out, &name, &text);
        blob::put_field_table(&mut out, "table", |out| {
            blob::put_field_u32(out, "number", number);
            blob::put_field_bool(out, "truth", truth);
        });
        let first = blob::fields(&out).next().unwrap();
        prop_assert_eq!((first.name, first.text()), (name.as_str(), Some(text.as_str())));
        let table = blob::fields(&out).last().unwrap().inner();
        prop_assert_eq!(blob::field(table, "number").unwrap().number(), Some(number.into()));
        prop_assert_eq!(blob::field(table, "truth").unwrap().truth(), truth);
    }
}
