//! The limits that a forwarder can be measured against, for the benchmark only. `relay LISTEN SERVER` copies datagrams from clients to
//! one server and back by one socket each, and looks at nothing but the id: it believes everybody. `relay LISTEN` is a server that
//! knows one answer to every question, by UDP (in batches, so that little of the machine is taken from what is measured) and by TCP.

use narrowgate_sys::datagrams::{ReceiveBatch, SendBatch};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let clients = UdpSocket::bind(&arguments[1]).unwrap();
    clients.set_nonblocking(true).unwrap();
    match arguments.get(2) {
        Some(server) => relay(&clients, server),
        None => {
            let listener = TcpListener::bind(&arguments[1]).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    std::thread::spawn(move || respond_by_tcp(stream.unwrap()));
                }
            });
            respond(&clients);
        }
    }
}

fn relay(clients: &UdpSocket, server: &str) {
    let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
    upstream.connect(server).unwrap();
    upstream.set_nonblocking(true).unwrap();
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut by_id = vec![nobody; 65536];
    let mut buffer = [0u8; 65536];
    loop {
        let mut ready = [PollFd::new(clients, PollFlags::IN), PollFd::new(&upstream, PollFlags::IN)];
        poll(&mut ready, None).unwrap();
        while let Ok((length, from)) = clients.recv_from(&mut buffer) {
            by_id[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))] = from;
            let _ = upstream.send(&buffer[..length]);
        }
        while let Ok(length) = upstream.recv(&mut buffer) {
            let to = by_id[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))];
            let _ = clients.send_to(&buffer[..length], to);
        }
    }
}

fn respond(clients: &UdpSocket) {
    let (mut queries, mut answers) = (ReceiveBatch::default(), SendBatch::default());
    let mut buffer = Vec::new();
    loop {
        poll(&mut [PollFd::new(clients, PollFlags::IN)], None).unwrap();
        for n in 0..queries.receive(clients.as_fd()).unwrap_or(0) {
            if let Some((query, from)) = queries.get(n) {
                answer(query, &mut buffer);
                answers.push(&from, &buffer);
            }
        }
        answers.send(clients.as_fd());
    }
}

fn respond_by_tcp(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (mut received, mut buffer, mut some) = (Vec::new(), Vec::new(), [0; 65536]);
    while let Ok(length @ 1..) = stream.read(&mut some) {
        received.extend_from_slice(&some[..length]);
        let (mut at, mut out) = (0, Vec::new());
        while let Some(head) = received[at..].first_chunk() {
            let end = at + 2 + usize::from(u16::from_be_bytes(*head));
            let Some(query) = received.get(at + 2..end) else { break };
            answer(query, &mut buffer);
            out.extend((buffer.len() as u16).to_be_bytes());
            out.extend_from_slice(&buffer);
            at = end;
        }
        received.drain(..at);
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// 192.0.2.7 for an hour, without an OPT.
fn answer(query: &[u8], into: &mut Vec<u8>) {
    let mut end = 12;
    while query.get(end).is_some_and(|length| *length > 0) {
        end += 1 + usize::from(query[end]);
    }
    into.clear();
    into.extend_from_slice(&query[..(end + 5).min(query.len())]);
    if into.len() >= 12 {
        into[2] |= 0x80;
        into[3] = 0x80;
        into[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
        into.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 7]);
    }
}
