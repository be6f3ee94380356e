//! What is refused or broken at a bad moment: it is worked round, or waited out.

use narrowgate_lab::demo::config;
use narrowgate_lab::layout::GATE_NAME;
use narrowgate_lab::{Host, Lab, Options, wait};

use crate::scene::{SOON, Scene};

/// The daemon has no descriptors left when its resolver dies, and the kernel goes on telling it things.
#[test]
fn a_resolver_that_could_not_be_started_is_tried_again_whatever_else_happens() {
    let scene = Scene::uplink_up(Options::default());
    let node = |line: &str| {
        let done = scene.lab.host(Host::Node).command("sh").args(["-c", line]).read();
        done.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()))
    };
    let runtime = scene.lab.file("runtime");
    let limit = |soft: &str| {
        node(&format!("prlimit --pid $(cat {}/lock) --nofile={soft}:", runtime.display()));
    };
    let before = node("ulimit -Sn");
    // Fewer than it has: it can open none.
    limit("8");
    node(&format!("kill -9 $(cat {}/resolver.wan)", runtime.display()));
    scene.lab.wait_logged(&scene.daemon, "resolver wan: does not run", SOON).unwrap();
    // Somebody's doing, which it would look at if it could: so it has been told of something else before the resolver's turn comes.
    node("ip rule del pref 100");
    scene.lab.wait_logged(&scene.daemon, "Too many open files", SOON).unwrap();
    limit(before.trim());
    scene.assert_wan_dns_works("after it ran out of descriptors");
    scene.capture.assert_no_leak("while it had none").unwrap();
}

/// Pipes that nobody writes to where its files were, a directory where it wants to write: none of it is waited for, and the tunnel's
/// DNS does not depend on it.
#[test]
fn what_lies_in_its_directories_does_not_keep_it_from_starting() {
    let lab = Lab::new(Options::default()).unwrap();
    let (runtime, state) = (lab.file("runtime"), lab.file("state"));
    let files = [
        "runtime/hooks",
        "runtime/cgroups",
        "runtime/resolver.wan",
        "state/peers",
        "state/secret",
        "state/lease-wan",
    ];
    for dir in [&runtime.join("before/not-empty"), &state] {
        std::fs::create_dir_all(dir).unwrap();
    }
    for file in files {
        lab.run(Host::Node, &format!("mkfifo {}", lab.file(file).display())).unwrap();
    }
    let scene = Scene::with_config(lab, &config());
    scene.wait_addresses();
    scene.assert_wan_dns_works("with pipes for files");
    let said = "before: Is a directory (os error 21): how the system was before would be lost in a crash";
    scene.lab.wait_logged(&scene.daemon, said, SOON).unwrap();
    // Its own files are in their place again.
    wait::until("the peers' addresses on disk", SOON, || {
        let peers = std::fs::metadata(state.join("peers"))?.is_file();
        Ok((peers && std::fs::read_to_string(state.join("peers"))?.contains(GATE_NAME)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    scene.capture.assert_no_leak("with pipes for files").unwrap();
}
