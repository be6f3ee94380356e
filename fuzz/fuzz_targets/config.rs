//! The config and resolv.conf: any bytes that are text. What is read is written and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narrowgate_wire::{config, resolv, uci};

fuzz_target!(|bytes: &[u8]| {
    let servers = resolv::parse(bytes).servers;
    assert_eq!(resolv::parse(resolv::write(&servers).as_bytes()).servers, servers);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, mistakes) = uci::parse(text, uci::Names::OfEachType);
    if mistakes.is_empty() {
        let (again, mistakes) = uci::parse(&uci::write(&file), uci::Names::OfEachType);
        assert!(mistakes.is_empty());
        assert_eq!(again.sections.len(), file.sections.len());
    }
    let (ours, gluon) = text.split_once('\0').unwrap_or((text, ""));
    let _ = config::read("fuzz", ours, Some(("gluon", gluon)));
    let _ = config::notes("fuzz", ours);
});
