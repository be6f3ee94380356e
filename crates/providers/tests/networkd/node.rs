//! A small daemon around the provider: netlink as a hint, `ip` to observe, poll(2).

use crate::place::{WAN, ip};
use narrowgate_model::net::Link;
use narrowgate_model::{Facts, Time};
use narrowgate_providers::Provider;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The provider with everything around it that the daemon would be.
pub struct Node {
    pub provider: Box<dyn Provider>,
    netlink: OwnedFd,
}

impl Node {
    pub fn new(provider: impl Provider + 'static) -> Node {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let netlink = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).unwrap();
        const LINK_ADDRESSES_ROUTES: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
        rustix::net::bind(&netlink, &SocketAddrNetlink::new(0, LINK_ADDRESSES_ROUTES)).unwrap();
        let mut node = Node { provider: Box::new(provider), netlink };
        node.observe();
        node
    }

    /// Runs until the facts are as wanted; at most thirty seconds.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Facts) -> bool) {
        self.until_all(what, |provider| wanted(provider.facts()));
    }

    /// The same with all that the provider says.
    pub fn until_all(&mut self, what: &str, wanted: impl Fn(&dyn Provider) -> bool) {
        let end = now() + Duration::from_secs(30);
        while !wanted(&*self.provider) {
            assert!(now() < end, "{what}: never\n{:#?}\n{:?}", self.provider.facts(), {
                self.provider.describe(now())
            });
            self.step(end);
        }
    }

    fn step(&mut self, end: Time) {
        let span = self.provider.next_timeout().map_or(end, |t| t.min(end)).since(now());
        let span = span + Duration::from_millis(1);
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
        }
        if self.provider.next_timeout().is_some_and(|t| t <= now()) {
            self.provider.on_timer(now());
        }
    }

    fn observe(&mut self) {
        let mut buffer = [0u8; 8192];
        while rustix::net::recv(&self.netlink, &mut buffer[..], RecvFlags::empty()).is_ok() {}
        self.provider.on_link(Some(&link()), now());
        self.provider.on_addresses(&[], now());
    }
}

/// `CLOCK_BOOTTIME`.
pub fn now() -> Time {
    let t = clock_gettime(ClockId::Boottime);
    Time(t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000)
}

pub fn link() -> Link {
    let text = ip(&["-o", "link", "show", "dev", WAN]);
    let words: Vec<&str> = text.split_whitespace().collect();
    let mtu = words.iter().position(|w| *w == "mtu").and_then(|i| words.get(i + 1)).unwrap();
    let flags: Vec<&str> = words[2].trim_matches(['<', '>']).split(',').collect();
    Link {
        index: words[0].trim_end_matches(':').parse().unwrap(),
        name: WAN.to_owned(),
        up: flags.contains(&"UP"),
        carrier: flags.contains(&"LOWER_UP"),
        mtu: mtu.parse().unwrap(),
        ..Link::default()
    }
}
