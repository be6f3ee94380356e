//! The peers' last addresses, kept on disk: what a node does whose household's DNS is dead.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use narrowgate_lab::client::{addresses, extended_error};
use narrowgate_lab::daemon::Running;
use narrowgate_lab::demo::config;
use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::{GATE_NAME, GATE4, GATE6, ROUTER_LL};
use narrowgate_lab::wireguard::{self, INNER_GATE4};
use narrowgate_lab::{Host, Lab, Options, wait};

use crate::scene::{SOON, Scene};
use crate::strict::strict_config;

/// The household's DNS is dead from boot on, the file is from an earlier one: fastd finds its gateway, with and without `strict`, and so does whoever asks the mesh resolver.
#[test]
fn a_node_whose_households_dns_is_dead_finds_its_gateway_by_what_was_kept() {
    for config in [config(), strict_config()] {
        let lab = Lab::new(Options::default()).unwrap();
        silence(&lab);
        keep(&lab, kept());
        let mut scene = Scene::with_config(lab, &config);
        scene.wait_addresses();
        // fastd looks its server up with a stub that waits 5 s and asks again.
        let fastd = scene.lab.start_fastd(Start::InGroup).unwrap();
        let up = scene.lab.wait_tunnel(&fastd, Duration::from_secs(30));
        let up = up.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
        println!("{:?} from fastd's start to the tunnel, without any DNS", up - fastd.started);
        scene.fastd = Some(fastd);
        scene.wait_mesh();

        let node = scene.lab.host(Host::Node);
        for (server, v6, gate) in
            [("127.0.0.1:54", false, IpAddr::from(GATE4)), ("127.0.0.1:53", true, GATE6.into())]
        {
            let asked = Instant::now();
            let answer = node.exchange(server.parse().unwrap(), GATE_NAME, v6, Duration::from_secs(5));
            let answer = answer.unwrap_or_else(|error| panic!("{server}: {error}\n{}", scene.log()));
            assert_eq!(addresses(&answer).unwrap(), [gate], "{server}");
            assert_eq!(
                extended_error(&answer).map(|why| why.0),
                Some(3),
                "{server}: it says that it is stale"
            );
            let time = asked.elapsed();
            assert!(time >= Duration::from_millis(1700), "{server}: the servers had no more than {time:?}");
        }
        let (_, status, _) = scene.lab.narrowgate(&["status"]).unwrap();
        let line = format!("known     {GATE_NAME} at {GATE4} {GATE6}");
        assert!(status.contains(&line) && status.contains("stale "), "{status}");
        scene.assert_no_leak("without DNS");
        scene.assert_mesh_works("without DNS");
    }
}

/// Whatever a power failure or another program left there: one line in the log, and the daemon does all it does without. What it finds then is kept.
#[test]
fn garbage_where_the_addresses_should_be_is_said_and_dropped() {
    let whole = kept();
    let garbage: [&[u8]; 4] = [
        b"",
        &whole.as_bytes()[..whole.len() / 2],
        b"\0\xff\xfe garbage\n",
        b"narrowgate peers 9\nvpn.example.net 203.0.113.80\n",
    ];
    for bytes in garbage {
        let lab = Lab::new(Options::default()).unwrap();
        keep(&lab, bytes);
        let mut scene = Scene::with_config(lab, &strict_config());
        scene.wait_addresses();
        let log = scene.lab.read_log("narrowgate");
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("state/peers")).collect();
        assert!(matches!(lines[..], [line] if line.contains("are forgotten")), "{bytes:?}: {lines:?}\n{log}");
        scene.assert_wan_dns_works("with garbage");
        wait::until("what was found on disk", SOON, || Ok((file(&scene.lab) == whole).then_some(())))
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", file(&scene.lab), scene.log()));
        assert!(scene.daemon.terminate(SOON).unwrap().success());
        assert_eq!(file(&scene.lab), whole);
    }
}

/// A stop takes the guard and its sets away. The tunnels stand all the while and never ask again; DNS is dead when the daemon comes back.
#[test]
fn under_strict_a_start_without_dns_lets_the_tunnels_go_on() {
    let config = strict_config() + &wireguard::config();
    let mut scene = Scene::with_config(Lab::new(Options::default()).unwrap(), &config);
    scene.wait_addresses();
    scene.start_fastd(Start::InGroup);
    let wireguard = scene.lab.start_wireguard(Start::InGroup).unwrap();
    scene.lab.wait_wireguard(&wireguard, SOON).unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    scene.wait_mesh();
    silence(&scene.lab);
    for way in ["stopped", "killed"] {
        if way == "killed" {
            scene.daemon.kill().unwrap();
        } else {
            assert!(scene.daemon.terminate(SOON).unwrap().success());
        }
        scene.daemon = start(&scene.lab, &config);
        wait::until("the peers in the sets", SOON, || {
            let set = |name| scene.lab.run(Host::Node, &format!("nft list set inet narrowgate {name}"));
            let there =
                set("peers4")?.contains(&GATE4.to_string()) && set("peers6")?.contains(&GATE6.to_string());
            Ok(there.then_some(()))
        })
        .unwrap_or_else(|error| panic!("{way}: {error}\n{}", scene.log()));
        scene.wait_mesh_within(Duration::from_secs(30));
        let node = scene.lab.host(Host::Node);
        wait::until("the gate behind WireGuard", SOON, || {
            Ok(node.ping(INNER_GATE4.into(), None, Duration::from_millis(500)).ok())
        })
        .unwrap_or_else(|error| panic!("{way}: {error}\n{}", scene.log()));
    }
    scene.assert_no_leak("after a start without DNS");
}

/// What a run before this one wrote.
fn kept() -> String {
    narrowgate_wire::peers::format(&[(GATE_NAME.to_owned(), vec![GATE4.into(), GATE6.into()])])
}

fn keep(lab: &Lab, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(lab.file("state")).unwrap();
    std::fs::write(lab.file("state").join("peers"), bytes).unwrap();
}

fn file(lab: &Lab) -> String {
    String::from_utf8_lossy(&std::fs::read(lab.file("state").join("peers")).unwrap_or_default()).into_owned()
}

/// All of the household's DNS servers.
fn silence(lab: &Lab) {
    let network = lab.network();
    lab.silence_dns(&[network.router4.into(), network.router6.into(), ROUTER_LL.into()]).unwrap();
}

fn start(lab: &Lab, config: &str) -> Running {
    lab.start_narrowgate(config).unwrap().0
}
