//! The desired state, the observed one, and the steps from one to the other.

use crate::ByName;
use crate::net::{Address, Link, Route, Rule};
use crate::nft::{ChainPrint, Ruleset};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// What the kernel is to look like. Policy makes it from config and facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// Path below `/proc/sys/` (slashes, so that device names with dots work) and value.
    pub sysctls: ByName<String>,
    /// Devices that must be switched on, by name.
    pub links_up: Vec<String>,
    /// Rules, all with our protocol number.
    pub rules: Vec<Rule>,
    /// Routes, all with our protocol number.
    pub routes: Vec<Route>,
    /// Addresses, all with our protocol number.
    pub addresses: Vec<Address>,
    /// The guard, the marking of what arrives, and the redirect.
    pub ruleset: Rc<Ruleset>,
}

/// What the kernel looks like, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The sysctls that we might set (asked for by path), where they exist.
    pub sysctls: ByName<String>,
    /// All links.
    pub links: Vec<Link>,
    /// All rules, of both families, in the kernel's order.
    pub rules: Vec<Rule>,
    /// Routes of the WAN table, those with our protocol number, and all others over an uplink's device.
    pub routes: Vec<Route>,
    /// Addresses of the uplinks' devices, and all with our protocol number.
    pub addresses: Vec<Address>,
    /// Our tables in nftables; empty if there are none.
    pub guard: ObservedGuard,
}

/// Our tables in the kernel's nftables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedGuard {
    /// Their chains, sorted as by [`Ruleset::fingerprint`].
    pub chains: Vec<ChainPrint>,
    /// Our tables exist and all belong to our socket (`owner`), so that nobody else can flush them.
    pub owned: bool,
    /// The kernel keeps them when we die (`persist`).
    pub persistent: bool,
}

/// One change. Every one leaves a system that does not leak, in the order that policy gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make our tables exactly these, in one transaction; take them over if they are orphaned.
    SetGuard(Rc<Ruleset>),
    /// Remove our tables.
    RemoveGuard,
    /// Write a sysctl.
    SetSysctl {
        /// Below `/proc/sys/`.
        path: String,
        /// What to write.
        value: String,
    },
    /// Switch a device on or off.
    SetLink {
        /// Its name.
        name: String,
        /// On or off.
        up: bool,
    },
    /// Add an address, or change the lifetimes of the one that is there.
    AddAddress(Address),
    /// Remove an address.
    RemoveAddress(Address),
    /// Add a route, or replace the one with the same key.
    AddRoute(Route),
    /// Remove a route.
    RemoveRoute(Route),
    /// Add a rule.
    AddRule(Rule),
    /// Remove a rule.
    RemoveRule(Rule),
}

/// How things were before the first step ever: what the way down restores. Kept in the runtime directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    /// Sysctls that we have changed, with their values from before.
    pub sysctls: ByName<String>,
    /// Devices that we have switched on and that were off.
    pub links_down: Vec<String>,
}
