//! What a process uses up: processor, memory, descriptors, as proc(5) tells.

use std::fs;
use std::time::Duration;

/// Of one process, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Spent in it and in the kernel for it since it was started; in steps of 10 ms.
    pub processor: Duration,
    /// Resident memory that is its own and no file's, in KiB.
    pub anonymous: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// What the process uses; nothing if it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: state is the third field, user and system time the 14th and 15th.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        Some(Self {
            // The kernel shows hundredths of a second on every machine (USER_HZ).
            processor: Duration::from_millis(ticks * 10),
            anonymous: anonymous.split_whitespace().next()?.parse().ok()?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        })
    }
}
