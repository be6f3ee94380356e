//! Promises about the servers that a resolver gets.

use crate::make::*;
use narrowgate_model::config::{Resolver, Uplink, Via};
use narrowgate_model::facts::UplinkState;
use narrowgate_model::{ByName, Config, Facts};
use narrowgate_policy::{ip_versions, resolver_state, upstreams};

fn servers(config: &Config, facts: &ByName<Facts>) -> Vec<String> {
    upstreams(config, &config.resolvers[0], facts).iter().map(ToString::to_string).collect()
}

fn says(config: &Config, facts: &ByName<Facts>) -> (UplinkState, String) {
    resolver_state(config, &config.resolvers[0], facts)
}

#[test]
fn learnt_servers_come_in_order_once_each_and_link_local_ones_with_their_device() {
    let mut f = facts();
    f.dns.push(dns("192.168.1.1"));
    assert_eq!(servers(&config(), &learnt(f)), ["fe80::1%eth0", "192.168.1.1"]);
}

#[test]
fn servers_written_at_the_uplink_replace_the_learnt_ones_and_those_at_the_resolver_replace_all() {
    let mut config = config();
    config.uplinks[0].dns = vec!["192.0.2.53".parse().unwrap()];
    assert_eq!(servers(&config, &learnt(facts())), ["192.0.2.53"]);
    config.resolvers[0].servers = vec!["[fe80::5]:5353".parse().unwrap(), "192.0.2.54".parse().unwrap()];
    assert_eq!(servers(&config, &learnt(facts())), ["[fe80::5%eth0]:5353", "192.0.2.54"]);
}

#[test]
fn a_server_without_a_way_to_it_is_left_out() {
    let mut f = facts();
    f.routes.retain(|r| r.dst.is_ipv6());
    assert_eq!(servers(&config(), &learnt(f)), ["fe80::1%eth0"]);
    let mut f = facts();
    f.link.as_mut().unwrap().carrier = false;
    assert_eq!(servers(&config(), &learnt(f)), [""; 0]);
}

#[test]
fn by_an_ipv6_router_nobody_is_asked_before_there_is_an_address_that_answers_come_back_to() {
    let mut f = facts();
    f.addresses.retain(|a| !a.prefix.is_ipv6());
    f.dns.push(dns("2001:db8:53::1"));
    assert_eq!(servers(&config(), &learnt(f.clone())), ["fe80::1%eth0", "192.168.1.1"]);
    f.addresses.push(has("2001:db8:1::77/64"));
    assert_eq!(servers(&config(), &learnt(f))[2], "2001:db8:53::1");
}

#[test]
fn the_uplink_with_the_lower_metric_is_asked_first() {
    let mut config = config();
    config.uplinks.push(Uplink { metric: 1, ..Uplink::new("cellular", "wwan0") });
    let mut both = learnt(facts());
    both.insert(
        "cellular".into(),
        Facts { link: Some(link(4, "wwan0", true)), dns: vec![dns("fe80::1")], ..facts() },
    );
    assert_eq!(servers(&config, &both), ["fe80::1%wwan0", "fe80::1%eth0", "192.168.1.1%eth0"]);
}

#[test]
fn of_several_uplinks_each_is_asked_for_its_own_servers_though_they_have_one_address() {
    let mut config = config();
    config.uplinks.push(Uplink::new("cellular", "wwan0"));
    let second = |up| Facts { link: Some(link(4, "wwan0", up)), dns: vec![dns("192.168.1.1")], ..facts() };
    let both = |up| ByName::from([("wan".to_owned(), facts()), ("cellular".to_owned(), second(up))]);
    assert_eq!(servers(&config, &both(true)), ["fe80::1%eth0", "192.168.1.1%eth0", "192.168.1.1%wwan0"]);
    assert_eq!(servers(&config, &both(false)), ["fe80::1%eth0", "192.168.1.1%eth0"]);
    config.uplinks[1].dns = vec!["127.0.0.1:5300".parse().unwrap()];
    assert_eq!(servers(&config, &both(true))[2], "127.0.0.1:5300", "this host is behind no uplink");
    config.resolvers[0].servers = vec!["192.0.2.54".parse().unwrap()];
    assert_eq!(servers(&config, &both(true)), ["192.0.2.54%eth0", "192.0.2.54%wwan0"]);
}

#[test]
fn the_state_says_what_is_missing() {
    let config = config();
    let state = |change: fn(&mut Facts)| {
        let mut f = facts();
        f.dns.remove(0); // a link-local server needs no route
        change(&mut f);
        says(&config, &learnt(f))
    };
    use UplinkState::*;
    assert_eq!(says(&config, &ByName::new()), (NoDevice, "uplink wan: there is no device eth0".into()));
    assert_eq!(
        state(|f| f.link.as_mut().unwrap().up = false),
        (Down, "uplink wan: eth0 is switched off".into())
    );
    assert_eq!(
        state(|f| f.link.as_mut().unwrap().carrier = false),
        (NoCarrier, "uplink wan: no carrier on eth0".into())
    );
    assert_eq!(state(|f| f.routes.clear()), (Waiting, "uplink wan: no address and route yet on eth0".into()));
    assert_eq!(state(|f| f.dns.clear()), (Waiting, "uplink wan: no DNS server learnt yet on eth0".into()));
    assert_eq!(state(|_| ()).0, Up);
}

#[test]
fn with_a_written_server_a_route_is_all_that_is_needed() {
    let mut config = config();
    config.resolvers[0].servers = vec!["192.0.2.54".parse().unwrap()];
    let mut f = facts();
    f.dns.clear();
    assert_eq!(says(&config, &learnt(f.clone())).0, UplinkState::Up);
    f.routes.retain(|r| r.dst.is_ipv6());
    let (state, why) = says(&config, &learnt(f));
    assert_eq!(
        (state, why.as_str()),
        (UplinkState::Waiting, "uplink wan: no route to any DNS server on eth0")
    );
}

#[test]
fn the_mesh_resolver_knows_of_no_uplink() {
    let mesh =
        Resolver { via: Via::Mesh, servers: vec!["fd42::1".parse().unwrap()], ..Resolver::default_wan() };
    assert_eq!(upstreams(&config(), &mesh, &learnt(facts())).len(), 1);
    assert_eq!(resolver_state(&config(), &mesh, &ByName::new()).0, UplinkState::Up);
}

#[test]
fn an_ip_version_leads_out_when_it_has_a_router_and_an_address_that_is_no_local_one() {
    let with = |addresses: &[&str], routes: &[(&str, &str)]| {
        let facts = Facts {
            addresses: addresses.iter().map(|a| has(a)).collect(),
            routes: routes.iter().map(|(dst, via)| by(dst, via)).collect(),
            ..facts()
        };
        ip_versions(&config(), &learnt(facts))
    };
    let (v4, v6) = (("0.0.0.0/0", "192.168.1.1"), ("::/0", "fe80::1"));
    assert_eq!(with(&["192.168.1.77/24", "2001:db8:1::77/64"], &[v4, v6]), (true, true));
    assert_eq!(with(&["2001:db8:1::77/64"], &[v6]), (false, true));
    assert_eq!(with(&["192.168.1.77/24"], &[v4, v6]), (true, false), "no address yet");
    assert_eq!(with(&["192.168.1.77/24", "fd00::77/64"], &[v4, v6]), (true, false), "a unique local one");
    assert_eq!(with(&["192.168.1.77/24", "2001:db8:1::77/64"], &[v4]), (true, false), "no router");
    let mut down = facts();
    down.link = None;
    assert_eq!(ip_versions(&config(), &learnt(down)), (false, false));
}
