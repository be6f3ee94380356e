//! What other network managers tell: messages of ubus, netifd's answers in them, networkd's state files, what
//! nmcli prints, files that hooks hand over.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narrowgate_wire::{handed, networkd, nmcli, ubus};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((message, length))) = ubus::next(rest) {
        assert!(length > 0 && length <= rest.len());
        let _ = (message.status(), message.object(), message.path(), message.method());
        if let Some(data) = message.data() {
            let _ = ubus::network::dump(data);
            let _ = ubus::network::status(data);
        }
        rest = &rest[length..];
    }
    let _ = ubus::network::dump(bytes);
    let _ = networkd::link_state(bytes).managed();
    let _ = networkd::lease(bytes);
    let _ = nmcli::device(bytes).map(|device| device.managed());
    let _ = nmcli::complaint(bytes);
    let handed = handed::parse(bytes);
    assert!(handed.routes.iter().all(|(dst, via)| via.is_some() || !dst.is_default()));
});
