//! A small daemon around a provider: poll(2), and a clock that can be put forward.

use narrowgate_model::net::Link;
use narrowgate_model::{Facts, Time};
use narrowgate_providers::Provider;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The provider with everything around it that the daemon would be.
pub struct Node {
    pub provider: Box<dyn Provider>,
    /// How far its clock is ahead.
    ahead: Duration,
}

impl Node {
    pub fn new(provider: impl Provider + 'static) -> Node {
        Node { provider: Box::new(provider), ahead: Duration::ZERO }
    }

    pub fn now(&self) -> Time {
        now() + self.ahead
    }

    /// Puts the clock forward: whatever is due by then is done.
    pub fn later(&mut self, span: Duration) {
        self.ahead += span;
        if self.provider.next_timeout().is_some_and(|t| t <= self.now()) {
            self.provider.on_timer(self.now());
        }
    }

    pub fn link(&mut self, link: Option<&Link>) {
        self.provider.on_link(link, self.now());
    }

    /// Runs until the facts are as wanted and gives how long that took; at most five seconds of real time.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Facts) -> bool) -> Duration {
        self.until_all(what, |provider| wanted(provider.facts()))
    }

    /// The same with all that the provider says.
    pub fn until_all(&mut self, what: &str, wanted: impl Fn(&dyn Provider) -> bool) -> Duration {
        let start = now();
        let end = start + Duration::from_secs(5);
        while !wanted(&*self.provider) {
            assert!(now() < end, "{what}: never\n{:#?}\n{:?}", self.provider.facts(), {
                self.provider.describe(self.now())
            });
            self.step(end);
        }
        now() - start
    }

    fn step(&mut self, end: Time) {
        let at = self.provider.next_timeout().map(|t| t.since(self.now()));
        let span = at.unwrap_or(Duration::MAX).min(end - now()) + Duration::from_millis(1);
        let timeout = Timespec { tv_sec: span.as_secs() as i64, tv_nsec: span.subsec_nanos().into() };
        let readable = {
            let mut fds = Vec::new();
            self.provider.fds(&mut fds);
            let mut fds: Vec<PollFd<'_>> =
                fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
            poll(&mut fds, Some(&timeout)).unwrap() > 0
        };
        let now = self.now();
        if readable {
            self.provider.on_readable(now);
        }
        if self.provider.next_timeout().is_some_and(|t| t <= now) {
            self.provider.on_timer(now);
        }
    }
}

/// `CLOCK_BOOTTIME`.
pub fn now() -> Time {
    let t = clock_gettime(ClockId::Boottime);
    Time(t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000)
}

/// A device that is up with a carrier.
pub fn link(name: &str, index: u32) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        up: true,
        carrier: true,
        mtu: 1500,
        ..Link::default()
    }
}
