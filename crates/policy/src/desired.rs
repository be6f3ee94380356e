//! What the kernel is to look like.

use crate::{egress, guard, routes, rules};
use alloc::{
    borrow::ToOwned,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};
use narrowgate_model::Gather;
use narrowgate_model::config::{ProviderKind, Uplink};
use narrowgate_model::facts::{AddressFact, UplinkState};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::nft::Ruleset;
use narrowgate_model::state::{Desired, Observed};
use narrowgate_model::{ByName, Config, Facts, PROTOCOL, Prefix, Time};

/// Everything that the desired state follows from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What the operator wants.
    pub config: &'a Config,
    /// Numbers of the tunnels' groups, as the caller looked them up.
    pub groups: &'a [u32],
    /// What is known of each uplink, by its section's name.
    pub facts: &'a ByName<Facts>,
    /// The kernel now: which devices there are, and which foreign rules and routes we have to live with.
    pub observed: &'a Observed,
    /// What the kernel can.
    pub capabilities: Capabilities,
    /// Facts whose time has passed do not count.
    pub now: Time,
}

/// What the kernel can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// nftables' hook `egress` in the family `netdev` (Linux 5.16, `CONFIG_NETFILTER_EGRESS`).
    pub egress: bool,
    /// The hook can be set for a device that is not there yet (Linux 6.16): it is guarded from its first frame.
    pub absent_devices: bool,
}

/// The desired state. It depends on nothing in `observed` that is ours: so a plan that was applied leaves it as it was.
pub fn desired(inputs: &Inputs<'_>) -> Desired {
    let uplinks = uplinks(inputs);
    let mut tables = guard::tables(inputs.config, inputs.groups, &uplinks, &inputs.observed.links);
    if inputs.capabilities.egress {
        tables.extend(egress::table(
            inputs.config,
            &uplinks,
            &inputs.observed.links,
            inputs.capabilities.absent_devices,
        ));
    }
    Desired {
        sysctls: sysctls(inputs.config, &uplinks, inputs.observed),
        links_up: uplinks
            .iter()
            .filter(|u| manages(u.config) && u.link.is_some())
            .map(|u| u.config.device.clone())
            .gather(),
        rules: rules::desired(inputs.config, inputs.observed),
        routes: routes::desired(inputs.config, &uplinks, inputs.observed, inputs.now),
        addresses: addresses(&uplinks, inputs.now),
        ruleset: Rc::new(Ruleset { tables }),
    }
}

/// The devices that have to be observed: the uplinks', once each.
pub fn scope_devices(config: &Config) -> Vec<String> {
    let mut devices = Vec::new();
    config.uplinks.iter().for_each(|u| note(&mut devices, &u.device));
    devices
}

/// Puts a name in its place of the alphabet, if it is not there.
pub(crate) fn note(names: &mut Vec<String>, name: &str) {
    let place = names.iter().take_while(|n| n.as_str() < name).count();
    if names.get(place).is_none_or(|n| n != name) {
        names.insert(place, name.to_owned());
    }
}

/// The sysctls that have to be observed, as paths below `/proc/sys/`. On the way down, and when an uplink was taken out of
/// the config, those in [`Before`](narrowgate_model::state::Before) have to be observed besides.
pub fn sysctl_paths(config: &Config) -> Vec<String> {
    let mut paths: Vec<String> = GLOBAL.iter().map(|(path, _)| (*path).to_owned()).gather();
    for device in scope_devices(config) {
        of_device(&device, config, true, &mut |path, _| paths.push(path));
        paths.push(path_of("ipv6", &device, MTU));
    }
    paths
}

/// The sysctls of a device: what brings it up sets them all.
fn of_device(device: &str, config: &Config, managed: bool, each: &mut dyn FnMut(String, &'static str)) {
    each(path_of("ipv4", device, SRC_VALID_MARK), "1");
    if config.uplinks.len() > 1 {
        each(path_of("ipv4", device, RP_FILTER), "2");
    }
    for (name, value) in MANAGED.iter().filter(|_| managed) {
        each(path_of("ipv6", device, name), value);
    }
}

/// An uplink with what is known of it.
pub(crate) struct Known<'a> {
    pub config: &'a Uplink,
    /// The device, if the kernel has it now.
    pub link: Option<&'a Link>,
    /// Nothing is known where the facts are of a device that is there no more.
    pub facts: Option<&'a Facts>,
    /// The prefixes that are on-link: what ARP and Neighbor Discovery may ask for.
    pub near: Vec<Prefix>,
    /// The addresses that are set on it.
    pub own: Vec<Prefix>,
    /// The device takes no IPv6 (`disable_ipv6`), and switching it on is not up to us.
    pub no_ipv6: bool,
    /// Nothing is at the other end of the cable: others are to be preferred.
    pub dead: bool,
}

