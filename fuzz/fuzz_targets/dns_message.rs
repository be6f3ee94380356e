//! Any bytes as a query, as an answer to it, and as something to keep: nothing panics, and what is said of them is true.
#![no_main]
use libfuzzer_sys::fuzz_target;
use narrowgate_forwarder::message::{AnswerCookie, Query, Reason, add_cookie, age, check_answer, error_reply, lifetime, question_name, truncated};

fuzz_target!(|bytes: &[u8]| {
    let (query, answer) = bytes.split_at(bytes.len().min(usize::from(*bytes.first().unwrap_or(&0))));
    for message in [query, answer, bytes] {
        let mut copy = message.to_vec();
        age(&mut copy, 60);
        assert_eq!(copy.len(), message.len());
        if let Some(kept) = lifetime(message) {
            assert!(kept.seconds > 0);
        }
        if let Some(found) = AnswerCookie::find(message) {
            let mut copy = message.to_vec();
            let length = found.take_out(&mut copy);
            assert!(length <= copy.len());
        }
        let _ = error_reply(message, 2, Some((Reason::NetworkError, "no carrier")));
        if let Ok(parsed) = Query::parse(message) {
            assert!(parsed.question_end <= message.len() && question_name(message, &parsed).len() <= 255);
            let short = truncated(message, &parsed).expect("a query can be answered");
            assert_eq!(check_answer(&short, message, &parsed), Ok(0));
            let _ = check_answer(answer, message, &parsed);
            if let Some(edns) = parsed.edns {
                let mut with = message.to_vec();
                add_cookie(&mut with, &edns, &[7; 8], &[9; 8]);
                assert_eq!(Query::parse(&with).map(|q| q.question_end), Ok(parsed.question_end));
            }
        }
    }
});
