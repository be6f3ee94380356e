//! A small daemon around the provider: netlink as a hint, `ip` to observe and to set addresses, poll(2).

use crate::place::{Place, WAN, ip};
use narrowgate_model::config::Uplink;
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Mark, Prefix, Time};
use narrowgate_providers::Provider;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The provider with everything around it that the daemon would be.
pub struct Node {
    pub provider: Box<dyn Provider>,
    /// What the kernel would have counted.
    pub carrier_losses: u32,
    netlink: OwnedFd,
    set: BTreeSet<String>,
}

impl Node {
    pub fn new(place: &Place) -> Node {
        Node::with(place, &Uplink::new("wan", WAN))
    }

    pub fn with(place: &Place, uplink: &Uplink) -> Node {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let netlink = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).unwrap();
        const LINK_IFADDR4_IFADDR6: u32 = 0x1 | 0x10 | 0x100;
        rustix::net::bind(&netlink, &SocketAddrNetlink::new(0, LINK_IFADDR4_IFADDR6)).unwrap();
        let provider =
            narrowgate_providers::open(uplink, Mark::DEFAULT, &place.state_dir(), &place.state_dir(), now())
                .unwrap();
        let mut node = Node { provider, carrier_losses: 0, netlink, set: BTreeSet::new() };
        node.observe();
        node
    }

    /// Runs until the facts are as wanted and gives how long that took; at most `seconds`.
    pub fn until(&mut self, what: &str, seconds: u64, wanted: impl Fn(&Facts) -> bool) -> Duration {
        self.until_all(what, seconds, |provider| wanted(provider.facts()))
    }

    /// The same with all that the provider says.
    pub fn until_all(
        &mut self,
        what: &str,
        seconds: u64,
        wanted: impl Fn(&dyn Provider) -> bool,
    ) -> Duration {
        let start = now();
        let end = start + Duration::from_secs(seconds);
        loop {
            if wanted(&*self.provider) {
                return now() - start;
            }
            assert!(now() < end, "{what}: not within {seconds} s\n{:#?}\n{:?}", self.provider.facts(), {
                self.provider.describe(now())
            });
            self.step(end);
        }
    }

    fn step(&mut self, end: Time) {
        let until = self.provider.next_timeout().map_or(end, |t| t.min(end));
        let span = until.since(now()) + Duration::from_millis(1);
        let timeout = Timespec { tv_sec: span.as_secs() as i64, tv_nsec: span.subsec_nanos().into() };
        let (netlink, readable) = {
            let mut fds = vec![self.netlink.as_fd()];
            self.provider.fds(&mut fds);
            let mut fds: Vec<PollFd<'_>> =
                fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
            poll(&mut fds, Some(&timeout)).unwrap();
            let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
            (ready(&fds[0]), fds[1..].iter().any(ready))
        };
        if netlink {
            self.observe();
        }
        if readable {
            self.provider.on_readable(now());
            self.apply();
        }
        if self.provider.next_timeout().is_some_and(|t| t <= now()) {
            self.provider.on_timer(now());
            self.apply();
        }
    }

    pub fn observe(&mut self) {
        let mut buffer = [0u8; 8192];
        while rustix::net::recv(&self.netlink, &mut buffer[..], RecvFlags::empty()).is_ok() {}
        self.provider.on_link(link(self.carrier_losses).as_ref(), now());
        self.provider.on_addresses(&addresses(), now());
        self.apply();
    }

    /// Sets the addresses that the facts have and takes away those that they have no more.
    pub fn apply(&mut self) {
        let wanted: BTreeSet<String> =
            self.provider.facts().addresses.iter().map(|a| a.prefix.to_string()).collect();
        match &self.provider.facts().link {
            None => return self.set.clear(),
            Some(link) if !link.up => return self.set.retain(|a| !a.contains(':')), // the kernel takes IPv6 away
            Some(_) => {}
        }
        for gone in self.set.difference(&wanted) {
            let _ = std::process::Command::new("ip").args(["addr", "del", gone, "dev", WAN]).output();
        }
        for new in wanted.difference(&self.set) {
            // With a lifetime, as the daemon does: the kernel treats these otherwise than permanent ones.
            ip(&[
                "addr",
                "replace",
                new,
                "dev",
                WAN,
                "noprefixroute",
                "valid_lft",
                "100",
                "preferred_lft",
                "100",
            ]);
        }
        self.set = wanted;
    }
}

/// `CLOCK_BOOTTIME`.
pub fn now() -> Time {
    let t = clock_gettime(ClockId::Boottime);
    Time(t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000)
}

fn link(carrier_losses: u32) -> Option<Link> {
    let text = ip(&["-o", "link", "show"]);
    let text = text.lines().find(|line| line.contains(&format!(" {WAN}@")))?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |word: &str| words.iter().position(|w| *w == word).and_then(|i| words.get(i + 1));
    let flags: Vec<&str> = words[2].trim_matches(['<', '>']).split(',').collect();
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(after("link/ether").unwrap().split(':')) {
        *to = u8::from_str_radix(from, 16).unwrap();
    }
    Some(Link {
        index: words[0].trim_end_matches(':').parse().unwrap(),
        name: WAN.to_owned(),
        mac: Some(mac),
        up: flags.contains(&"UP"),
        carrier: flags.contains(&"LOWER_UP"),
        carrier_losses,
        mtu: after("mtu").unwrap().parse().unwrap(),
        ..Link::default()
    })
}

fn addresses() -> Vec<Address> {
    let text = ip(&["-o", "addr", "show"]);
    let address = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let prefix: Prefix = words[3].parse().unwrap();
        Address {
            link: words[0].trim_end_matches(':').parse().unwrap(),
            prefix,
            broadcast: None,
            preferred_until: None,
            valid_until: None,
            no_prefix_route: words.contains(&"noprefixroute"),
            protocol: 0,
            dad_failed: words.contains(&"dadfailed"),
            tentative: words.contains(&"tentative") && !words.contains(&"optimistic"),
        }
    };
    text.lines().filter(|line| line.contains(&format!(" {WAN} "))).map(address).collect()
}
