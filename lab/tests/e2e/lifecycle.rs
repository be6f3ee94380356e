//! Start, stop, kill, restart, reload: what stands throughout, and what is gone afterwards.

use std::time::Duration;

use narrowgate_lab::fastd::Start;
use narrowgate_lab::probe::Flood;
use narrowgate_lab::snapshot::Snapshot;
use narrowgate_lab::{Host, Lab, Options, demo, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scene::{READY, SOON, Scene};

#[test]
fn ready_without_an_uplink() {
    let lab = Lab::new(Options::default()).unwrap();
    lab.set_carrier(false).unwrap();
    let (_daemon, ready) = lab.start_narrowgate(&demo::config()).unwrap();
    assert!(ready < READY, "{ready:?}");
}

#[test]
fn ready_without_even_a_device() {
    let lab = Lab::new(Options::default()).unwrap();
    let config = demo::config().replace("'wan'\n\toption provider", "'nothing0'\n\toption provider");
    assert!(config.contains("nothing0"));
    let (_daemon, ready) = lab.start_narrowgate(&config).unwrap();
    assert!(ready < READY, "{ready:?}");
}

#[test]
fn ready_though_the_loopback_is_down_and_ipv6_is_off() {
    let lab = Lab::new(Options::default()).unwrap();
    for command in ["ip link set lo down", "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1"] {
        lab.run(Host::Node, command).unwrap();
    }
    let (mut daemon, _) = lab.start_narrowgate(&demo::config()).unwrap();
    // Its addresses come when the device is switched on, and somebody listens there already.
    lab.run(Host::Node, "ip link set lo up").unwrap();
    let answer =
        lab.host(Host::Node).ask_until("127.0.0.1:54".parse().unwrap(), "vpn.example.net", false, SOON);
    assert!(answer.is_ok(), "{answer:?}\n{}", lab.read_log("narrowgate"));
    daemon.terminate(SOON).unwrap();
}

#[test]
fn after_sigterm_all_is_as_it_was_before_the_first_run() {
    let lab = Lab::new(Options::default()).unwrap();
    let node = lab.host(Host::Node);
    let before = Snapshot::of(&node).unwrap();
    let mut scene = Scene::with(lab);
    for _ in 0..2 {
        scene.wait_addresses();
        scene.daemon.kill().unwrap();
        scene.daemon = scene.lab.start_narrowgate(&demo::config()).unwrap().0;
    }
    scene.wait_addresses();
    scene.start_fastd(Start::InGroup);
    scene.wait_mesh();
    scene.fastd.as_mut().unwrap().terminate(SOON).unwrap();
    let status = scene.daemon.terminate(SOON).unwrap();
    assert!(status.success(), "{status}\n{}", scene.log());
    before.assert_same(&Snapshot::of(&node).unwrap(), "the node").unwrap();
    scene.capture.assert_no_leak("from the first run to the last").unwrap();
}

#[test]
fn killed_and_started_again_it_takes_over_and_the_tunnel_loses_nothing() {
    let mut scene = Scene::tunnel_up(Options::default());
    let flood = Flood::start(&scene.lab).unwrap();
    let far = scene.lab.host(Host::Far);
    let ping = std::thread::spawn(move || {
        far.command("ping").args(["-q", "-i", "0.01", "-c", "300", "10.42.0.2"]).output()
    });
    for _ in 0..3 {
        scene.daemon.kill().unwrap();
        let (daemon, ready) = scene.lab.start_narrowgate(&demo::config()).unwrap();
        scene.daemon = daemon;
        assert!(ready < READY, "{ready:?}");
    }
    let output = ping.join().unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(" 0% packet loss"), "{said}\n{}", scene.log());
    flood.end_after(10).unwrap();
    scene.assert_no_leak("after three kills and starts");
    scene.assert_wan_dns_works("after three kills and starts");
    scene.assert_uplink_works("after three kills and starts");
    scene.assert_mesh_works("after three kills and starts");
}

