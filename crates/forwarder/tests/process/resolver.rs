//! Parent and child: what the child cannot do, and what it outlives.

use crate::parts::{Parent, ask, client, query, server};
use narrowgate_sys::{channel, socket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

fn status(pid: u32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

#[test]
fn the_child_has_no_rights_and_only_marked_sockets() {
    let mut parent = Parent::start("127.0.0.1:0", "1");
    let (upstream, _) = server("127.0.0.1");
    parent.tell(&format!("servers {upstream}"));
    ask(parent.addr, &query(1, "vpn.example", 1, 0));
    for caps in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(parent.child, caps), "0000000000000000", "{caps}");
    }
    assert_eq!(
        (status(parent.child, "NoNewPrivs"), status(parent.child, "Seccomp")),
        ("1".into(), "2".into())
    );
    assert!(status(parent.child, "Uid").starts_with("65534"), "the tests of marks need root");
    let mut marked = 0;
    for number in 4..200 {
        let Ok(fd) = channel::take_from(parent.child, number) else { break };
        if socket::bound_to(fd.as_fd()).is_ok() {
            assert_eq!(socket::mark_of(fd.as_fd()).unwrap(), 1, "descriptor {number}");
            marked += 1;
        }
    }
    assert!(marked > 60, "{marked} sockets");
}

#[test]
fn a_dead_child_is_back_before_the_client_asks_again() {
    let mut parent = Parent::start("127.0.0.1:0", "0");
    let (upstream, _) = server("127.0.0.1");
    parent.tell(&format!("servers {upstream}"));
    assert!(parent.tell("wait").starts_with("ready"));
    for times in 1..4 {
        parent.say("wait");
        let start = Instant::now();
        let pid = rustix::process::Pid::from_raw(parent.child as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // One question, asked while nobody is there: it waits in the socket.
        let socket = client(parent.addr);
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send(&query(times, "vpn.example", 1, 0)).unwrap();
        let length = socket.recv(&mut [0; 512]).expect("an answer to the only question");
        assert!(length > 12);
        // The promise is 100 ms; a machine that builds and tests at once gets more.
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        let line = parent.line();
        assert!(line.starts_with(&format!("restarted {times} ")), "{line}");
        parent.child = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(parent.tell("wait").starts_with("ready"));
    }
    parent.say("stats");
    assert_eq!(parent.tell("wait"), "stats 1 1", "what the last life told; earlier ones told nothing");
}

#[test]
fn a_child_outlives_its_parent_and_is_taken_over() {
    let (upstream, _) = server("127.0.0.1");
    let (addr, orphan) = {
        let mut parent = Parent::start("127.0.0.1:0", "0");
        parent.tell(&format!("servers {upstream}"));
        ask(parent.addr, &query(1, "vpn.example", 1, 0));
        parent.leave = true;
        (parent.addr, parent.child)
    };
    // The parent was killed. The pool of 32 sockets goes round many times.
    for id in 0..2000 {
        ask(addr, &query(id, "vpn.example", 1, 0));
    }
    let mut heir = Parent::start(&orphan.to_string(), "0");
    assert_eq!(heir.addr, addr);
    heir.tell(&format!("servers {upstream}"));
    ask(addr, &query(2, "vpn.example", 1, 0));
    for _ in 0..500 {
        if !std::path::Path::new(&format!("/proc/{orphan}")).exists()
            || status(orphan, "State").starts_with('Z')
        {
            return;
        }
        std::thread::yield_now();
        ask(addr, &query(3, "vpn.example", 1, 0));
    }
    panic!("the orphan {orphan} still lives");
}

#[test]
fn a_question_before_the_uplink_waits_for_it() {
    let mut parent = Parent::start("[::1]:0", "0");
    parent.tell("waiting");
    let socket = client(parent.addr);
    socket.send(&query(1, "vpn.example", 1, 0)).unwrap();
    assert!(socket.recv(&mut [0; 512]).is_err(), "nothing to say yet");
    let (upstream, _) = server("::1");
    parent.tell(&format!("servers {upstream}"));
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(socket.recv(&mut [0; 512]).is_ok());
}

#[test]
fn the_child_is_small() {
    let mut parent = Parent::start("127.0.0.1:0", "0");
    let (upstream, _) = server("127.0.0.1");
    parent.tell(&format!("servers {upstream}"));
    for id in 0..100 {
        ask(parent.addr, &query(id, "vpn.example", 1, 0));
    }
    let own: u64 = status(parent.child, "RssAnon").trim_end_matches(" kB").parse().unwrap();
    assert!(own < 1024, "{own} KiB of its own memory");
}
