//! `narrowgate forward` as somebody starts it by hand.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};

#[test]
fn it_says_where_it_listens_and_whom_it_asks() {
    let port = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let mut forward = Command::new(env!("CARGO_BIN_EXE_narrowgate"))
        .args(["forward", "--listen", &listen, "--server", "127.0.0.2"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(forward.stderr.take().unwrap()).lines();
    let said: Vec<String> = lines.map_while(Result::ok).take(2).collect();
    forward.kill().unwrap();
    forward.wait().unwrap();
    assert!(said[0].ends_with(&format!("forward: listening on {listen}")), "{said:?}");
    assert!(said[1].ends_with("forward: servers 127.0.0.2:53"), "{said:?}");
}