#[test]
fn a_foreign_flush_of_the_ruleset_opens_nothing() {
    let scene = Scene::tunnel_up(Options::default());
    let flood = Flood::start(&scene.lab).unwrap();
    for _ in 0..5 {
        scene.lab.run(Host::Node, "nft flush ruleset").unwrap();
        scene.assert_no_leak("nft flush ruleset");
    }
    flood.end_after(10).unwrap();
    scene.assert_no_leak("after nft flush ruleset");
    scene.assert_uplink_works("after nft flush ruleset");
    scene.assert_wan_dns_works("after nft flush ruleset");
}

#[test]
fn what_others_delete_is_back_within_a_second() {
    let scene = Scene::tunnel_up(Options::default());
    let count = |what: &str| scene.lab.run(Host::Node, what).unwrap().lines().count();
    let commands = ["ip rule", "ip -6 rule", "ip route show table 1", "ip -6 route show table 1"];
    let before: Vec<usize> = commands.iter().map(|command| count(command)).collect();
    for family in ["-4", "-6"] {
        scene.lab.run(Host::Node, &format!("ip {family} rule flush")).unwrap();
        scene.lab.run(Host::Node, &format!("ip {family} rule add lookup main priority 32766")).unwrap();
        scene.lab.run(Host::Node, &format!("ip {family} route flush table 1")).unwrap();
    }
    wait::until("rules and routes to be back", Duration::from_millis(1500), || {
        let now: Vec<usize> = commands.iter().map(|command| count(command)).collect();
        // The flush took the foreign rule for the default table as well, and that is not ours to mend.
        let back = now.iter().zip(&before).all(|(now, before)| now + 1 >= *before);
        Ok(back.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    scene.assert_no_leak("after a foreign flush of rules and routes");
    scene.assert_uplink_works("after a foreign flush of rules and routes");
}

#[test]
fn what_is_taken_away_time_and_again_is_counted_each_time_and_told_once() {
    let scene = Scene::uplink_up(Options::default());
    let healed = || {
        let (_, json, _) = scene.lab.narrowgate(&["status", "--json"])?;
        Ok(demo::json_number(&json, "healed").unwrap_or(0))
    };
    let before: u64 = healed().map_err(|error: narrowgate_lab::Error| error).unwrap();
    for n in 1..=10 {
        scene.lab.run(Host::Node, "ip -6 rule del priority 100").unwrap();
        wait::until("the rule to be back", Duration::from_secs(1), || {
            Ok((healed()? >= before + n).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    }
    let told = scene.log().lines().filter(|line| line.contains("took away")).count();
    assert_eq!(told, 1, "{}", scene.log());
}

#[test]
fn sysctls_that_others_set_are_back_within_a_second() {
    let scene = Scene::uplink_up(Options::default());
    let ours = [("net.ipv4.fwmark_reflect", "1"), ("net.ipv4.conf.wan.src_valid_mark", "1")];
    for (name, wanted) in ours {
        scene.lab.run(Host::Node, &format!("sysctl -qw {name}=0")).unwrap();
        wait::until(name, Duration::from_secs(1), || {
            let value = scene.lab.run(Host::Node, &format!("sysctl -n {name}"))?;
            Ok((value.trim() == wanted).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    }
}

#[test]
fn the_mtu_that_the_household_announces_is_ipv6s_on_the_uplink_until_we_go() {
    let lab = Lab::new(Options { ra_mtu: Some(1492), ..Options::default() }).unwrap();
    let before = Snapshot::of(&lab.host(Host::Node)).unwrap();
    let mut scene = Scene::with(lab);
    scene.wait_addresses();
    wait::until("the MTU", SOON, || {
        let value = scene.lab.run(Host::Node, "sysctl -n net.ipv6.conf.wan.mtu")?;
        Ok((value.trim() == "1492").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    let status = scene.daemon.terminate(SOON).unwrap();
    assert!(status.success(), "{status}\n{}", scene.log());
    before.assert_same(&Snapshot::of(&scene.lab.host(Host::Node)).unwrap(), "the node").unwrap();
}

#[test]
fn a_resolver_that_dies_is_started_again() {
    let scene = Scene::uplink_up(Options::default());
    let children: Vec<u32> = demo::family(scene.daemon.pid()).into_iter().skip(1).collect();
    assert!(children.len() >= 2, "one process a resolver: {children:?}");
    for child in &children {
        let pid = Pid::from_raw(i32::try_from(*child).unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
    }
    scene.assert_wan_dns_works("after its resolvers were killed");
    let again: Vec<u32> = demo::family(scene.daemon.pid()).into_iter().skip(1).collect();
    assert!(again.iter().all(|child| !children.contains(child)), "{children:?} {again:?}");
    scene.assert_no_leak("after its resolvers were killed");
}

/// Between guard and rules, between listening and resolver, before the lease and after it: nobody cleans up behind it but the next.
#[test]
fn killed_at_any_moment_of_its_start_it_leaves_nothing_that_the_next_one_does_not_mend() {
    let mut scene = Scene::uplink_up(Options::default());
    let flood = Flood::start(&scene.lab).unwrap();
    for moment in 0..15 {
        scene.daemon.kill().unwrap();
        scene.daemon = scene.lab.spawn_narrowgate(&demo::config()).unwrap();
        // To be killed at that moment of it, whatever it is at.
        std::thread::sleep(Duration::from_millis(moment * moment));
    }
    scene.daemon.kill().unwrap();
    scene.daemon = scene.lab.start_narrowgate(&demo::config()).unwrap().0;
    scene.wait_addresses();
    flood.end_after(10).unwrap();
    scene.assert_no_leak("after all these ends");
    scene.assert_uplink_works("after all these ends");
    scene.assert_wan_dns_works("after all these ends");
    // The resolvers of those before have ended, when they have answered what they were asked.
    let resolvers =
        || scene.lab.run(Host::Node, "pgrep -fc resolver-child").map_or(0, |n| n.trim().parse().unwrap_or(0));
    wait::until("two resolvers", SOON, || Ok((resolvers() == 2).then_some(())))
        .unwrap_or_else(|error| panic!("{error}, but {}\n{}", resolvers(), scene.log()));
}

/// Nothing on the cable, or nobody who answers: what was learnt before is kept or dropped, and all comes back.
#[test]
fn restarted_without_a_carrier_or_without_a_household_it_finds_all_of_it_when_it_is_back() {
    let mut scene = Scene::uplink_up(Options::default());
    let flood = Flood::start(&scene.lab).unwrap();
    let restart = |scene: &mut Scene| {
        scene.daemon.kill().unwrap();
        scene.daemon = scene.lab.start_narrowgate(&demo::config()).unwrap().0;
    };
    scene.lab.set_carrier(false).unwrap();
    restart(&mut scene);
    scene.lab.set_carrier(true).unwrap();
    scene.wait_addresses();
    scene.assert_wan_dns_works("restarted without a carrier");
    scene.assert_uplink_works("restarted without a carrier");
    scene.lab.stop_household().unwrap();
    restart(&mut scene);
    restart(&mut scene);
    scene.lab.start_household(&Options::default()).unwrap();
    scene.wait_addresses();
    scene.assert_wan_dns_works("restarted without a household");
    scene.assert_uplink_works("restarted without a household");
    flood.end_after(10).unwrap();
    scene.assert_no_leak("restarted in all states");
}

/// In the same runtime directory it is the lock that the second finds; in another one, what the first holds in the kernel.
#[test]
fn a_second_daemon_says_so_and_leaves_and_the_first_goes_on() {
    let mut scene = Scene::uplink_up(Options::default());
    let other = scene.lab.file("other-runtime").to_string_lossy().into_owned();
    for arguments in [&["run"][..], &["--runtime-dir", &other, "run"]] {
        let (code, _, err) = scene.lab.narrowgate(arguments).unwrap();
        assert_eq!(code, 1, "{arguments:?}: {err}");
        assert!(
            err.contains("another narrowgate") || err.contains("another program listens"),
            "{arguments:?}: {err}"
        );
        assert!(scene.daemon.runs());
        scene.assert_no_leak("after a second daemon");
        scene.assert_wan_dns_works("after a second daemon");
        let (_, json, _) = scene.lab.narrowgate(&["status", "--json"]).unwrap();
        assert!(json.contains("\"standing\":true"), "{json}");
    }
    scene.assert_uplink_works("after a second daemon");
}

#[test]
fn a_bad_config_is_named_with_line_and_column_and_changes_nothing() {
    let lab = Lab::new(Options::default()).unwrap();
    let before = Snapshot::of(&lab.host(Host::Node)).unwrap();
    let bad = [
        ("config uplink 'wan'\n\toption device 'wan\n", 2),
        ("config uplink 'wan'\n\toption devise 'wan'\n", 2),
        ("config nonsense 'wan'\n", 1),
        ("option device 'wan'\n", 1),
        ("config globals\n\tset x\n", 2),
        ("config narrowgate 'globals'\n\toption mark 'zero'\n", 2),
        ("config narrowgate 'globals'\n\toption table '0'\n", 2),
        ("config uplink 'wan'\n\toption device 'wan'\n\tlist dns 'no address'\n", 3),
        ("config uplink 'wan'\n\toption device 'a-name-that-is-too-long-for-a-device'\n", 2),
        ("config uplink 'wan'\n\toption device 'wan'\n\toption provider 'magic'\n", 3),
        ("config tunnel 't'\n\tlist peer 'vpn.example.net:99999'\n", 2),
        ("config resolver 'r'\n\tlist listen '127.0.0.1'\n\toption via 'nowhere'\n", 3),
    ];
    for (config, line) in bad {
        lab.write("narrowgate.conf", config).unwrap();
        for command in ["check", "run"] {
            let (code, out, err) = lab.narrowgate(&[command]).unwrap();
            assert_eq!(code, 2, "{command} of {config:?} said {out}{err}");
            let place = format!("narrowgate.conf:{line}:");
            let said = format!("{out}{err}");
            assert!(said.contains(&place), "{command} of {config:?} does not say {place}: {said}");
        }
        before.assert_same(&Snapshot::of(&lab.host(Host::Node)).unwrap(), "the node").unwrap();
    }
}

#[test]
fn a_reload_of_a_bad_config_keeps_the_old_one() {
    let mut scene = Scene::tunnel_up(Options::default());
    scene.lab.write("narrowgate.conf", "config uplink 'wan'\n\toption devise 'wan'\n").unwrap();
    scene.daemon.signal(Signal::SIGHUP).unwrap();
    scene.lab.wait_logged(&scene.daemon, "narrowgate.conf:2:", SOON).unwrap();
    assert!(scene.daemon.runs());
    scene.assert_no_leak("after a bad reload");
    scene.assert_mesh_works("after a bad reload");
}

#[test]
fn a_lease_is_renewed_within_seconds() {
    let scene = Scene::uplink_up(Options { renew_after: Some(3), ..Options::default() });
    // The first two are the discovery and the request; a renewal goes to the server itself, not to everybody.
    let renewal = scene.capture.wait_for("renewal", Duration::from_secs(8), |seen| {
        seen.kind.label() == "DHCPv4" && seen.frame.to != [0xff; 6]
    });
    renewal.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    scene.assert_uplink_works("after a renewal");
    scene.capture.assert_no_leak("while renewing").unwrap();
}

#[test]
fn a_lease_is_given_back_on_sigterm() {
    let mut scene = Scene::uplink_up(Options::default());
    scene.daemon.terminate(SOON).unwrap();
    scene
        .lab
        .wait_log("home", "DHCPRELEASE", 0, SOON)
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
}

#[test]
fn status_tells_what_it_has() {
    let scene = Scene::tunnel_up(Options::default());
    let (code, table, err) = scene.lab.narrowgate(&["status"]).unwrap();
    assert_eq!(code, 0, "{err}");
    for address in scene.addresses() {
        assert!(table.contains(&address.to_string()), "{address} is not in\n{table}");
    }
    let (code, json, err) = scene.lab.narrowgate(&["status", "--json"]).unwrap();
    assert_eq!(code, 0, "{err}");
    assert!(demo::json_number(&json, "first_apply_us").is_some(), "{json}");
    assert!(json.contains("\"standing\":true"), "{json}");
}
