//! Strict: names that the peers' names are aliases of may be asked as well. A stub that is told only the alias (RFC 1034, 3.6.2) asks for what it leads to.

use super::names::Names;
use crate::message::{MAX_NAME, Walk, rtype, u16_at};
use alloc::vec::Vec;

/// The names that answers led to, and the set that each is asked of.
#[derive(Default)]
pub(super) struct Aliases {
    names: Names,
}

impl Aliases {
    /// Notes what the aliases in an answer lead to. The answer is one to a question that was permitted.
    pub fn learn(&mut self, answer: &[u8], set: u8) {
        let mut walk = Walk::new(answer);
        while let Some(record) = walk.next(answer).filter(|record| record.section == 0) {
            if record.rtype == rtype::CNAME
                && let Some(name) = name_at(answer, record.rdata)
            {
                self.names.put(&name, set.into(), MOST_NAMES);
            }
        }
    }

    /// The set for a name as it stands in a question.
    pub fn find(&self, name: &[u8]) -> Option<u8> {
        self.names.get(name).map(|set| set as u8)
    }

    /// Other names count from now on.
    pub fn clear(&mut self) {
        self.names.clear();
    }
}

/// The name at `at`, without pointers.
fn name_at(message: &[u8], mut at: usize) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    // Each turn takes a label or a pointer; there cannot be more of both than this in a name that makes sense.
    for _ in 0..MAX_NAME {
        let length = *message.get(at)?;
        match length {
            0 => {
                name.push(0);
                return (name.len() <= MAX_NAME).then_some(name);
            }
            1..64 => {
                let end = at + 1 + usize::from(length);
                name.extend_from_slice(message.get(at..end)?);
                at = end;
            }
            0xc0.. => at = usize::from(u16_at(message, at)? & 0x3fff),
            _ => return None,
        }
        if name.len() > MAX_NAME {
            return None;
        }
    }
    None
}

/// Names that are remembered.
const MOST_NAMES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::*;
    use crate::message::tests::query;
    use proptest::prelude::*;

    /// An answer for `a.b` whose only record has this type and data.
    fn answer(rtype: u16, data: &[u8]) -> Vec<u8> {
        let mut m = query(1, "a.b", 1, 0);
        (m[2], m[7]) = (m[2] | 0x80, 1);
        m.extend([0xc0, 12]);
        m.extend(rtype.to_be_bytes());
        m.extend([0, 1, 0, 0, 0, 60]);
        m.extend((data.len() as u16).to_be_bytes());
        m.extend(data);
        m
    }

    #[test]
    fn what_an_alias_leads_to_is_learnt_whatever_its_form() {
        let mut aliases = Aliases::default();
        aliases.learn(&answer(5, b"\x01C\xc0\x0e"), 3);
        assert_eq!(aliases.find(b"\x01c\x01B\0"), Some(3), "a pointer into the question");
        aliases.learn(&answer(5, b"\x01d\x03nEt\0"), 4);
        assert_eq!(aliases.find(b"\x01D\x03net\0"), Some(4));
        assert_eq!(aliases.find(b"\x03net\0"), None, "only the name itself");
        aliases.learn(&answer(2, b"\x02ns\0"), 0);
        assert_eq!(aliases.find(b"\x02ns\0"), None, "a name server is no alias");
        aliases.clear();
        assert_eq!(aliases.find(b"\x01c\x01b\0"), None);
    }

    #[test]
    fn a_pointer_that_leads_nowhere_or_round_is_no_name() {
        let mut aliases = Aliases::default();
        let at = answer(5, b"").len() as u8;
        aliases.learn(&answer(5, &[0xc0, at]), 0); // to itself
        aliases.learn(&answer(5, &[1, b'x', 0xc0, at]), 0); // round and round
        aliases.learn(&answer(5, &[0xff, 0xff]), 0);
        assert_eq!(aliases.names.len(), 0);
    }

    #[test]
    fn only_so_many_are_remembered_and_the_latest_stay() {
        let mut aliases = Aliases::default();
        for n in 0..100 {
            aliases.learn(&answer(5, &[1, n, 0]), 0);
        }
        assert_eq!(aliases.names.len(), MOST_NAMES);
        assert_eq!(aliases.find(&[1, 99, 0]), Some(0));
        assert_eq!(aliases.find(&[1, 1, 0]), None);
    }

    /// A network that keeps what is sent into it.
    #[derive(Default)]
    struct Net {
        sent: Vec<Vec<u8>>,
        replies: Vec<Vec<u8>>,
    }

    impl Outside for Net {
        fn open(&mut self, _: Transport, _: SocketAddr) -> Result<SlotId, CannotAsk> {
            Ok(self.sent.len() as SlotId)
        }
        fn send(&mut self, _: SlotId, message: &[u8]) -> Result<(), CannotAsk> {
            self.sent.push(message.to_vec());
            Ok(())
        }
        fn close(&mut self, _: SlotId) {}
        fn reply(&mut self, _: &Client, message: &[u8]) {
            self.replies.push(message.to_vec());
        }
        fn random(&mut self) -> u64 {
            7
        }
    }

    #[test]
    fn a_peer_may_be_asked_by_the_name_that_it_is_an_alias_of_and_by_no_other() {
        let set =
            Set { servers: vec!["192.0.2.1:53".parse().unwrap()], state: UplinkState::Up, ..Set::default() };
        let of = |name: &str| Upstreams {
            sets: vec![set.clone()],
            names: vec![(wire_name(name).unwrap(), 0)],
            default: None,
        };
        let (mut engine, mut net) = (Engine::new(Limits::default()), Net::default());
        engine.update(Time(1), of("a.b"), &mut net);
        let client = Client::Udp { listener: 0, from: "127.0.0.1:9".parse().unwrap() };
        let refused = |engine: &mut Engine, net: &mut Net, name: &str| {
            let before = (net.sent.len(), net.replies.len());
            engine.client_message(Time(2), client, &query(1, name, 1, 0), net);
            let after = (net.sent.len(), net.replies.len());
            assert!(after == (before.0 + 1, before.1) || after == (before.0, before.1 + 1), "{name}");
            after.0 == before.0
        };
        assert!(refused(&mut engine, &mut net, "c.b"));
        assert!(!refused(&mut engine, &mut net, "a.b"));
        let mut reply = net.sent[0].clone();
        let tail = answer(5, b"\x01C\xc0\x0e");
        (reply[2], reply[7]) = (reply[2] | 0x80, 1);
        reply.extend_from_slice(&tail[reply.len()..]);
        engine.upstream_message(Time(3), 0, &mut reply, &mut net);
        assert!(!refused(&mut engine, &mut net, "c.B"));
        assert!(refused(&mut engine, &mut net, "d.b"));
        engine.update(Time(4), of("a.c"), &mut net);
        assert!(refused(&mut engine, &mut net, "c.b"), "other peers, other aliases");
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(data in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..300) {
            let mut aliases = Aliases::default();
            aliases.learn(&answer(5, &data), 0);
            aliases.learn(&data, 0);
            prop_assert!(name_at(&data, at).is_none_or(|name| name.len() <= MAX_NAME));
        }
    }
}
