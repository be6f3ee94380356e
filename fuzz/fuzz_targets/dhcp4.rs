//! DHCPv4: any bytes as a whole packet, as a message, and as the options of an answer that is waited for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narrowgate_model::Time;
use narrowgate_providers::builtin::dhcp4::{Dhcp4, Held, Send};
use narrowgate_wire::dhcp4::{packet, parse};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fuzz_target!(|bytes: &[u8]| {
    let _ = packet::open(bytes, true);
    let _ = packet::open(bytes, false);
    let _ = parse(bytes, 1, MAC);
    let mut dhcp = Dhcp4::new(MAC, None, Time(0), Box::new(|| 7));
    let mut now = Time(0);
    dhcp.on_carrier(true, now);
    let mut asked = None;
    let mut rest = bytes;
    while let Some((&len, after)) = rest.split_first() {
        let (options, after) = after.split_at(after.len().min(len.into()));
        rest = after;
        for send in dhcp.take_out() {
            let (Send::Broadcast(_, message) | Send::Unicast(.., message)) = send;
            asked = Some(message);
        }
        if let Some(mut message) = asked.clone() {
            message.truncate(240);
            message[0] = 2;
            message[16..20].copy_from_slice(&[192, 0, 2, len]);
            message.extend(options);
            dhcp.receive(&message, now);
        }
        if len % 4 == 0
            && let Some(next) = dhcp.next_timeout()
        {
            now = now.max(next);
            dhcp.on_timer(now);
            assert!(dhcp.next_timeout().is_none_or(|t| t > now));
        }
        assert!(dhcp.held().and_then(Held::end).is_none_or(|end| end > now));
    }
});
