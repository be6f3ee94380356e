//! Clocks, and moments by the monotonic one, to measure with.

use core::ops::{Add, Sub};
use core::time::Duration;
use rustix::time::{ClockId, clock_gettime};

/// What is asked for the time.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// Since 1970, if somebody has set it.
    Realtime,
    /// Since the start, without the time asleep.
    Monotonic,
    /// With it.
    Boottime,
}

impl Clock {
    /// Seconds, and nanoseconds of the next. (Of 64 bits on every machine: the C library's own ends in 2038 on small ones.)
    #[inline(never)]
    pub fn now(self) -> (i64, u32) {
        let now = clock_gettime(match self {
            Clock::Realtime => ClockId::Realtime,
            Clock::Monotonic => ClockId::Monotonic,
            Clock::Boottime => ClockId::Boottime,
        });
        (now.tv_sec, now.tv_nsec as u32)
    }
}

/// A moment (`CLOCK_MONOTONIC`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// This moment.
    pub fn now() -> Instant {
        let (seconds, nanoseconds) = Clock::Monotonic.now();
        // It is never negative for this clock.
        Instant(Duration::new(seconds as u64, nanoseconds))
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
