//! One run of `nmcli`, without a shell, awaited by poll(2).

use narrowgate_model::Time;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A question that is being answered; ended when dropped.
pub(super) struct Asking {
    child: Child,
    pipe: PipeReader,
    text: Vec<u8>,
    until: Time,
}

/// How far the answer is.
pub(super) enum Progress {
    Waiting,
    /// What was printed, errors as well.
    Done(Vec<u8>),
    Late,
}

impl Asking {
    /// Starts the program.
    ///
    /// # Errors
    /// As the kernel says: no such program, no memory, no descriptors.
    pub(super) fn begin(program: &Path, device: &str, now: Time) -> io::Result<Asking> {
        let (pipe, end) = io::pipe()?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let child = Command::new(program)
            .args(["--terse", "--fields", FIELDS, "device", "show", device])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(end.try_clone()?)
            .stderr(end)
            .spawn()?;
        Ok(Asking { child, pipe, text: Vec::new(), until: now + PATIENCE })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// When nothing is to be expected any more.
    pub(super) fn patience(&self) -> Time {
        self.until
    }

    /// Reads what there is.
    pub(super) fn proceed(&mut self, now: Time) -> Progress {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(n @ 1..) if self.text.len() < MAX => {
                    self.text.extend_from_slice(buffer.get(..n).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if now < self.until { Progress::Waiting } else { Progress::Late };
                }
                _ => return Progress::Done(std::mem::take(&mut self.text)),
            }
        }
    }
}

impl Drop for Asking {
    /// Whoever has closed its output has nothing more to say: the signal only keeps the wait short.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const FIELDS: &str = "GENERAL.STATE,GENERAL.CONNECTION,IP4.DNS,IP4.DOMAIN,IP6.DNS,IP6.DOMAIN,DHCP4,DHCP6";
/// Longer than a loaded machine needs (12 ms), shorter than D-Bus's 25 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes; a device with every option has a tenth of them.
const MAX: usize = 65536;
