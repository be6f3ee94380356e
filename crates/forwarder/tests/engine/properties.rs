//! What holds whatever servers there are and whatever the network does.

use crate::world::{Host, Manner, World, query, question_end, rcode, udp_client};
use narrowgate_forwarder::engine::{Client, Limits, UplinkState, wire_name};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

fn bad() -> impl Strategy<Value = Manner> {
    use Manner::*;
    prop::sample::select(vec![
        Dead,
        Closed,
        NoRoute,
        WrongId,
        WrongQuestion,
        Refuses,
        Fails,
        NotImplemented,
        DropsEdns,
        HatesEdns,
        LowersCase,
        DropsAaaa,
        Truncates,
        DropsTcp,
        OnlyTcp,
        WantsCookies,
        GivesCookies,
        DropsCookies,
        HatesCookies,
        WrongCookie,
    ])
}

/// One that can answer an A query by UDP in one or two goes.
fn able() -> impl Strategy<Value = Manner> {
    use Manner::*;
    prop::sample::select(vec![
        Good,
        Good,
        Good,
        HatesEdns,
        LowersCase,
        DropsAaaa,
        DropsTcp,
        GivesCookies,
        DropsCookies,
        HatesCookies,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Issue 4's promise: as long as one of them can answer, the client gets the answer within a second of its first question.
    #[test]
    fn one_able_server_is_enough(
        seed in any::<u64>(),
        one in (able(), 1u64..100),
        others in vec((bad(), prop_oneof![1u64..200, Just(5000)]), 0..6),
        place in any::<prop::sample::Index>(),
        udp in prop_oneof![Just(0u16), Just(1232)],
        rounds in 1usize..6,
    ) {
        let mut hosts: Vec<Host> = others.iter().map(|(manner, rtt)| Host { manner: *manner, rtt: *rtt, loss: 0 }).collect();
        hosts.insert(place.index(hosts.len() + 1), Host { manner: one.0, rtt: one.1, loss: 0 });
        let mut world = World::with(seed, &hosts);
        for round in 0..rounds {
            let question = query(round as u16, "vpn.example.net", 1, udp);
            let (after, reply) = world.resolve(&question).expect("an answer");
            prop_assert_eq!(rcode(&reply), 0, "round {}: {:?}", round, hosts);
            prop_assert!(after <= Duration::from_secs(1), "round {}: {:?}: {:?}", round, after, hosts);
        }
    }

    /// The same by TCP: a whole answer, though servers truncate, or drop TCP or UDP.
    #[test]
    fn one_able_server_is_enough_by_tcp(
        seed in any::<u64>(),
        one in (prop::sample::select(vec![Manner::Good, Manner::Truncates, Manner::OnlyTcp, Manner::LowersCase, Manner::DropsTcp]), 1u64..100),
        others in vec((bad(), 1u64..200), 0..4),
        place in any::<prop::sample::Index>(),
    ) {
        let mut hosts: Vec<Host> = others.iter().map(|(manner, rtt)| Host { manner: *manner, rtt: *rtt, loss: 0 }).collect();
        hosts.insert(place.index(hosts.len() + 1), Host { manner: one.0, rtt: one.1, loss: 0 });
        let mut world = World::with(seed, &hosts);
        for round in 0..4u64 {
            let before = world.net.replies.len();
            let start = world.net.now;
            world.ask(Client::Tcp(round), &query(1, "vpn.example.net", 1, 1232));
            world.run_for(Duration::from_secs(7));
            prop_assert_eq!(world.net.replies.len(), before + 1);
            let reply = &world.net.replies[before];
            prop_assert_eq!((rcode(&reply.bytes), reply.bytes[2] & 2), (0, 0), "round {}: {:?}", round, hosts);
            prop_assert!(reply.at.since(start) <= Duration::from_secs(1), "round {}: {:?}: {:?}", round, reply.at.since(start), hosts);
        }
    }

    /// Every question gets one answer, under its id, with its question; nothing forged comes through; nothing is left behind.
    #[test]
    fn every_client_gets_one_answer_and_nothing_is_left(
        seed in any::<u64>(),
        servers in vec((prop_oneof![bad(), able()], 1u64..400, 0u64..50), 0..5),
        questions in vec((0u64..3000, 1u16..20, any::<u16>(), "[a-zA-Z]{1,10}\\.example", prop::sample::select(vec![1u16, 28, 16]), prop_oneof![Just(0u16), Just(1232)], any::<bool>()), 1..60),
        changes in vec((0u64..3000, 0u8..4), 0..4),
        limit in 4usize..64,
        cache in prop_oneof![Just(0usize), Just(4096)],
    ) {
        let hosts: Vec<Host> = servers.iter().map(|(manner, rtt, loss)| Host { manner: *manner, rtt: *rtt, loss: *loss }).collect();
        let mut world = World::new(seed, Limits { queries: limit, cache });
        world.net.forgers = 30;
        // Peers, of whom something is known or not: whatever is asked of them, one answer.
        world.peers = questions.iter().step_by(2).map(|q| q.3.to_lowercase()).collect();
        world.peers.dedup();
        if seed % 3 > 0 {
            let known = |name: &String| (wire_name(name).unwrap(), vec![[192, 0, 2, 1].into()]);
            world.engine.keep(world.peers.iter().step_by((seed % 3) as usize).map(known).collect());
        }
        world.serve(&hosts, UplinkState::Up, "");
        let mut plan: Vec<(u64, Result<usize, u8>)> = questions.iter().enumerate().map(|(n, q)| (q.0, Ok(n))).collect();
        plan.extend(changes.iter().map(|(at, state)| (*at, Err(*state))));
        plan.sort_by_key(|(at, _)| *at);
        let mut asked = std::collections::BTreeMap::new();
        let mut passed = 0;
        for (at, what) in plan {
            world.run_for(Duration::from_millis(at - passed));
            passed = at;
            match what {
                Ok(n) => {
                    let (_, port, id, name, qtype, udp, tcp) = &questions[n];
                    let client = if *tcp { Client::Tcp(u64::from(*port)) } else { udp_client(*port) };
                    let question = query(*id, name, *qtype, *udp);
                    asked.entry((format!("{client:?}"), question.clone())).or_insert(0);
                    world.ask(client, &question);
                }
                Err(state) => world.serve(&hosts, UplinkState::from_number(state).unwrap(), "x"),
            }
            prop_assert!(world.engine.in_flight() <= limit);
        }
        world.run_for(Duration::from_secs(60));
        for reply in &world.net.replies {
            prop_assert_ne!(reply.bytes.last(), Some(&66), "forged");
            let end = question_end(&reply.bytes).min(reply.bytes.len());
            let key = asked.iter_mut().find(|((client, question), _)| {
                *client == format!("{:?}", reply.client)
                    && question[..2] == reply.bytes[..2]
                    && (reply.bytes[5] == 0 || question[12..question_end(question)] == reply.bytes[12..end])
            });
            prop_assert!(key.is_some(), "nobody asked for this");
            *key.unwrap().1 += 1;
        }
        for ((client, question), answers) in &asked {
            prop_assert!(*answers >= 1, "{client} {question:?} got none");
        }
        prop_assert_eq!(world.engine.in_flight(), 0);
        prop_assert_eq!(world.engine.next_tick(), None, "idle is idle");
    }

    /// No packet of any content does harm, to clients' side or servers'.
    #[test]
    fn no_packet_does_harm(seed in any::<u64>(), packets in vec((any::<bool>(), vec(any::<u8>(), 0..80), 0u64..200), 0..200)) {
        let mut world = World::with(seed, &[Host { manner: Manner::Dead, rtt: 1, loss: 0 }; 2]);
        world.net.keep_sent = true;
        for (from_client, mut bytes, pause) in packets {
            if from_client {
                if bytes.len() > 12 && seed % 2 == 0 {
                    bytes[2] &= 0x07;
                    bytes[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
                }
                world.ask(udp_client(1), &bytes);
            } else {
                // With an id that is in flight, so that more than the id is looked at.
                if let Some((.., sent)) = world.net.sent.last() && bytes.len() > 3 {
                    let keep = sent.len().min(bytes.len() + 2);
                    let tail = bytes.clone();
                    bytes = sent[..keep].to_vec();
                    bytes[2] |= 0x80;
                    bytes.extend(tail);
                }
                for slot in 0..world.net.open_slots() as u32 {
                    world.engine.upstream_message(world.net.now, slot, &mut bytes, &mut world.net);
                }
            }
            world.run_for(Duration::from_millis(pause));
        }
        world.run_for(Duration::from_secs(60));
        prop_assert_eq!(world.engine.in_flight(), 0);
    }
}
