//! What a resolver may use up, whatever is asked of it.

use crate::parts::{Process, ask, client, example, free_address, query, server};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A line of the resolver's own process in /proc: that of the only child.
fn child(process: &Process) -> String {
    let pid = process.0.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().expect("the resolver's process").to_owned()
}

#[test]
fn with_its_cache_full_and_under_full_load_it_stays_below_8_mib() {
    let (upstream, asked) = server("127.0.0.1");
    let listen = free_address("127.0.0.1");
    let program = example("forward");
    let forward = Process::start(
        program.to_str().unwrap(),
        &["--listen", &listen.to_string(), "--server", &upstream.to_string(), "--cache", "1000000"],
    );
    ask(listen, &query(0, "vpn.example", 1, 0));
    let sockets: Vec<_> = (0..50).map(|_| client(listen)).collect();
    let mut buffer = [0; 4096];
    // 200 bytes and more each: many times what the cache holds.
    for round in 0..400 {
        for (n, socket) in sockets.iter().enumerate() {
            let name = format!("name-{round}-{n}.{}.example", "x".repeat(60));
            socket.send(&query(n as u16, &name, 1, 1232)).unwrap();
        }
        for socket in &sockets {
            let _ = socket.recv(&mut buffer);
        }
    }
    assert!(asked.load(Ordering::Relaxed) > 15_000, "the load did not come through");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child(&forward))).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 8 * 1024, "{peak} KiB");
}

#[test]
fn a_question_between_two_forwarders_that_ask_each_other_goes_round_once() {
    let [one, two] = [free_address("127.0.0.1"), free_address("127.0.0.1")];
    // Between them: counts what the one asks the other, and passes it on. Answers need no way back.
    let between = UdpSocket::bind("127.0.0.1:0").unwrap();
    let counter = Arc::new(AtomicUsize::new(0));
    let (way, passed) = (between.local_addr().unwrap(), counter.clone());
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok(length) = between.recv(&mut buffer) {
            if buffer[2] & 0x80 == 0 {
                passed.fetch_add(1, Ordering::Relaxed);
                let _ = between.send_to(&buffer[..length], two);
            }
        }
    });
    let program = example("forward");
    let start = |listen: SocketAddr, server: SocketAddr| {
        let arguments = ["--listen", &listen.to_string(), "--server", &server.to_string()];
        Process::start(program.to_str().unwrap(), &arguments)
    };
    let _both = [start(one, way), start(two, one)];
    // Zone transfers are answered without asking anybody: both are there.
    for addr in [one, two] {
        ask(addr, &query(1, "example", 252, 0));
    }
    let socket = client(one);
    socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    socket.send(&query(7, "vpn.example", 1, 1232)).unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).expect("an answer in the end");
    assert_eq!((buffer[1], buffer[3] & 15), (7, 2), "SERVFAIL: {:?}", &buffer[..length]);
    // One round, and those few by which a server that stays silent is asked again.
    let rounds = counter.load(Ordering::Relaxed);
    assert!((1..40).contains(&rounds), "it went round {rounds} times");
}
