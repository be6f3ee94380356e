//! Links and sysctls.

use crate::namespace::{NOW, apply_twice, enter, enter_with_wan, observe, sh};
use narrowgate_kernel::{Kernel, Scope};
use narrowgate_model::state::Step;

#[test]
fn a_link_is_switched_on_and_off() {
    let (mut real, index) = enter_with_wan();
    let down = Step::SetLink { name: "wan".to_owned(), up: false };
    let up = Step::SetLink { name: "wan".to_owned(), up: true };
    let wan = |observed: narrowgate_model::state::Observed| {
        observed.links.into_iter().find(|l| l.name == "wan").unwrap()
    };
    let link = wan(apply_twice(&mut real, &down));
    assert_eq!((link.index, link.up, link.carrier), (index, false, false));
    let link = wan(apply_twice(&mut real, &up));
    assert_eq!((link.index, link.up, link.carrier, link.mtu), (index, true, true, 1500));
    let mac = link.mac.unwrap().map(|b| format!("{b:02x}")).join(":");
    assert!(sh("ip -br link show wan").contains(&mac));
    sh("ip link set lan down");
    let link = wan(observe(&mut real));
    assert_eq!((link.up, link.carrier), (true, false));
}

#[test]
fn a_carrier_that_was_away_between_two_looks_has_been_counted() {
    let (mut real, _) = enter_with_wan();
    let mut wan = || real.links().unwrap().into_iter().find(|l| l.name == "wan").unwrap();
    let before = wan();
    sh("ip link set lan down; ip link set lan up");
    let after = wan();
    assert!(before.carrier && after.carrier);
    assert_eq!(after.carrier_losses, before.carrier_losses + 1);
}

#[test]
fn a_port_tells_its_bridge() {
    let (mut real, index) = enter_with_wan();
    let mut bridge_of = |name: &str| {
        let link = real.links().unwrap().into_iter().find(|l| l.name == name).unwrap();
        (link.index, link.bridge)
    };
    assert_eq!(bridge_of("wan"), (index, None));
    sh("ip link add bridge0 type bridge; ip link set wan master bridge0");
    let (bridge, none) = bridge_of("bridge0");
    assert_eq!(none, None);
    assert_eq!(bridge_of("wan"), (index, Some(bridge)));
}

#[test]
fn a_link_that_is_not_there_is_named_in_the_error() {
    let mut real = enter();
    let error = real.apply(&Step::SetLink { name: "wan".to_owned(), up: true }, NOW).unwrap_err();
    assert_eq!(error.errno(), Some(19));
    assert!(error.to_string().starts_with("switching wan on: No such device"), "{error}");
}

#[test]
fn loopback_has_no_hardware_address() {
    let mut real = enter();
    let links = real.links().unwrap();
    assert_eq!(
        links.iter().map(|l| (l.name.as_str(), l.mac, l.up)).collect::<Vec<_>>(),
        [("lo", None, false)]
    );
}

#[test]
fn sysctls_are_those_of_the_namespace_and_missing_ones_are_left_out() {
    let (mut real, _) = enter_with_wan();
    let path = "net/ipv4/conf/wan/rp_filter".to_owned();
    let scope =
        Scope { sysctls: vec![path.clone(), "net/ipv4/conf/nope/rp_filter".to_owned()], ..Scope::default() };
    for value in ["2", "0"] {
        real.apply(&Step::SetSysctl { path: path.clone(), value: value.to_owned() }, NOW).unwrap();
        let seen = real.observe(&scope, NOW).unwrap().sysctls;
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(path.clone(), value.to_owned())]);
        assert_eq!(sh("sysctl -n net.ipv4.conf.wan.rp_filter").trim(), value);
    }
}
