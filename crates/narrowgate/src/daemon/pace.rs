//! How often the daemon makes the kernel agree. What comes now and then is answered at once; but anybody on the cable can send
//! advertisements by the thousand, each of which changes some lifetime, and shall not buy a processor with them.

use core::time::Duration;
use narrowgate_model::Time;

/// So often without a pause.
const BURST: u32 = 16;
/// After that once in this time.
const STEP: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Default)]
pub struct Pace {
    /// Taken of the burst.
    used: u32,
    /// When one less counts as taken.
    next: Time,
}

impl Pace {
    /// Whether it may be done now; then that counts.
    pub fn allows(&mut self, now: Time) -> bool {
        while self.used > 0 && self.next <= now {
            self.used -= 1;
            self.next = self.next + STEP;
        }
        if self.used == 0 {
            self.next = now + STEP;
        }
        let allowed = self.used < BURST;
        self.used += u32::from(allowed);
        allowed
    }

    /// When it is allowed again, after a refusal.
    pub fn next(&self) -> Time {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often in the milliseconds `from..to`, asked in each of them.
    fn count(pace: &mut Pace, from: u64, to: u64) -> u64 {
        (from..to).map(|ms| u64::from(pace.allows(Time(ms)))).sum()
    }

    #[test]
    fn the_first_are_done_at_once_and_a_flood_is_done_at_its_pace() {
        let mut pace = Pace::default();
        assert_eq!(count(&mut pace, 1000, 1016), 16);
        assert_eq!(count(&mut pace, 1016, 3016), 40, "20 in a second");
        let refused = Time(3016);
        assert!(!pace.allows(refused) && pace.next() > refused && pace.next().since(refused) <= STEP);
        assert_eq!(count(&mut pace, 10_000, 10_016), 16, "it has rested");
    }

    #[test]
    fn what_comes_ten_times_a_second_never_waits() {
        let mut pace = Pace::default();
        assert!((0..1000).all(|n| pace.allows(Time(n * 100))));
    }
}
