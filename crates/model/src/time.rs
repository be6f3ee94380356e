//! A moment, as the caller's clock tells it.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// Milliseconds of `CLOCK_BOOTTIME`: it runs through suspend and is not set by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds left until this moment, seen from `now`; zero when it has passed.
    pub fn seconds_from(self, now: Time) -> u32 {
        u32::try_from(self.0.saturating_sub(now.0) / 1000).unwrap_or(u32::MAX)
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}
