//! Clients' TCP connections (RFC 7766): slow ones, impatient ones, too many, and nonsense.

use crate::parts::{Process, ask, ask_tcp, dnsmasq, example, free_address, query};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

fn start() -> (Process, Process, SocketAddr) {
    let (dnsmasq, upstream) = dnsmasq();
    let listen = free_address("127.0.0.1");
    let program = example("forward");
    let forward = Process::start(
        program.to_str().unwrap(),
        &["--listen", &listen.to_string(), "--server", &upstream.to_string()],
    );
    ask(listen, &query(1, "vpn.example", 1, 0));
    (dnsmasq, forward, listen)
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

#[test]
fn a_query_may_come_byte_by_byte_and_the_client_may_close_its_half() {
    let (_dnsmasq, _forward, listen) = start();
    let mut stream = connect(listen);
    stream.set_nodelay(true).unwrap();
    for byte in framed(&query(7, "big.example", 16, 0)) {
        stream.write_all(&[byte]).unwrap();
    }
    stream.write_all(&framed(&query(8, "vpn.example", 1, 0))).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let mut ids = Vec::new();
    let mut rest = all.as_slice();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (answer, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
        ids.push(answer[1]);
        rest = tail;
    }
    ids.sort_unstable();
    assert_eq!(ids, [7, 8], "both, and then the end");
}

#[test]
fn hundreds_of_queries_by_one_connection_are_all_answered() {
    let (_dnsmasq, _forward, listen) = start();
    let many: Vec<_> = (0..400).map(|id| query(id, "vpn.example", 1, 0)).collect();
    let mut ids: Vec<_> =
        ask_tcp(listen, &many).iter().map(|answer| u16::from_be_bytes([answer[0], answer[1]])).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..400).collect::<Vec<u16>>());
}

#[test]
fn connections_that_do_nothing_keep_nobody_out() {
    let (_dnsmasq, _forward, listen) = start();
    let idle: Vec<_> = (0..200).map(|_| connect(listen)).collect();
    assert_eq!(ask_tcp(listen, &[query(1, "vpn.example", 1, 0)])[0][7], 1);
    drop(idle);
}

#[test]
fn nonsense_ends_its_connection_and_no_other() {
    let (_dnsmasq, _forward, listen) = start();
    let mut answer = query(1, "vpn.example", 1, 0);
    answer[2] |= 0x80;
    for nonsense in [&b"\0\0"[..], &framed(b"short"), &framed(&answer)] {
        for _ in 0..100 {
            let mut stream = connect(listen);
            stream.write_all(nonsense).unwrap();
            // The end, or a reset where bytes were left unread.
            assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
        }
    }
    let mut odd = query(1, "vpn.example", 1, 0);
    odd[5] = 2;
    assert_eq!(ask_tcp(listen, &[odd])[0][3] & 15, 1, "FORMERR is an answer");
    assert_eq!(ask_tcp(listen, &[query(1, "vpn.example", 1, 0)])[0][7], 1);
}
