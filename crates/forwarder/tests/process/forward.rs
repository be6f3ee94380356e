//! `narrowgate forward` as a replacement for the second dnsmasq.

use crate::parts::{Process, ask, ask_tcp, dnsmasq, example, free_address, query, server};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

fn forward(arguments: &[&str]) -> Process {
    Process::start(example("forward").to_str().unwrap(), arguments)
}

#[test]
fn a_real_server_is_asked_by_udp_and_tcp_over_both_families() {
    let (_dnsmasq, upstream) = dnsmasq();
    let (four, six, dead) = (free_address("127.0.0.1"), free_address("::1"), free_address("127.0.0.1"));
    let _forward = forward(&[
        "--listen",
        &four.to_string(),
        "--listen",
        &six.to_string(),
        "--server",
        &dead.to_string(),
        "--server",
        &upstream.to_string().replace(':', "#"),
    ]);
    for listen in [four, six] {
        let answer = ask(listen, &query(0x77, "VPN.example", 1, 1232));
        assert_eq!((&answer[..2], answer[3] & 15, answer[7]), (&[0, 0x77][..], 0, 1));
        assert_eq!(&answer[13..16], b"VPN", "as it was asked");
        let truncated = ask(listen, &query(1, "big.example", 16, 0));
        assert_ne!(truncated[2] & 2, 0, "TC is passed on");
        let many: Vec<_> = (0..20).map(|id| query(id, "big.example", 16, 0)).collect();
        let answers = ask_tcp(listen, &many);
        assert!(answers.iter().all(|a| a.len() > 1400 && a[2] & 2 == 0));
    }
}

#[test]
fn the_resolv_file_may_come_late_and_be_replaced() {
    let (first, first_count) = server("127.0.0.1");
    let (second, second_count) = server("127.0.0.1");
    let folder = std::env::temp_dir().join(format!("narrowgate-forward-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("resolv.conf");
    let listen = free_address("127.0.0.1");
    let _forward = forward(&["--listen", &listen.to_string(), "--resolv-file", file.to_str().unwrap()]);
    let question = query(1, "vpn.example", 1, 0);
    // nameserver lines have no port of their own in resolv.conf(5); the parser takes one all the same.
    let write = |server: std::net::SocketAddr| {
        let new = folder.join("new");
        std::fs::write(&new, format!("# Interface wan\nnameserver {server}\n")).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    write(first);
    ask(listen, &question);
    assert!(first_count.load(Ordering::SeqCst) > 0);
    write(second);
    for id in 0..1000 {
        ask(listen, &query(id, "vpn.example", 1, 0));
        if second_count.load(Ordering::SeqCst) > 0 {
            break;
        }
    }
    assert!(second_count.load(Ordering::SeqCst) > 0, "the new server was not asked");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn sigterm_is_a_clean_exit_and_frees_the_address() {
    let listen = free_address("127.0.0.1");
    let mut process = forward(&["--listen", &listen.to_string(), "--server", "127.0.0.1:1"]);
    // An answer, of whatever kind, shows that it runs.
    ask(listen, &[0; 12]);
    let pid = rustix::process::Pid::from_child(&process.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
    std::net::UdpSocket::bind(listen).unwrap();
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    for (arguments, code, words) in [
        (&["--server", "192.0.2.1"][..], 2, "--listen"),
        (&["--listen", "192.0.2.1:53", "--server", "192.0.2.1"], 1, "--listen 192.0.2.1:53"),
        (&["--listen", "127.0.0.1:0", "--resolv-file", "/nowhere/resolv.conf"], 1, "/nowhere/resolv.conf"),
    ] {
        let output = Command::new(example("forward")).args(arguments).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.starts_with("narrowgate: forward: ") && text.contains(words), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn a_mark_that_cannot_be_set_is_no_start() {
    // As root without its capabilities: setpriv is in util-linux, which is essential in Debian.
    let start = |mark: &[&str], environment: &str| {
        let output = Command::new("setpriv")
            .args(["--bounding-set", "-net_admin,-net_raw", "--inh-caps", "-net_admin,-net_raw"])
            .arg(example("forward"))
            .args(["--listen", "127.0.0.1:0", "--server", "192.0.2.1"])
            .args(mark)
            .env("LIBPACKETMARK_MARK", environment)
            .output()
            .expect("setpriv is needed, and root");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        text
    };
    // In the place of a program that libpacketmark marked, its variable counts; the option counts more.
    for (mark, environment, told) in [(&["--mark", "1"][..], "2", "mark 0x1/0x1"), (&[], "2", "mark 0x2/0x2")]
    {
        let text = start(mark, environment);
        assert!(text.contains(told) && text.contains("CAP_NET_ADMIN"), "{text}");
    }
    let text = start(&[], "red");
    assert!(text.contains("LIBPACKETMARK_MARK=red: "), "{text}");
}
