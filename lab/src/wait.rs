//! Waiting for something that has no event of its own: looked at often, and given up at a deadline.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Calls `look` until it answers `Some`, or fails after `patience` with a sentence about `what`.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Error::new(format!("{what}: not within {:.1} s", patience.as_secs_f32())));
        }
        std::thread::sleep(INTERVAL);
    }
}
