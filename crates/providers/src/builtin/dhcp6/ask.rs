//! A question and its repetitions (RFC 8415, 15).

use super::Random;
use core::time::Duration;
use narrowgate_model::Time;

pub(super) struct Ask {
    /// 24 bits; 0: nothing is asked.
    pub(super) xid: u32,
    /// When the question was sent first, and last.
    pub(super) began: Time,
    pub(super) asked: Time,
    pub(super) sent: u32,
    pub(super) gap: Duration,
    /// When something is to be done.
    pub(super) at: Option<Time>,
}

impl Ask {
    pub(super) fn none(now: Time) -> Ask {
        Ask { xid: 0, began: now, asked: now, sent: 0, gap: Duration::ZERO, at: None }
    }

    pub(super) fn new(random: &mut Random, now: Time) -> Ask {
        Ask { xid: (random() & 0xff_ffff).max(1), ..Ask::none(now) }
    }

    /// Is being sent: sets when next, after `first` or twice the last gap, within a tenth.
    pub(super) fn repeat(&mut self, first: Duration, most: Duration, random: &mut Random, now: Time) {
        self.gap = if self.sent == 0 { first } else { (self.gap * 2).min(most) };
        self.sent = self.sent.saturating_add(1);
        self.asked = now;
        let tenth = u32::try_from(self.gap.as_millis() / 10).unwrap_or(u32::MAX).max(1);
        let chance = Duration::from_millis((random() % tenth).into()) * 2;
        self.at = Some(now + (self.gap - Duration::from_millis(tenth.into()) + chance));
    }
}
