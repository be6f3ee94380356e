//! Any bytes as a query, as an answer to it, and as something to keep: nothing panics, and what is said of them is true.
#![no_main]
use libfuzzer_sys::fuzz_target;
use narrowgate_forwarder::message::{Query, Reason, age, check_answer, error_reply, lifetime, question_name, truncated};

fuzz_target!(|bytes: &[u8]| {
    let (query, answer) = bytes.split_at(bytes.len().min(usize::from(*bytes.first().unwrap_or(&0))));
    for message in [query, answer, bytes] {
        let mut copy = message.to_vec();
        age(&mut copy, 60);
        assert_eq!(copy.len(), message.len());
        if let Some(kept) = lifetime(message) {
            assert!(kept.seconds > 0);
        }
        let _ = error_reply(message, 2, Some((Reason::NetworkError, "no carrier")));
        if let Ok(parsed) = Query::parse(message) {
            assert!(parsed.question_end <= message.len() && question_name(message, &parsed).len() <= 255);
            let short = truncated(message, &parsed).expect("a query can be answered");
            assert_eq!(check_answer(&short, message, &parsed), Ok(0));
            let _ = check_answer(answer, message, &parsed);
        }
    }
});
