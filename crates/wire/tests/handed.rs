//! Files that hooks hand over: every word, and garbage.

use narrowgate_wire::handed::{Handed, parse};
use proptest::prelude::*;

fn routes(handed: &Handed) -> Vec<String> {
    handed
        .routes
        .iter()
        .map(|(dst, via)| format!("{dst} {}", via.map_or("-".into(), |v| v.to_string())))
        .collect()
}

#[test]
fn a_resolv_conf_with_a_few_words_more_is_understood() {
    let handed = parse(
        b"# by hand\nmanager dhcpcd\nnameserver 192.0.2.53 # the router\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\n\
        search home.example lan\ndomain other.example\noptions edns0\n\ngateway 192.0.2.1\ngateway fe80::1\n\
        route 198.51.100.7/24 192.0.2.7\nroute 2001:db8:1::/64\nportal https://portal.example/api\n",
    );
    assert_eq!(handed.manager.as_deref(), Some("dhcpcd"));
    let dns: Vec<String> = handed.dns.iter().map(ToString::to_string).collect();
    assert_eq!(dns, ["192.0.2.53", "fe80::1%eth0"]);
    assert_eq!(handed.search, ["home.example", "lan", "other.example"]);
    assert_eq!(
        routes(&handed),
        ["0.0.0.0/0 192.0.2.1", "::/0 fe80::1", "198.51.100.0/24 192.0.2.7", "2001:db8:1::/64 -"]
    );
    assert_eq!(handed.portal.as_deref(), Some("https://portal.example/api"));
    assert_eq!(handed.garbage, 0);
}

#[test]
fn a_line_without_sense_is_counted_and_takes_nothing_else_away() {
    let lines = [
        "nameserver",
        "nameserver router.lan",
        "nameserver 0.0.0.0",
        "gateway",
        "gateway 192.0.2.1/24",
        "route 0.0.0.0/0",
        "route 192.0.2.0/24 fe80::1",
        "route 192.0.2.0/33",
        "manager",
        "colour green",
    ];
    for line in lines {
        let handed = parse(format!("{line}\nnameserver 192.0.2.53\n").as_bytes());
        assert_eq!((handed.garbage, handed.dns.len(), handed.routes.len()), (1, 1, 0), "{line}");
    }
}

proptest! {
    #[test]
    fn anything_is_read_and_little_is_believed(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        lines in proptest::collection::vec("(nameserver|gateway|route|search|manager|portal) [0-9a-f.:/%]{0,12}( [0-9a-f.:]{0,9})?", 0..60),
    ) {
        for text in [bytes, lines.join("\n").into_bytes()] {
            let handed = parse(&text);
            prop_assert!(handed.dns.len() <= 32 && handed.routes.len() <= 32 && handed.search.len() <= 32);
            for (dst, via) in handed.routes {
                prop_assert_eq!(dst, dst.network());
                prop_assert!(via.is_some() || !dst.is_default());
            }
        }
    }
}
