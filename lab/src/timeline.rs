//! What happens in the node's network, as the kernel tells it (`ip monitor`), each line with its time.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::place::Place;

/// A running monitor. It is stopped when dropped.
#[derive(Debug)]
pub struct Timeline {
    child: Child,
    shared: Arc<Notes>,
}

/// The lines so far, each with its time, and the news that there are more.
type Notes = (Mutex<Vec<(Instant, String)>>, Condvar);

impl Timeline {
    /// Starts to listen to links, addresses and routes of a host.
    pub fn start(place: &Place) -> Result<Self> {
        let command = place.command("ip").args(["-o", "monitor", "link", "address", "route", "rule"]);
        let mut child = command.stdio(Stdio::null(), Stdio::piped(), Stdio::null()).spawn()?;
        let output = child.stdout.take().ok_or_else(|| Error::new("ip monitor has no output"))?;
        let shared: Arc<Notes> = Arc::default();
        let notes = Arc::clone(&shared);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                notes.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
                notes.1.notify_all();
            }
        });
        Ok(Self { child, shared })
    }

    /// Waits for a line that holds all of `words`, or finds the first that came already.
    pub fn wait_for(&self, words: &[&str], patience: Duration) -> Result<(Instant, String)> {
        let deadline = Instant::now() + patience;
        let mut lines = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let fits =
                |line: &str| words.iter().all(|word| line.contains(word)) && !line.starts_with("Deleted");
            if let Some(found) = lines.iter().find(|(_, line)| fits(line)) {
                return Ok(found.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(format!("no event {words:?} within {:.1} s", patience.as_secs_f32())));
            }
            lines = self.shared.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
