//! DHCPv6: any bytes as a message, and as the options of answers to what the machine asks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narrowgate_model::{Facts, Time};
use narrowgate_providers::builtin::dhcp6::{Dhcp6, Held, Wanted};
use narrowgate_wire::dhcp6::parse;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fuzz_target!(|bytes: &[u8]| {
    for xid in [1, 0x0007_0707] {
        let _ = parse(bytes, xid, Some(MAC));
    }
    let mut now = Time(0);
    // As it may lie in the state directory.
    let _ = Held::of_kept(bytes.to_vec(), now, MAC, now).map(|held| held.essence());
    let mut dhcp = Dhcp6::new(MAC, Vec::new(), now, Box::new(|| 7));
    dhcp.on_link(true, Wanted::Addresses, now);
    let mut asked: Option<Vec<u8>> = None;
    let mut rest = bytes;
    while let Some((&[kind, len], after)) = rest.split_first_chunk() {
        let (options, after) = after.split_at(after.len().min(len.into()));
        rest = after;
        if kind % 8 == 7 {
            let wanted = [Wanted::Nothing, Wanted::Information, Wanted::Addresses][usize::from(len % 3)];
            dhcp.on_link(len % 5 != 0, wanted, now);
        }
        if let Some(message) = dhcp.take_out().pop() {
            asked = Some(message);
        }
        // The transaction's number, our own identifier, and what the fuzzer adds to them.
        if let Some(id) = asked.as_ref().and_then(|m| m.get(1..4)) {
            let mut answer = vec![if kind & 8 == 0 { 7 } else { 2 }];
            answer.extend(id);
            answer.extend(identifiers(asked.as_deref().unwrap_or_default()));
            answer.extend(options);
            dhcp.receive(&answer, now);
        }
        if len % 4 == 0
            && let Some(next) = dhcp.next_timeout()
        {
            now = now.max(next);
            dhcp.on_timer(now);
            assert!(dhcp.next_timeout().is_none_or(|t| t > now));
        }
        let mut facts = Facts::default();
        dhcp.facts("fuzz0", &mut facts);
        assert!(facts.dns.len() <= 64 && facts.addresses.len() <= 64);
    }
});

/// The client's identifier as it is in the question, and one of a server (RFC 8415, 21.2 and 21.3).
fn identifiers(question: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 2, 0, 4, 0, 3, 0, 1];
    let mut rest = question.get(4..).unwrap_or_default();
    while let Some((&[a, b, c, d], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([c, d]));
        let Some(value) = after.get(..length) else { return out };
        if [a, b] == [0, 1] {
            out.extend([a, b, c, d]);
            out.extend(value);
        }
        rest = &after[length..];
    }
    out
}
