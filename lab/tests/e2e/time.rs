//! The time before the tunnel: WireGuard needs it, and a router's clock begins in 1970. `exec` lets an NTP client out.

use narrowgate_lab::daemon::Running;
use narrowgate_lab::layout::FOREIGN4;
use narrowgate_lab::serve::FAST;
use narrowgate_lab::{Host, Options, holder};

use crate::scene::{SOON, Scene};

/// A name from the WAN resolver and an answer over the WAN; without `exec` neither.
#[test]
fn ntp_through_exec_works_before_the_tunnel_is_up() {
    let scene = Scene::uplink_up(Options::default());
    let server = scene.lab.host(Host::Inet).command(holder::program().unwrap()).arg("time");
    let server = server.log_to(&scene.lab.log("time")).unwrap().spawn().unwrap();
    let _server = Running::adopt("time", server);
    scene.lab.wait_log("time", "serving the time", 0, SOON).unwrap();

    let name = "ntp.any.example.org";
    let node = scene.lab.host(Host::Node);
    let plain = node.command("ntpdig").args(["-t", "1", "-4", &FOREIGN4.to_string()]).output().unwrap();
    assert!(!String::from_utf8_lossy(&plain.stdout).contains("stratum"), "{plain:?}");
    scene.assert_no_leak("without exec");

    // What the user lets out on purpose is no leak.
    scene.capture.adjust(|context| {
        context.other_names.push(name.to_owned());
        context.gate.0.push(FOREIGN4.into());
        context.gate.1.push(123);
    });
    // It only asks: nobody's clock is set.
    let (code, said, err) = scene.lab.narrowgate(&["exec", "--", "ntpdig", "-4", "-t", "5", name]).unwrap();
    let offset = said.split_whitespace().find_map(|word| word.strip_prefix('+')?.parse::<f64>().ok());
    let fast = FAST.as_secs_f64();
    assert!(offset.is_some_and(|o| (o - fast).abs() < 5.0), "{code}: {said}{err}\n{}", scene.log());
    scene.assert_no_leak("after the time was asked for");
}
