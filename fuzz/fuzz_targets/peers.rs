//! Any bytes as the file of the peers' addresses: what is taken is small, and is written again in the same bytes.
#![no_main]
use libfuzzer_sys::fuzz_target;
use narrowgate_model::peers::{MOST_ADDRESSES, MOST_NAMES, is_host};
use narrowgate_wire::peers::{format, parse};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(peers) = parse(bytes) {
        assert_eq!(format(&peers).as_bytes(), bytes);
        assert!(peers.len() <= MOST_NAMES);
        assert!(peers.iter().all(|(_, a)| a.len() <= 2 * MOST_ADDRESSES && a.iter().all(is_host)));
    }
    // The sum keeps chance out; behind it stands a parser of its own.
    let as_text = String::from_utf8_lossy(bytes);
    let peers = as_text.lines().map(|line| {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_owned(), rest.split(' ').filter_map(|word| word.parse().ok()).collect())
    });
    let peers: Vec<_> = peers.collect();
    let text = format(&peers);
    if let Ok(read) = parse(text.as_bytes()) {
        assert_eq!(format(&read), text);
    }
});
