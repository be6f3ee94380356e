//! What Gluon's own programs meet on a node: the wrappers, the file of the WAN's servers, the config of fixed ones.

use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use narrowgate_lab::capture::Seen;
use narrowgate_lab::daemon::narrowgate;
use narrowgate_lab::frame::{Content, Transport};
use narrowgate_lab::layout::{FOREIGN4, FOREIGN6, ROUTER_LL};
use narrowgate_lab::{Host, Lab, Options, wait};

use crate::scene::{SOON, Scene};

/// A host of the internet that is no VPN server.
const ELSEWHERE: &str = "www.example.org";

/// A frame to that host's port.
fn to_elsewhere(seen: &Seen, port: u16) -> bool {
    let Content::Ip(packet) = &seen.frame.content else { return false };
    let at = match packet.transport {
        Transport::Udp { destination, .. } | Transport::Tcp { destination, .. } => destination,
        _ => return false,
    };
    at == port && [IpAddr::from(FOREIGN4), FOREIGN6.into()].contains(&packet.destination)
}

#[test]
fn its_wrappers_give_the_command_the_wans_route_and_dns() {
    let scene = Scene::uplink_up(Options::default());
    let node = scene.lab.host(Host::Node);
    for name in ["gluon-wan", "gluon-wan-dns"] {
        scene.capture.reset();
        let wrapper = scene.lab.file(name);
        symlink(narrowgate().unwrap(), &wrapper).unwrap();
        let url = format!("http://{ELSEWHERE}/");
        let page = node.command(&wrapper).args(["busybox", "wget", "-q", "-O-", &url]).read();
        page.unwrap_or_else(|error| panic!("{name} wget: {error}\n{}", scene.log()));
        scene.capture.wait_for("connection", SOON, |seen| to_elsewhere(seen, 80)).unwrap();

        // An SNTP question; nobody answers, but it may be asked.
        let ask = "import socket, sys\nto = socket.getaddrinfo(sys.argv[1], 123, type=socket.SOCK_DGRAM)[0]\n\
                   socket.socket(to[0], to[1]).sendto(b'\\x23' + bytes(47), to[4])";
        let asked = node.command(&wrapper).args(["python3", "-c", ask, ELSEWHERE]).read();
        asked.unwrap_or_else(|error| panic!("{name} SNTP: {error}\n{}", scene.log()));
        let seen = scene.capture.wait_for("question for the time", SOON, |seen| to_elsewhere(seen, 123));
        seen.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    }
    scene.capture.reset();
    let url = format!("http://{FOREIGN4}/");
    let plain = node.command("timeout").args(["5", "busybox", "wget", "-q", "-O-", &url]).output().unwrap();
    assert!(!plain.status.success(), "without the wrapper there is no way to it");
    scene.capture.assert_no_leak("without the wrapper").unwrap();
}

/// Waits until the file of the WAN's servers has this content.
fn wait_servers(scene: &Scene, what: &str, wanted: &str) -> Duration {
    let started = Instant::now();
    let read = || {
        scene.lab.run(Host::Node, "cat /var/gluon/wan-dnsmasq/resolv.conf").unwrap_or_else(|e| e.to_string())
    };
    let waited = wait::until(what, SOON, || Ok((read() == wanted).then_some(())));
    waited.unwrap_or_else(|error| panic!("{error}: {}\n{}", read(), scene.log()));
    started.elapsed()
}

#[test]
fn its_file_of_servers_is_written_and_its_config_of_fixed_ones_is_watched() {
    let lab = Lab::new(Options::default()).unwrap();
    // The machine is no Gluon node; this host is one.
    lab.run(Host::Node, "mount -t tmpfs tmpfs /var").unwrap();
    lab.run(Host::Node, "mkdir /var/gluon").unwrap();
    let mut scene = Scene::with(lab);
    scene.wait_addresses();
    let (network, lab) = (scene.lab.network(), &scene.lab);
    let status = || lab.narrowgate(&["status"]).unwrap().1;
    let (router4, router6) = (network.router4, network.router6);
    let learnt = wait::until("three learnt servers", SOON, || {
        let text = lab.run(Host::Node, "cat /var/gluon/wan-dnsmasq/resolv.conf").unwrap_or_default();
        Ok((text.lines().count() == 3).then_some(text))
    });
    let learnt = learnt.unwrap_or_else(|error| panic!("{error}\n{}", status()));
    for server in [format!("{router4}"), format!("{router6}"), format!("{ROUTER_LL}%wan")] {
        assert!(learnt.lines().any(|line| line == format!("nameserver {server}")), "{server}: {learnt}");
    }

    lab.write("gluon-wan-dnsmasq", &format!("config static\n\tlist server '{router4}'\n")).unwrap();
    wait_servers(&scene, "the fixed server", &format!("nameserver {router4}\n"));
    scene.assert_wan_dns_works("with a fixed server");
    // A mistake changes nothing.
    scene.lab.write("gluon-wan-dnsmasq", "config static\n\tlist server 'no server'\n").unwrap();
    scene.lab.wait_logged(&scene.daemon, "going on with the old one", SOON).unwrap();
    wait_servers(&scene, "the fixed server, still", &format!("nameserver {router4}\n"));
    // Nor does it keep the guard from standing after the next start: then the learnt servers are asked.
    scene.daemon.terminate(SOON).unwrap();
    scene.daemon = scene.lab.start_narrowgate(&narrowgate_lab::demo::config()).unwrap().0;
    scene.lab.wait_logged(&scene.daemon, "starting without its servers", SOON).unwrap();
    wait::until("the learnt servers again", SOON, || {
        let text = scene.lab.run(Host::Node, "cat /var/gluon/wan-dnsmasq/resolv.conf")?;
        Ok((text.lines().count() == 3).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    scene.capture.assert_no_leak("all the while").unwrap();
}
