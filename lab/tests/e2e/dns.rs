//! The resolvers: who is answered, by which way, and what is said when there is no answer.

use std::time::{Duration, Instant};

use narrowgate_lab::client::{extended_error, response_code};
use narrowgate_lab::layout::{GATE_NAME, MESH_DNS, TUNNEL_GID};
use narrowgate_lab::{Host, Options, holder, wait};

use crate::scene::{SOON, Scene};

/// Whatever server a process of the tunnel's group asks, and however: the household's DNS is asked, marked.
#[test]
fn the_groups_dns_goes_to_the_wan_resolver() {
    let scene = Scene::tunnel_up(Options::default());
    let mesh = format!("[{MESH_DNS}]:53");
    let servers = [
        "127.0.0.1:53",
        "127.0.0.53:53",
        "[::1]:53",
        &mesh,
        "10.42.0.1:53",
        "192.0.2.1:53",
        "[2001:db8::1]:53",
    ];
    let mut failed = Vec::new();
    for (at, server) in servers.iter().enumerate() {
        for transport in ["udp", "tcp"] {
            let name = format!("redirect-{at}-{transport}.any.example.org");
            scene.capture.adjust(|context| context.other_names.push(name.clone()));
            let group = TUNNEL_GID.to_string();
            let command = scene.lab.host(Host::Node).command("setpriv");
            let command =
                command.args(["--clear-groups", "--regid", &group, "--"]).arg(holder::program().unwrap());
            let answer = command.args(["ask", transport, server, &name]).output().unwrap();
            if String::from_utf8_lossy(&answer.stdout).trim() != "203.0.113.80" {
                failed.push(format!(
                    "{transport} {server}: {}",
                    String::from_utf8_lossy(&answer.stderr).trim()
                ));
            }
        }
    }
    assert!(failed.is_empty(), "not answered:\n{}\n{}", failed.join("\n"), scene.log());
    // The capture reads its socket beside us: the last frame may not be counted yet.
    let asked = || scene.capture.counts().get("other DNS, asked for").copied().unwrap_or(0);
    wait::until("every question at the household", SOON, || Ok((asked() >= servers.len() * 2).then_some(())))
        .unwrap_or_else(|error| panic!("{error}: {:?}", scene.capture.counts()));
    scene.capture.assert_no_leak("while the group asks").unwrap();
}

#[test]
fn other_groups_dns_stays_in_the_mesh() {
    let scene = Scene::tunnel_up(Options::default());
    let name = "unmarked.any.example.org";
    let resolver = "127.0.0.1:53".parse().unwrap();
    let answer = scene.lab.host(Host::Node).ask_until(resolver, name, false, SOON).unwrap();
    assert_eq!(answer, ["203.0.113.80".parse::<std::net::IpAddr>().unwrap()]);
    scene.assert_no_leak("after a question to the mesh");
    let counts = scene.capture.counts();
    assert_eq!(counts.get("other DNS, asked for"), None, "{counts:?}");
}

#[test]
fn the_peers_name_is_found_by_whoever_asks_the_mesh_resolver() {
    let scene = Scene::uplink_up(Options::default());
    let resolver = "127.0.0.1:53".parse().unwrap();
    let answer = scene.lab.host(Host::Node).ask_until(resolver, GATE_NAME, false, SOON).unwrap();
    assert_eq!(answer, ["198.51.100.130".parse::<std::net::IpAddr>().unwrap()]);
    scene.assert_no_leak("after the peer's name was asked for");
}

#[test]
fn both_resolvers_answer_over_tcp_too() {
    let scene = Scene::tunnel_up(Options::default());
    let node = scene.lab.host(Host::Node);
    for server in ["127.0.0.1:54", "[::1]:54", "127.0.0.1:53"] {
        let answer = node.ask_tcp(server.parse().unwrap(), GATE_NAME, false, SOON);
        assert!(
            answer.as_ref().is_ok_and(|found| !found.is_empty()),
            "{server}: {answer:?}\n{}",
            scene.log()
        );
    }
    scene.capture.assert_no_leak("over TCP").unwrap();
}

/// The first question comes before the household has told anything, and is answered all the same.
#[test]
fn a_question_that_comes_too_early_waits_for_the_uplink() {
    let scene = Scene::ready(Options::default());
    let asked = Instant::now();
    let server = "127.0.0.1:54".parse().unwrap();
    let answer = scene.lab.host(Host::Node).ask(server, GATE_NAME, false, Duration::from_secs(5));
    assert!(
        answer.as_ref().is_ok_and(|found| !found.is_empty()),
        "{answer:?} after {:?}\n{}",
        asked.elapsed(),
        scene.log()
    );
}

/// No carrier: a failure that says why, and soon rather than after the stub's patience.
#[test]
fn without_a_carrier_the_answer_is_a_failure_that_says_why() {
    let scene = Scene::uplink_up(Options::default());
    scene.lab.set_carrier(false).unwrap();
    let server = "127.0.0.1:54".parse().unwrap();
    let node = scene.lab.host(Host::Node);
    // The name must not be known from before.
    let message = wait::until("a failure", SOON, || {
        let message = node.exchange(server, "nobody-knows.any.example.org", false, Duration::from_secs(5))?;
        Ok((response_code(&message) == 2).then_some(message))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    let why = extended_error(&message);
    assert!(why.as_ref().is_some_and(|(_, text)| !text.is_empty()), "{why:?}");
    let asked = Instant::now();
    let _ = node.exchange(server, "nor-this.any.example.org", false, Duration::from_secs(5)).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

/// Two of the three servers that the household handed out are dead, among them the first; the one left has a
/// link-local address.
#[test]
fn when_other_servers_are_dead_the_link_local_one_answers_within_a_second() {
    let scene = Scene::uplink_up(Options::default());
    let network = scene.lab.network();
    scene.lab.silence_dns(&[network.router4.into(), network.router6.into()]).unwrap();
    for at in 0..3 {
        let name = format!("failover-{at}.any.example.org");
        scene.capture.adjust(|context| context.other_names.push(name.clone()));
        let asked = Instant::now();
        let server = "127.0.0.1:54".parse().unwrap();
        let answer = scene.lab.host(Host::Node).ask(server, &name, false, Duration::from_secs(5));
        answer.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
        assert!(asked.elapsed() < Duration::from_secs(1), "question {at}: {:?}", asked.elapsed());
    }
    scene.capture.assert_no_leak("with dead servers").unwrap();
}

/// Any program, in any group, wherever it asks: by `exec` it is the uplink's resolver that answers.
#[test]
fn exec_by_cgroup_sends_dns_to_the_wan_resolver() {
    let scene = Scene::uplink_up(Options::default());
    for (at, transport) in ["udp", "tcp"].iter().enumerate() {
        let name = format!("exec-{at}.any.example.org");
        scene.capture.adjust(|context| context.other_names.push(name.clone()));
        let program = holder::program().unwrap();
        let program = program.to_string_lossy();
        let asked = ["exec", "--via", "cgroup", "--", &program, "ask", transport, "192.0.2.1:53", &name];
        let (code, out, err) = scene.lab.narrowgate(&asked).unwrap();
        assert_eq!((code, out.trim()), (0, "203.0.113.80"), "{transport}: {err}\n{}", scene.log());
    }
    scene.assert_no_leak("after exec");
}
