//! Another process in the daemon's place, with nothing lost in between.

use narrowgate_lab::probe::Flood;
use narrowgate_lab::{Host, Options, demo};
use nix::sys::signal::Signal;

use crate::scene::{READY, SOON, Scene};

/// Calls `change` some times while unmarked packets and a ping through the tunnel go on.
fn nothing_is_lost(what: &str, mut change: impl FnMut(&mut Scene)) {
    let mut scene = Scene::tunnel_up(Options::default());
    let flood = Flood::start(&scene.lab).unwrap();
    let far = scene.lab.host(Host::Far);
    let ping = std::thread::spawn(move || {
        far.command("ping").args(["-q", "-i", "0.01", "-c", "200", "10.42.0.2"]).output()
    });
    for _ in 0..3 {
        change(&mut scene);
        scene.assert_wan_dns_works(what);
    }
    let output = ping.join().unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(" 0% packet loss"), "{what}: {said}\n{}", scene.log());
    flood.end_after(10).unwrap();
    scene.assert_no_leak(what);
    scene.assert_uplink_works(what);
    scene.assert_mesh_works(what);
}

#[test]
fn restarted_by_its_service_manager_it_leaves_everything_standing_for_the_next() {
    nothing_is_lost("SIGQUIT and a start", |scene| {
        scene.daemon.signal(Signal::SIGQUIT).unwrap();
        assert_eq!(scene.daemon.wait(SOON).unwrap().code(), Some(0));
        let (daemon, ready) = scene.lab.start_narrowgate(&demo::config()).unwrap();
        scene.daemon = daemon;
        assert!(ready < READY, "{ready:?}");
    });
}

#[test]
fn upgraded_in_place_it_is_the_same_process_and_ready_again() {
    nothing_is_lost("SIGUSR2", |scene| {
        let pid = scene.daemon.pid();
        scene.daemon.signal(Signal::SIGUSR2).unwrap();
        scene.daemon.wait_notify("READY=1", SOON).unwrap();
        assert!(scene.daemon.runs() && scene.daemon.pid() == pid);
    });
}
