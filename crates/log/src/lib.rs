//! The log: lines on stderr that a person can follow, one event a line.
//!
//! In place of the crate `log`, each of whose calls has with it the module, the file and the line, which nobody is shown: 170 bytes.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std)]

#[macro_use]
extern crate alloc;

use alloc::string::String;
use core::fmt::Arguments;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use narrowgate_sys::time::Clock;

/// How much is written: nothing before [`init`].
static MOST: AtomicU8 = AtomicU8::new(0);
/// Whether systemd reads it.
static JOURNAL: AtomicBool = AtomicBool::new(false);
/// When it began: seconds and milliseconds. (32 bits each: some processors have no atomics of 64.)
static START: (AtomicU32, AtomicU32) = (AtomicU32::new(0), AtomicU32::new(0));

/// From now on lines are written: for systemd's `journal` with the priority in front (sd-daemon(3)), else with the seconds since now.
pub fn init(journal: bool, debug: bool) {
    let (seconds, millis) = now();
    START.0.store(seconds, Relaxed);
    START.1.store(millis, Relaxed);
    JOURNAL.store(journal, Relaxed);
    MOST.store(if debug { DEBUG } else { INFO }, Relaxed);
}

/// Something does not work.
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => { $crate::error(::core::format_args!($($arg)+)) };
}

/// Something will not work, or not as it may be expected to.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => { $crate::warn(::core::format_args!($($arg)+)) };
}

/// Something has happened that people want to know.
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::info(::core::format_args!($($arg)+)) };
}

/// What only somebody wants to know who looks for a fault. Its arguments are evaluated for nobody else.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)+) => { if $crate::debugs() { $crate::debug(::core::format_args!($($arg)+)) } };
}

/// See the macro.
pub fn error(line: Arguments<'_>) {
    write(ERROR, line);
}

/// See the macro.
pub fn warn(line: Arguments<'_>) {
    write(WARN, line);
}

/// See the macro.
pub fn info(line: Arguments<'_>) {
    write(INFO, line);
}

/// See the macro.
pub fn debug(line: Arguments<'_>) {
    write(DEBUG, line);
}

/// Whether anybody looks for a fault.
pub fn debugs() -> bool {
    MOST.load(Relaxed) >= DEBUG
}

/// Priorities as syslog(3) has them.
const ERROR: u8 = 3;
const WARN: u8 = 4;
const INFO: u8 = 6;
const DEBUG: u8 = 7;

#[inline(never)]
fn write(priority: u8, what: Arguments<'_>) {
    if priority > MOST.load(Relaxed) {
        return;
    }
    let (now, start) = (now(), (START.0.load(Relaxed), START.1.load(Relaxed)));
    let passed = u64::from(now.0.wrapping_sub(start.0)) * 1000 + u64::from(now.1) - u64::from(start.1);
    let line = line(priority, (!JOURNAL.load(Relaxed)).then_some(passed), what);
    // One write a line, so that lines of several processes do not mix. A full disk must not stop the guard.
    narrowgate_sys::io::stderr(line.as_bytes());
}

/// With the time that has `passed`, in milliseconds, or for the journal.
fn line(priority: u8, passed: Option<u64>, what: Arguments<'_>) -> String {
    let Some(passed) = passed else { return format!("<{priority}>{what}\n") };
    let (s, ms) = (passed / 1000, passed % 1000);
    let word = match priority {
        ERROR => "error: ",
        WARN => "warning: ",
        INFO => "",
        _ => "debug: ",
    };
    format!("[{s:>4}.{ms:03}] {word}{what}\n")
}

/// Seconds and milliseconds of the monotonic clock.
fn now() -> (u32, u32) {
    let (seconds, nanoseconds) = Clock::Monotonic.now();
    (seconds as u32, nanoseconds / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_and_how_bad_and_the_journal_knows_when() {
        let what = || format_args!("up");
        assert_eq!(line(INFO, Some(12), what()), "[   0.012] up\n");
        assert_eq!(line(WARN, Some(12_345_678), what()), "[12345.678] warning: up\n");
        assert_eq!(line(ERROR, None, what()), "<3>up\n");
    }
}
