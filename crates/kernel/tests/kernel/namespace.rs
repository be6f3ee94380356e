//! A network namespace for this thread, with what a test needs in it.

use narrowgate_kernel::{Kernel, Real, Scope};
use narrowgate_model::Time;
use narrowgate_model::state::{Observed, Step};
use narrowgate_sys::link;
use std::process::Command;
use std::time::{Duration, Instant};

pub const NOW: Time = Time(5_000_000);

/// Enters a new namespace, which goes when the thread and its children have gone, and opens the kernel there.
pub fn enter() -> Real {
    link::new_network_namespace().expect("a new network namespace: these tests need root");
    Real::open().expect("netlink sockets")
}

/// The same, with a device `wan` that is up and has a carrier, and one `lan`, its other end.
pub fn enter_with_wan() -> (Real, u32) {
    let real = enter();
    // No duplicate address detection: an address is there when it has been added.
    sh("ip link add wan type veth peer name lan");
    sh("sysctl -qw net.ipv6.conf.wan.accept_dad=0 net.ipv6.conf.lan.accept_dad=0");
    sh("ip link set lan addrgenmode none && ip link set lo up && ip link set lan up && ip link set wan up");
    // The kernel notices a carrier when it has time to; only then are wan's own address and routes there.
    let deadline = Instant::now() + Duration::from_secs(10);
    let ready = || {
        let routes = sh("ip -6 route show dev wan; ip -6 route show table local dev wan");
        ["fe80::/64", "local fe80::", "ff00::/8"].iter().all(|route| routes.contains(route))
    };
    while !ready() {
        assert!(
            Instant::now() < deadline,
            "wan has no link-local address: {}",
            sh("ip address; ip -6 route")
        );
        std::thread::yield_now();
    }
    let index = link::index_of("wan").expect("the index of wan");
    (real, index)
}

/// Runs a shell command in the namespace and returns what it prints.
pub fn sh(command: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(command).output().expect("sh");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

pub fn scope() -> Scope {
    Scope { table: 1, devices: vec!["wan".to_owned()], sysctls: Vec::new() }
}

pub fn observe(real: &mut Real) -> Observed {
    real.observe(&scope(), NOW).expect("observing")
}

/// Applies a step twice; what is there must be the same after both.
pub fn apply_twice(real: &mut Real, step: &Step) -> Observed {
    real.apply(step, NOW).unwrap_or_else(|e| panic!("{step:?}: {e}"));
    let once = observe(real);
    real.apply(step, NOW).unwrap_or_else(|e| panic!("again {step:?}: {e}"));
    let twice = observe(real);
    assert_eq!(
        (&once.routes, &once.rules, &once.guard),
        (&twice.routes, &twice.rules, &twice.guard),
        "{step:?}"
    );
    assert_eq!(once.addresses.len(), twice.addresses.len(), "{step:?}");
    twice
}
