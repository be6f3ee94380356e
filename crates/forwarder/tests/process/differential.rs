//! The same queries through us and directly to a real server: the same answers, byte for byte but for the id.

use crate::parts::{Process, ask, ask_tcp, client, dnsmasq, example, free_address, query};
use std::time::Duration;

/// Names that are there and are not, in every case; types known, unknown and odd; classes; sizes of EDNS and options in it.
fn queries() -> Vec<Vec<u8>> {
    let names =
        ["vpn.example", "VPN.eXample", "big.example", "nothing.example", "a.b.c.vpn.example", "version.bind"];
    let types =
        [1u16, 2, 5, 6, 12, 15, 16, 28, 33, 35, 43, 46, 48, 52, 64, 65, 99, 255, 256, 257, 65280, 65535];
    let mut all = Vec::new();
    for name in names {
        for qtype in types {
            for udp in [0u16, 512, 1232, 4096] {
                for (flags, class, option) in [(1u8, 1u16, false), (0, 1, false), (1, 3, false), (1, 1, true)]
                {
                    let mut message = query(all.len() as u16, name, qtype, udp);
                    message[2] = flags;
                    let class_at = if udp > 0 { message.len() - 13 } else { message.len() - 2 };
                    message[class_at..class_at + 2].copy_from_slice(&class.to_be_bytes());
                    if option && udp > 0 {
                        // An option that nobody knows (RFC 6891, 6.1.2: to be ignored), and DO.
                        let end = message.len();
                        message[end - 1] = 6;
                        message[end - 4] = 0x80;
                        message.extend([0xff, 0x00, 0, 2, 7, 7]);
                    }
                    all.push(message);
                }
            }
        }
    }
    all
}

/// The answer, or nothing if the server is silent to such a query.
fn direct(server: std::net::SocketAddr, message: &[u8]) -> Option<Vec<u8>> {
    let socket = client(server);
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut buffer = [0; 4096];
    socket.send(message).unwrap();
    socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
}

/// dnsmasq 2.90 goes on sending an OPT by a connection that it once got one by, and we use a connection for several queries.
fn without_opt(answer: &[u8]) -> Vec<u8> {
    let mut answer = answer.to_vec();
    let end = answer.len().saturating_sub(11);
    if answer[11] > 0 && answer[end..].starts_with(&[0, 0, 41]) {
        answer.truncate(end);
        answer[11] -= 1;
    }
    answer
}

#[test]
fn answers_are_the_same_as_without_us() {
    let (_dnsmasq, upstream) = dnsmasq();
    let listen = free_address("127.0.0.1");
    let program = example("forward");
    let _forward = Process::start(
        program.to_str().unwrap(),
        &["--listen", &listen.to_string(), "--server", &upstream.to_string()],
    );
    let (mut compared, mut by_tcp) = (0, 0);
    for message in queries() {
        let Some(theirs) = direct(upstream, &message) else { continue };
        let ours = ask(listen, &message);
        assert_eq!(ours, theirs, "query {message:?}");
        compared += 1;
        if theirs[2] & 2 != 0 && by_tcp < 20 {
            let [ours, theirs] =
                [listen, upstream].map(|server| ask_tcp(server, std::slice::from_ref(&message)));
            assert_eq!(without_opt(&ours[0]), without_opt(&theirs[0]), "query {message:?} by TCP");
            by_tcp += 1;
        }
    }
    assert!(compared > 1500 && by_tcp == 20, "{compared} compared, {by_tcp} by TCP");
}
