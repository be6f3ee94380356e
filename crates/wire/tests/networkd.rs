//! systemd-networkd's state files, as version 252 wrote them (recorded from a real one with `UseDNS=no`), and garbage.

use narrowgate_wire::networkd::{Lease, LinkState, lease, link_state};
use proptest::prelude::*;

fn shown(servers: &[narrowgate_model::Server]) -> Vec<String> {
    servers.iter().map(ToString::to_string).collect()
}

#[test]
fn a_managed_link_is_told_from_one_that_is_not() {
    let state = link_state(CONFIGURED.as_bytes());
    assert!(state.managed());
    assert_eq!((state.admin.as_str(), state.oper.as_str()), ("configured", "routable"));
    assert_eq!(state.network_file.as_deref(), Some("/run/systemd/network/10-wan.network"));
    assert_eq!(state.dns, []);
    assert!(
        !link_state(b"# This is private data. Do not parse.\nADMIN_STATE=unmanaged\nOPER_STATE=carrier\n")
            .managed()
    );
    assert!(!link_state(b"ADMIN_STATE=pending\n").managed());
    assert!(link_state(b"ADMIN_STATE=configuring\n").managed());
}

#[test]
fn a_leases_servers_are_there_though_nobody_uses_them() {
    assert_eq!(shown(&lease(LEASE.as_bytes()).dns), ["192.0.2.53", "198.51.100.53"]);
}

#[test]
fn servers_are_read_with_port_device_and_name_behind() {
    let state = link_state(b"DNS=192.0.2.53 192.0.2.54:5353#dns.example fe80::1 fe80::2%wan0 [2001:db8::53]:54%wan0#a.example x 0.0.0.0 192.0.2.53\n");
    assert_eq!(
        shown(&state.dns),
        ["192.0.2.53", "192.0.2.54:5353", "fe80::1", "fe80::2", "[2001:db8::53]:54"]
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), name in "(DNS|DOMAINS|ADMIN_STATE|NETWORK_FILE)") {
        let text = [name.as_bytes(), b"=", &bytes].concat();
        prop_assert!(link_state(&text).dns.len() <= bytes.len());
        prop_assert!(lease(&text).dns.len() <= bytes.len());
    }

    #[test]
    fn unknown_lines_change_nothing(line in "[A-Z_]{12,20}=[a-z ]{0,20}") {
        prop_assert_eq!(link_state(line.as_bytes()), LinkState::default());
        prop_assert_eq!(lease(line.as_bytes()), Lease::default());
    }
}

const CONFIGURED: &str = "# This is private data. Do not parse.
ADMIN_STATE=configured
OPER_STATE=routable
CARRIER_STATE=carrier
ADDRESS_STATE=routable
IPV4_ADDRESS_STATE=routable
IPV6_ADDRESS_STATE=routable
ONLINE_STATE=online
REQUIRED_FOR_ONLINE=yes
REQUIRED_OPER_STATE_FOR_ONLINE=degraded
REQUIRED_FAMILY_FOR_ONLINE=any
ACTIVATION_POLICY=up
NETWORK_FILE=/run/systemd/network/10-wan.network
DNS=
NTP=
SIP=
DOMAINS=
ROUTE_DOMAINS=
LLMNR=yes
MDNS=no
DHCP_LEASE=/run/systemd/netif/leases/2
";

const LEASE: &str = "# This is private data. Do not parse.
ADDRESS=192.0.2.59
NETMASK=255.255.255.0
ROUTER=192.0.2.1
SERVER_ADDRESS=192.0.2.1
T1=150
T2=262
LIFETIME=300
DNS=192.0.2.53 198.51.100.53
CLIENTID=01f28e60f9ca76
";
