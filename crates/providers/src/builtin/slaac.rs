//! Interface identifiers that are stable in one network and tell nothing in another (RFC 7217).

use core::hash::Hasher;
use core::net::{IpAddr, Ipv6Addr};
use narrowgate_model::Prefix;
use siphasher::sip::SipHasher24;

/// Key of the pseudo-random function; must be kept as long as addresses shall stay the same.
pub type Secret = [u8; 16];

/// How often another address is tried when one is taken (`IDGEN_RETRIES`, RFC 7217, 7).
pub const RETRIES: u8 = 3;

/// The address in `prefix`, a /64: F(Prefix, Net_Iface, Network_ID, DAD_Counter, secret_key) with SipHash-2-4 as F, the
/// device's name as interface, and no network id. An identifier that is reserved (RFC 5453) is passed over.
pub fn address(prefix: Prefix, device: &str, mut dad_counter: u8, secret: &Secret) -> Option<Ipv6Addr> {
    let IpAddr::V6(network) = prefix.network().addr else { return None };
    if prefix.len != 64 {
        return None;
    }
    let network = u128::from(network);
    loop {
        let mut hash = SipHasher24::new_with_key(secret);
        hash.write(&network.to_be_bytes());
        hash.write(device.as_bytes());
        hash.write(&[0, dad_counter]); // no device name has a zero byte
        let id = hash.finish();
        if !reserved(id) {
            return Some(Ipv6Addr::from(network | u128::from(id)));
        }
        dad_counter = dad_counter.checked_add(1)?;
    }
}

/// Subnet-router anycast, the block of IANA's Ethernet addresses, subnet anycast (RFC 5453).
fn reserved(id: u64) -> bool {
    id == 0
        || (0x0200_5eff_fe00_0000..=0x0200_5eff_feff_ffff).contains(&id)
        || (0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff).contains(&id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_depends_on_prefix_device_counter_and_secret_and_on_nothing_else() {
        let prefix: Prefix = "2001:db8:1::/64".parse().unwrap();
        let a = address(prefix, "eth0", 0, &[1; 16]).unwrap();
        assert!(prefix.contains(a.into()));
        assert_eq!(address("2001:db8:1::77/64".parse().unwrap(), "eth0", 0, &[1; 16]), Some(a));
        let others = [
            address("2001:db8:2::/64".parse().unwrap(), "eth0", 0, &[1; 16]),
            address(prefix, "eth1", 0, &[1; 16]),
            address(prefix, "eth0", 1, &[1; 16]),
            address(prefix, "eth0", 0, &[2; 16]),
        ];
        let id = |a: Ipv6Addr| u128::from(a) as u64;
        for other in others {
            assert_ne!(id(other.unwrap()), id(a));
        }
    }

    #[test]
    fn only_a_64_bit_ipv6_prefix_has_room_for_an_identifier() {
        assert_eq!(address("2001:db8::/63".parse().unwrap(), "eth0", 0, &[1; 16]), None);
        assert_eq!(address("192.0.2.0/24".parse().unwrap(), "eth0", 0, &[1; 16]), None);
    }

    #[test]
    fn reserved_identifiers_are_known() {
        assert!(reserved(0) && reserved(0xfdff_ffff_ffff_ffff) && reserved(0x0200_5eff_fe00_5213));
        assert!(!reserved(1) && !reserved(0xfdff_ffff_ffff_ff7f));
    }
}
