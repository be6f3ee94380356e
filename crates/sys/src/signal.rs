//! Signals as something to read: blocked for the process and taken from a signalfd(2).
//!
//! Block them before the first thread starts, or a thread with its own mask takes a signal in the old way. A child
//! inherits the mask over exec, so whoever spawns one calls [`unblock_all`] between fork and exec.

use crate::io;
use core::mem::{self, MaybeUninit};
use core::ptr;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The signals that mean something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Go, and take everything down.
    Term,
    /// The same, from a terminal.
    Int,
    /// Go, and leave everything standing.
    Quit,
    /// Read the config again.
    Hup,
    /// Free for use.
    Usr1,
    /// Replace yourself by a new program.
    Usr2,
    /// A child has changed its state.
    Chld,
}

/// A set of blocked signals, to be read. Dropping it closes the descriptor and leaves them blocked.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks `signals` in this thread, and in those that it will start, and opens a non-blocking, close-on-exec
    /// descriptor that tells of them. Fails as signalfd(2) does (EMFILE, ENFILE, ENOMEM).
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        let mut set = empty_set();
        for signal in signals {
            // SAFETY: `set` is initialised and the number is a valid signal's.
            unsafe { libc::sigaddset(&mut set, signal.number()) };
        }
        change_mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd has just made this descriptor and nobody else has it.
        Ok(Signals { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The next signal that is pending, if there is one. Equal signals that came together are one.
    pub fn read(&self) -> Option<Signal> {
        loop {
            let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
            let size = mem::size_of::<libc::signalfd_siginfo>();
            // SAFETY: the buffer is as long as we say and any bytes make a valid signalfd_siginfo.
            let got = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            if got < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
                continue;
            }
            if usize::try_from(got) != Ok(size) {
                return None;
            }
            // SAFETY: it was zeroed and then filled by the kernel; integers only.
            let info = unsafe { info.assume_init() };
            return Signal::from_number(info.ssi_signo as libc::c_int);
        }
    }
}

impl AsFd for Signals {
    /// Readable when a signal is pending.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Unblocks every signal in this thread. Async-signal-safe: for a child between fork and exec.
pub fn unblock_all() -> io::Result<()> {
    change_mask(libc::SIG_SETMASK, &empty_set())
}

impl Signal {
    fn number(self) -> libc::c_int {
        TABLE.iter().find(|(signal, _)| *signal == self).map_or(libc::SIGTERM, |(_, number)| *number)
    }

    fn from_number(number: libc::c_int) -> Option<Signal> {
        TABLE.iter().find(|(_, n)| *n == number).map(|(signal, _)| *signal)
    }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the pointer is valid; sigemptyset initialises what it points to and cannot fail on it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised; a null old set is allowed.
    match unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

const TABLE: [(Signal, libc::c_int); 7] = [
    (Signal::Term, libc::SIGTERM),
    (Signal::Int, libc::SIGINT),
    (Signal::Quit, libc::SIGQUIT),
    (Signal::Hup, libc::SIGHUP),
    (Signal::Usr1, libc::SIGUSR1),
    (Signal::Usr2, libc::SIGUSR2),
    (Signal::Chld, libc::SIGCHLD),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a signal to the calling thread, so that tests in other threads do not see it.
    fn raise(number: libc::c_int) {
        // SAFETY: raise(3) has no preconditions.
        assert_eq!(unsafe { libc::raise(number) }, 0);
    }

    #[test]
    fn a_blocked_signal_is_read_once() {
        let signals = Signals::new(&[Signal::Usr1, Signal::Hup]).unwrap();
        assert_eq!(signals.read(), None);
        raise(libc::SIGHUP);
        assert_eq!(signals.read(), Some(Signal::Hup));
        assert_eq!(signals.read(), None);
        raise(libc::SIGUSR1);
        assert_eq!(signals.read(), Some(Signal::Usr1));
    }

    #[test]
    fn unblocking_leaves_no_signal_blocked() {
        let _signals = Signals::new(&[Signal::Usr2]).unwrap();
        assert!(is_blocked(libc::SIGUSR2));
        unblock_all().unwrap();
        assert!(!is_blocked(libc::SIGUSR2));
    }

    fn is_blocked(number: libc::c_int) -> bool {
        let mut set = empty_set();
        // SAFETY: a null new set only asks; `set` is valid for writing and initialised.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut set);
            libc::sigismember(&set, number) == 1
        }
    }
}