#[inline(never)]
fn uplinks<'a>(inputs: &Inputs<'a>) -> Vec<Known<'a>> {
    let observed = inputs.observed;
    let known = |config: &'a Uplink| {
        let link = observed.links.iter().find(|l| l.name == config.device);
        let facts = inputs.facts.get(&config.name).filter(|f| same_device(f, link));
        let disabled = observed.sysctls.get(&path_of("ipv6", &config.device, DISABLE_IPV6));
        Known {
            config,
            link,
            facts,
            near: facts.map_or(Vec::new(), routes::onlink),
            own: facts
                .map_or(Vec::new(), |f| f.addresses.iter().map(|a| Prefix::host(a.prefix.addr)).gather()),
            no_ipv6: !manages(config) && disabled.is_some_and(|v| v.trim() == "1"),
            dead: facts.is_some_and(|f| f.state() == UplinkState::NoCarrier),
        }
    };
    inputs.config.uplinks.iter().map(known).gather()
}

/// A device of the same name may be another one: facts learnt on the old one's cable are not this one's.
fn same_device(facts: &Facts, link: Option<&Link>) -> bool {
    match (&facts.link, link) {
        (Some(then), Some(now)) => then.index == now.index,
        _ => true,
    }
}

/// Whether we bring the device up ourselves. Otherwise a foreign manager does, and its settings are none of our business.
pub(crate) fn manages(uplink: &Uplink) -> bool {
    matches!(uplink.provider, ProviderKind::Auto | ProviderKind::Builtin | ProviderKind::Static)
}

/// Only what the kernel has: a device that is not there has no sysctls, a kernel without IPv6 none of IPv6.
#[inline(never)]
fn sysctls(config: &Config, uplinks: &[Known<'_>], observed: &Observed) -> ByName<String> {
    let mut wanted = ByName::new();
    let mut want = |path: String, value: &str| {
        if observed.sysctls.contains_key(&path) {
            wanted.insert(path, value.to_owned());
        }
    };
    for (path, value) in GLOBAL {
        want((*path).to_owned(), value);
    }
    for uplink in uplinks {
        let managed = manages(uplink.config);
        of_device(&uplink.config.device, config, managed, &mut want);
        // As the kernel does where it reads the advertisements itself: never more than the device carries.
        if let (true, Some(Facts { mtu: Some(told), .. }), Some(link)) = (managed, uplink.facts, uplink.link)
            && *told >= MTU_MIN
        {
            want(path_of("ipv6", &uplink.config.device, MTU), &told.min(&link.mtu).to_string());
        }
    }
    wanted
}

fn path_of(family: &str, device: &str, name: &str) -> String {
    ["net/", family, "/conf/", device, "/", name].concat()
}

#[inline(never)]
fn addresses(uplinks: &[Known<'_>], now: Time) -> Vec<Address> {
    let mut wanted: Vec<Address> = Vec::new();
    for uplink in uplinks {
        let (Some(link), Some(facts)) = (uplink.link, uplink.facts) else { continue };
        for fact in facts.addresses.iter().filter(|a| alive(a.valid_until, now)) {
            let address = address(link.index, fact);
            if !wanted.iter().any(|a| a.link == link.index && a.prefix.addr == address.prefix.addr) {
                wanted.push(address);
            }
        }
    }
    wanted
}

fn address(link: u32, fact: &AddressFact) -> Address {
    // The kernel refuses an address that is preferred for longer than it is valid.
    let preferred = match (fact.preferred_until, fact.valid_until) {
        (Some(p), Some(v)) => Some(p.min(v)),
        (p, v) => p.or(v),
    };
    Address {
        link,
        prefix: fact.prefix,
        broadcast: fact.broadcast.filter(|_| !fact.prefix.is_ipv6()),
        preferred_until: preferred,
        valid_until: fact.valid_until,
        no_prefix_route: true,
        protocol: PROTOCOL,
        dad_failed: false,
        tentative: false,
    }
}

/// Whether a lifetime has a whole second left: the kernel counts in seconds and takes no lifetime of zero.
pub(crate) fn alive(until: Option<Time>, now: Time) -> bool {
    until.is_none_or(|until| until.seconds_from(now) > 0)
}

/// The look-up for the way back counts the mark that packets get on arrival (`rp_filter` would drop them else).
const SRC_VALID_MARK: &str = "src_valid_mark";
/// The way back to a server of the second uplink leads by the first where the first has a default route too: strict (1) would
/// drop what it answers, loose (2) asks for any way back. The greater of this and `all`'s counts, so 2 always does.
const RP_FILTER: &str = "rp_filter";
const DISABLE_IPV6: &str = "disable_ipv6";
/// What IPv6 sends at most, told in Router Advertisements: a household behind PPPoE announces 1492.
const MTU: &str = "mtu";
/// RFC 8200, 5.
const MTU_MIN: u32 = 1280;

/// What is answered to a packet with the mark carries the mark: connections accepted (TCP), resets, echo replies, errors.
const GLOBAL: &[(&str, &str)] = &[
    ("net/ipv4/fwmark_reflect", "1"),
    ("net/ipv4/tcp_fwmark_accept", "1"),
    ("net/ipv6/fwmark_reflect", "1"),
];

/// Of devices that we bring up: Router Advertisements are read by ourselves, since the kernel would put the default route
/// into the main table; optimistic addresses (RFC 4429) can be used at once. They count when an address is made, so they
/// are set before the device is switched on.
const MANAGED: &[(&str, &str)] =
    &[("accept_ra", "0"), ("optimistic_dad", "1"), ("use_optimistic", "1"), (DISABLE_IPV6, "0")];
