//! What a forger has to hit who does not see the question: measured by a server that notes what it saw.

use crate::parts::{Process, ask, example, free_address, query};
use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::mpsc;

/// (port, id, the name's letters) of so many questions, one after the other.
fn seen(count: u16) -> Vec<(u16, u16, Vec<u8>)> {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = free_address("127.0.0.1");
    let (tell, told) = mpsc::channel();
    let upstream = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            if tell.send((from.port(), id, buffer[12..length - 4].to_vec())).is_err() {
                return;
            }
            buffer[2] |= 0x80;
            let _ = server.send_to(&buffer[..length], from);
        }
    });
    let program = example("forward");
    let _forward = Process::start(
        program.to_str().unwrap(),
        &["--listen", &listen.to_string(), "--server", &upstream.to_string()],
    );
    (0..count)
        .map(|id| {
            ask(listen, &query(id, "vpn-gateway.example.net", 1, 0));
            told.recv().unwrap()
        })
        .collect()
}

#[test]
fn ids_ports_and_letters_have_the_bits_that_the_manual_promises() {
    const COUNT: u16 = 2000;
    let questions = seen(COUNT);
    // Draws from 65536 ids: 2000 of them hit about 30 twice, and 100 never.
    let ids: HashSet<_> = questions.iter().map(|q| q.1).collect();
    assert!(ids.len() > usize::from(COUNT) - 100, "{} ids", ids.len());
    // Each of the 16 bits is a coin: 2000 throws stay within 800 and 1200 (nine standard deviations).
    for bit in 0..16 {
        let ones = questions.iter().filter(|q| q.1 >> bit & 1 == 1).count();
        assert!((800..1200).contains(&ones), "bit {bit} of the id: {ones} of {COUNT}");
    }
    // So is the case of each letter.
    for (at, letter) in questions[0].2.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphabetic()) {
        let capitals = questions.iter().filter(|q| q.2[at].is_ascii_uppercase()).count();
        assert!((800..1200).contains(&capitals), "letter {at} ({letter}): {capitals} of {COUNT}");
    }
    // A port serves 32 questions at most, so there were at least 62 draws; they spread over the ephemeral range.
    let mut uses = std::collections::HashMap::new();
    for question in &questions {
        *uses.entry(question.0).or_insert(0) += 1;
    }
    assert!(uses.len() >= 55, "{} ports", uses.len());
    assert!(uses.values().all(|uses| *uses <= 3 * 32), "a port is used for ever: {uses:?}");
    let (low, high) = (uses.keys().min().unwrap(), uses.keys().max().unwrap());
    assert!(high - low > 14000, "ports from {low} to {high} only");
    // And by nothing that can be foreseen: the step from one port to the next is not the same twice in a row.
    let mut ports: Vec<u16> = questions.iter().map(|q| q.0).collect();
    ports.dedup();
    let steps: HashSet<u16> = ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert!(steps.len() * 10 > ports.len() * 8, "{} steps among {} ports", steps.len(), ports.len());
}

/// A forger who knows the server, the name and the moment, and sends as fast as he can, to ports that he can see to be open.
#[test]
fn a_flood_of_guesses_is_not_believed() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let listen = free_address("127.0.0.1");
    let program = example("forward");
    let _forward = Process::start(
        program.to_str().unwrap(),
        &["--listen", &listen.to_string(), "--server", &server.local_addr().unwrap().to_string()],
    );
    // The first bytes make sure that it runs: no query, answered by itself.
    ask(listen, &[0; 12]);
    let client = crate::parts::client(listen);
    client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    client.send(&query(7, "vpn-gateway.example.net", 1, 0)).unwrap();
    let mut buffer = [0; 512];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    let mut forged = buffer[..length].to_vec();
    forged[2] |= 0x80;
    forged[3] = 3; // NXDOMAIN
    let right = [forged[0], forged[1]];
    // The right port, the right server, all ids but the right one; and the right id from a wrong place, and with other letters.
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _ = elsewhere.send_to(&forged, from);
    for id in 0..=u16::MAX {
        if id.to_be_bytes() != right {
            forged[..2].copy_from_slice(&id.to_be_bytes());
            let _ = server.send_to(&forged, from);
        }
    }
    let mut answer = buffer[..length].to_vec();
    answer[2] |= 0x80;
    // The true answer is given until it is taken: it may be lost among so many, and be asked for again.
    server.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    let _ = server.send_to(&answer, from);
    client.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    for _ in 0..300 {
        let mut reply = [0; 512];
        if client.recv(&mut reply).is_ok() {
            assert_eq!(reply[3] & 15, 0, "a forged NXDOMAIN was believed");
            return;
        }
        if let Ok((length, from)) = server.recv_from(&mut buffer) {
            buffer[2] |= 0x80;
            let _ = server.send_to(&buffer[..length], from);
        }
    }
    panic!("no answer at all");
}
