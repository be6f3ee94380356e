//! The whole state machine with a simulated clock and network. The bytes are a script: servers, then what happens, one after the other.
//! At its end all is quiet: no query left, no timer running.
#![no_main]
use libfuzzer_sys::fuzz_target;
use narrowgate_forwarder::engine::{Client, Limits, UplinkState, wire_name};
use std::net::IpAddr;
use std::time::Duration;

#[allow(dead_code)]
#[path = "../../crates/forwarder/tests/engine/hosts.rs"]
mod hosts;
#[allow(dead_code, unused_imports)]
#[path = "../../crates/forwarder/tests/engine/world.rs"]
mod world;
use world::{Host, Manner, Told, World, query, udp_client};

fuzz_target!(|script: &[u8]| {
    let mut bytes = script.iter().copied();
    let Some(seed) = bytes.next() else { return };
    let cache = if seed & 1 == 0 { 0 } else { 4096 };
    let mut world = World::new(seed.into(), Limits { queries: 64, cache });
    world.net.keep_sent = false;
    world.net.forgers = 20;
    world.peers = vec!["vpn.example.net".to_owned()];
    let mut hosts = Vec::new();
    for _ in 0..seed % 5 {
        let [manner, rtt, loss] = [bytes.next(), bytes.next(), bytes.next()].map(|byte| byte.unwrap_or(0));
        let manner = Manner::ALL[usize::from(manner) % Manner::ALL.len()];
        hosts.push(Host { manner, rtt: u64::from(rtt) * 8 + 1, loss: u64::from(loss) % 60 });
    }
    world.serve(&hosts, UplinkState::Up, "");
    while let (Some(what), Some(n)) = (bytes.next(), bytes.next()) {
        match what % 8 {
            0 => world.run_for(Duration::from_millis(u64::from(n) * 16)),
            1 => world.serve(&hosts, UplinkState::from_number(n % 6).unwrap_or_default(), "x"),
            2 => {
                let raw: Vec<u8> = bytes.by_ref().take(n.into()).collect();
                world.ask(udp_client(u16::from(n) + 1), &raw);
            }
            3 => {
                let mut raw: Vec<u8> = bytes.by_ref().take(n.into()).collect();
                for slot in 0..4 {
                    world.engine.upstream_message(world.net.now, slot, &mut raw, &mut world.net);
                }
            }
            4 => world.ask(Client::Tcp(u64::from(n)), &query(n.into(), "vpn.example.net", 1, 1232)),
            6 => {
                let known = (0..n % 4).map(|n| IpAddr::from([192, 0, 2, n])).collect();
                world.engine.keep(vec![(wire_name("vpn.example.net").unwrap_or_default(), known)]);
                assert!(world.engine.take_found().iter().all(|(_, found)| !found.is_empty()));
            }
            5 => world.ask(udp_client(7), &query(n.into(), "vpn.example.net", u16::from(n % 32), 0)),
            _ => world.ask(udp_client(u16::from(n)), &query(n.into(), "VPN.example.net", 28, 1232)),
        }
        assert!(world.engine.in_flight() <= 64);
    }
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.engine.in_flight(), 0);
    assert_eq!(world.engine.next_tick(), None);
});
