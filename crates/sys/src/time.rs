//! Moments by the monotonic clock, to measure with.

use core::ops::{Add, Sub};
use core::time::Duration;
use rustix::time::{ClockId, clock_gettime};

/// A moment (`CLOCK_MONOTONIC`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// This moment.
    pub fn now() -> Instant {
        let now = clock_gettime(ClockId::Monotonic);
        // Neither is ever negative for this clock.
        Instant(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
    }

    /// What has passed since.
    pub fn elapsed(self) -> Duration {
        Instant::now() - self
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Nothing, where the other is later.
    fn sub(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, later: Duration) -> Instant {
        Instant(self.0.saturating_add(later))
    }
}

/// Does nothing for so long.
pub fn sleep(time: Duration) {
    let mut left = rustix::time::Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
    while let rustix::thread::NanosleepRelativeResult::Interrupted(rest) = rustix::thread::nanosleep(&left) {
        left = rest;
    }
}
