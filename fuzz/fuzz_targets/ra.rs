//! Router Advertisements: any bytes as a whole packet, as a message, and what they do to the machine behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narrowgate_model::{Facts, Time};
use narrowgate_providers::builtin::ra::Ra;
use narrowgate_wire::ra::{packet, parse};
use std::net::Ipv6Addr;

fuzz_target!(|bytes: &[u8]| {
    let _ = packet::open(bytes, true);
    if let Ok((_, message)) = packet::open(bytes, false) {
        let _ = parse(message);
    }
    // Several advertisements, each behind its length, from changing routers, some time apart.
    let mut ra = Ra::new("fuzz0", [1; 16], Box::new(|| 7));
    let mut now = Time(1);
    ra.on_carrier(true, now);
    let mut rest = bytes;
    while let Some((&len, after)) = rest.split_first() {
        let (message, after) = after.split_at(after.len().min(len.into()));
        rest = after;
        if let Ok(advert) = parse(message) {
            ra.receive(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(len % 16)), &advert, now);
        }
        if let Some(next) = ra.next_timeout() {
            now = now.max(next);
            ra.on_timer(now);
            assert!(ra.next_timeout().is_none_or(|t| t > now));
        }
        let mut facts = Facts::default();
        ra.facts(&mut facts);
        assert!(facts.addresses.iter().all(|a| a.valid_until.is_none_or(|t| t > now)));
        assert!(facts.dns.len() <= 64 && facts.addresses.len() <= 16);
    }
});
