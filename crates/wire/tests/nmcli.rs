//! What nmcli 1.42 printed about a real device, and garbage.

use narrowgate_wire::nmcli::{Device, complaint, device};
use proptest::prelude::*;

const CONNECTED: &str = "GENERAL.STATE:100 (connected)
GENERAL.CONNECTION:wan
IP6.DNS[1]:fe80::f8c9:ecff:fe06:831
IP6.DNS[2]:2001:db8:1::53
DHCP4.OPTION[1]:broadcast_address = 192.0.2.255
DHCP4.OPTION[2]:dhcp_client_identifier = 01:ea:7b:27:f9:67:90
DHCP4.OPTION[5]:domain_name_servers = 192.0.2.53 192.0.2.54
DHCP4.OPTION[8]:domain_name = home.example
DHCP4.OPTION[12]:requested_domain_name_servers = 1
DHCP4.OPTION[27]:routers = 192.0.2.1
DHCP6.OPTION[1]:dhcp6_name_servers = 2001:db8:1::53 2001:db8:1::54
";

fn dns(device: &Device) -> Vec<String> {
    device.dns.iter().map(ToString::to_string).collect()
}

#[test]
fn servers_in_use_come_first_and_those_of_leases_behind_them_each_once() {
    let told = device(CONNECTED.as_bytes()).unwrap();
    assert_eq!((told.state, told.external, told.connection.as_str()), (100, false, "wan"));
    let expected =
        ["fe80::f8c9:ecff:fe06:831", "2001:db8:1::53", "192.0.2.53", "192.0.2.54", "2001:db8:1::54"];
    assert_eq!(dns(&told), expected);
    assert_eq!(told.search, ["home.example"]);
    assert!(told.managed());
}

#[test]
fn a_device_that_it_only_looks_at_is_not_its_own() {
    for text in [
        "GENERAL.STATE:100 (connected (externally))\nGENERAL.CONNECTION:lo\n",
        "GENERAL.STATE:10 (unmanaged)\nGENERAL.CONNECTION:\n",
        "GENERAL.STATE:30 (disconnected)\nGENERAL.CONNECTION:--\n",
        "GENERAL.STATE:20 (unavailable)\n",
    ] {
        let told = device(text.as_bytes()).unwrap();
        assert!(!told.managed(), "{text}");
    }
    assert!(
        device(b"GENERAL.STATE:50 (connecting)\nGENERAL.CONNECTION:wan: the second\n").unwrap().managed()
    );
}

#[test]
fn an_error_is_told_in_its_own_words() {
    let text = b"Error: NetworkManager is not running.\n";
    assert_eq!(device(text), None);
    assert_eq!(complaint(text).as_deref(), Some("NetworkManager is not running"));
    assert_eq!(complaint(b""), None);
    assert_eq!(device(b"GENERAL.STATE:soon\n"), None);
}

#[test]
fn addresses_that_nobody_can_ask_are_left_out() {
    let text = "GENERAL.STATE:100 (connected)\nIP4.DNS[1]:0.0.0.0\nIP4.DNS[2]:224.0.0.1\nIP4.DNS[3]:router\nIP6.DNS[1]:::\n";
    assert_eq!(device(text.as_bytes()).unwrap().dns, []);
}

proptest! {
    #[test]
    fn anything_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0..CONNECTED.len()) {
        let _ = device(&bytes);
        prop_assert!(complaint(&bytes).is_none_or(|text| text.chars().count() <= 200));
        let known = device(&CONNECTED.as_bytes()[..cut]);
        prop_assert!(known.is_none_or(|known| known.dns.len() <= 5));
    }
}
