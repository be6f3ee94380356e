//! `resolv.conf`: what servers stand in it, whatever else does.

use narrowgate_model::Server;
use narrowgate_wire::resolv::{parse, write};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv6Addr};

#[test]
fn servers_are_found_among_everything_else() {
    let text = b"# Interface wan\nnameserver 192.0.2.53\n; another\nsearch lan\ndomain lan\n\tnameserver\tfe80::1%br-wan  # the router\r\n\
                 options edns0 trust-ad\nsortlist 192.0.2.0\n\nnameserver 192.0.2.53\nnameserver 2001:db8::53#5353\nnameserver dns.example\nnameserver\n\
                 nameserver6 ::1\nfoo\nnameserver fe80::1%\n\xff\xfe\n";
    let found = parse(text);
    let servers: Vec<String> = found.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53", "fe80::1%br-wan", "[2001:db8::53]:5353"]);
    assert_eq!(found.garbage, 6);
    assert_eq!(
        write(&found.servers),
        "nameserver 192.0.2.53\nnameserver fe80::1%br-wan\nnameserver 2001:db8::53#5353\n"
    );
}

#[test]
fn only_link_local_servers_are_written_with_their_device_and_the_others_once() {
    let servers: Vec<Server> = ["192.168.1.1%eth0", "fe80::1%eth0", "192.168.1.1%usb0", "fe80::1%usb0"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let text = "nameserver 192.168.1.1\nnameserver fe80::1%eth0\nnameserver fe80::1%usb0\n";
    assert_eq!(write(&servers), text);
}

#[test]
fn an_empty_file_has_no_server() {
    assert_eq!(parse(b""), Default::default());
    assert_eq!(write(&[]), "");
}

fn server() -> impl Strategy<Value = Server> {
    (any::<IpAddr>(), proptest::option::of("[a-z0-9._-]{1,15}"), 1u16..).prop_map(|(addr, scope, port)| {
        let scope = scope.filter(|s| addr.is_ipv6() && s != "." && s != "..");
        let addr = match addr {
            // Only a link-local address is written with its device.
            IpAddr::V6(a) if scope.is_some() => Ipv6Addr::from(u128::from(a) >> 16 | 0xfe80 << 112).into(),
            addr => addr,
        };
        Server { addr, scope, port }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(servers in proptest::collection::vec(server(), 0..6)) {
        let mut once: Vec<Server> = Vec::new();
        for server in servers {
            if !once.contains(&server) {
                once.push(server);
            }
        }
        let found = parse(write(&once).as_bytes());
        prop_assert_eq!((found.servers, found.garbage), (once, 0));
    }

    #[test]
    fn any_bytes_are_read(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let found = parse(&text);
        prop_assert!(found.servers.len() + found.garbage <= text.split(|b| *b == b'\n').count());
    }
}
