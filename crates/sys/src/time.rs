//! Clocks, and moments by the monotonic one, to measure with.

use core::ops::{Add, Sub};
use core::time::Duration;

/// What is asked for the time. The C library asks the kernel's own page for it, which rustix needs 3 KB to find.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// Since 1970, if somebody has set it.
    Realtime = libc::CLOCK_REALTIME as isize,
    /// Since the start, without the time asleep.
    Monotonic = libc::CLOCK_MONOTONIC as isize,
    /// With it.
    Boottime = libc::CLOCK_BOOTTIME as isize,
}

impl Clock {
    /// Seconds, and nanoseconds of the next.
    #[inline(never)]
    pub fn now(self) -> (i64, u32) {
        // SAFETY: all its fields are integers, of which 0 is a value.
        let mut now: libc::timespec = unsafe { core::mem::zeroed() };
        // SAFETY: the pointer is to a timespec.
        unsafe { libc::clock_gettime(self as libc::clockid_t, &mut now) };
        #[allow(clippy::unnecessary_cast, reason = "their types differ between machines")]
        (now.tv_sec as i64, now.tv_nsec as u32)
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
