//! Any bytes as a message between parent and child: what is taken is said again in the same words.
#![no_main]
use libfuzzer_sys::fuzz_target;
use narrowgate_forwarder::control::{ToChild, ToParent};

fuzz_target!(|bytes: &[u8]| {
    if let Some(message) = ToChild::decode(bytes) {
        assert_eq!(ToChild::decode(&message.encode()), Some(message));
    }
    if let Some(message) = ToParent::decode(bytes) {
        assert_eq!(ToParent::decode(&message.encode()), Some(message));
    }
});
