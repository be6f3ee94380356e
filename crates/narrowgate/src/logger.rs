//! The log: lines on stderr that a person can follow, one event a line.

use log::{Level, LevelFilter, Metadata, Record};
use std::io::Write;
use std::sync::OnceLock;
use std::time::Instant;

struct Logger {
    start: Instant,
    journal: bool,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Logs to stderr: under systemd with the priority in front (sd-daemon(3)), else with the seconds since the start.
pub fn init() {
    let logger = LOGGER.get_or_init(|| Logger { start: Instant::now(), journal: stderr_is_the_journal() });
    if log::set_logger(logger).is_ok() {
        let verbose = std::env::var_os("NARROWGATE_DEBUG").is_some();
        log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Info });
    }
}

/// Whether stderr is the stream that systemd made for us, and not a file that somebody redirected it to (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|m| stream == format!("{}:{}", m.dev(), m.ino()))
}

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (priority, word) = match record.level() {
            Level::Error => (3, "error: "),
            Level::Warn => (4, "warning: "),
            Level::Info => (6, ""),
            Level::Debug | Level::Trace => (7, "debug: "),
        };
        let line = if self.journal {
            format!("<{priority}>{}\n", record.args())
        } else {
            let passed = self.start.elapsed();
            let (s, ms) = (passed.as_secs(), passed.subsec_millis());
            format!("[{s:>4}.{ms:03}] {word}{}\n", record.args())
        };
        // One write a line, so that lines of several processes do not mix. A full disk must not stop the guard.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
