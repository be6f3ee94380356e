//! One run of `nmcli`, without a shell, awaited by poll(2).

use alloc::borrow::ToOwned;
use alloc::{string::String, vec::Vec};
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_sys::spawn::{Child, Program};
use narrowgate_sys::{env, io};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// A question that is being answered; ended when dropped.
pub(super) struct Asking {
    child: Child,
    pipe: OwnedFd,
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
        let ours = env::entries().filter_map(|entry| entry.to_str().ok()?.split_once('='));
        let mut variables: Vec<(&str, String)> = ours
            .filter(|(name, _)| *name != LANGUAGE)
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        variables.push((LANGUAGE, "C".to_owned()));
        let child = Program {
            arguments: &["--terse", "--fields", FIELDS, "device", "show", device],
            variables: &variables,
            output: Some(end.as_fd()),
            ..Program::new(&found(program))
        }
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
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(n @ 1..) if self.text.len() < MAX => {
                    self.text.extend_from_slice(buffer.get(..n).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    return if now < self.until { Progress::Waiting } else { Progress::Late };
                }
                _ => return Progress::Done(core::mem::take(&mut self.text)),
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

/// Where the program lies: a name alone is looked for as a shell does.
fn found(program: &Path) -> PathBuf {
    if !program.as_bytes().contains(&b'/') {
        for dir in env::var("PATH").unwrap_or_default().split(':') {
            let path = Path::new(dir).join(program);
            if path.is_file() {
                return path;
            }
        }
    }
    program.to_owned()
}

/// What says in which language programs speak.
const LANGUAGE: &str = "LC_ALL";
const FIELDS: &str = "GENERAL.STATE,GENERAL.CONNECTION,IP4.DNS,IP4.DOMAIN,IP6.DNS,IP6.DOMAIN,DHCP4,DHCP6";
/// Longer than a loaded machine needs (12 ms), shorter than D-Bus's 25 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes; a device with every option has a tenth of them.
const MAX: usize = 65536;
