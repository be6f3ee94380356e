//! The tunnel comes up at the first try, whichever way fastd is started and whichever family the household has.

use std::time::{Duration, Instant};

use narrowgate_lab::capture::{is_dhcp_ack, is_router_advertisement};
use narrowgate_lab::fastd::Start;
use narrowgate_lab::{Families, Options};

use crate::scene::Scene;

/// From the household's answer that made it possible to the tunnel: less than the first try that was wasted costs, which is
/// 5 s with glibc and 15 or more with fastd. How many milliseconds it is says `make bench-uplink`.
const AT_THE_FIRST_TRY: Duration = Duration::from_secs(4);

fn comes_up(start: Start, families: Families, dhcp_ping: bool) {
    let options = Options { household: families, gate_name: families, dhcp_ping, ..Options::default() };
    let mut scene = Scene::ready(options);
    let up = scene.start_fastd(start);
    let took = up - scene.daemon.started;
    let answer =
        first_answer(&scene).unwrap_or_else(|| panic!("no answer of the household's seen\n{}", scene.log()));
    let since = up.saturating_duration_since(answer);
    println!("{start:?} {families:?}: tunnel after {took:?}, {since:?} after the household's answer");
    assert!(since < AT_THE_FIRST_TRY, "{since:?} after the household's answer\n{}", scene.log());
    scene.capture.assert_no_leak("while coming up").unwrap();
}

/// When the household first told something that made a tunnel possible: an RA, or a lease.
fn first_answer(scene: &Scene) -> Option<Instant> {
    let ra = scene.capture.first_answer(is_router_advertisement);
    let lease = scene.capture.first_answer(is_dhcp_ack);
    let families = scene.lab.options().household;
    let usable = [ra.filter(|_| families.v6()), lease.filter(|_| families.v4())];
    usable.into_iter().flatten().min()
}

#[test]
fn in_its_group_over_both() {
    comes_up(Start::InGroup, Families::Both, false);
}

#[test]
fn in_its_group_over_ipv4() {
    comes_up(Start::InGroup, Families::V4, false);
}

#[test]
fn in_its_group_over_ipv6() {
    comes_up(Start::InGroup, Families::V6, false);
}

#[test]
fn plainly_over_both() {
    comes_up(Start::Plain, Families::Both, false);
}

#[test]
fn plainly_over_ipv4() {
    comes_up(Start::Plain, Families::V4, false);
}

#[test]
fn plainly_over_ipv6() {
    comes_up(Start::Plain, Families::V6, false);
}

#[test]
fn by_exec_over_both() {
    comes_up(Start::Exec, Families::Both, false);
}

#[test]
fn by_exec_over_ipv4() {
    comes_up(Start::Exec, Families::V4, false);
}

#[test]
fn by_exec_over_ipv6() {
    comes_up(Start::Exec, Families::V6, false);
}

#[test]
fn in_its_group_where_the_household_keeps_a_lease_back_for_3_s_and_has_ipv6() {
    comes_up(Start::InGroup, Families::Both, true);
}

#[test]
fn in_its_group_where_the_household_keeps_a_lease_back_for_3_s() {
    comes_up(Start::InGroup, Families::V4, true);
}

/// fastd is there before the uplink: its question waits for the uplink instead of failing.
#[test]
fn a_fastd_that_asks_before_the_uplink_exists_waits_for_it() {
    let mut scene = Scene::ready(Options::default());
    // READY comes before any answer of the household's; fastd asks at once.
    let up = scene.start_fastd(Start::InGroup);
    assert!(up - scene.daemon.started < AT_THE_FIRST_TRY, "{}", scene.log());
    scene.wait_mesh();
    scene.assert_mesh_works("after the tunnel came up");
}
