//! Why the kernel did not do it.

use narrowgate_sys::io;
use narrowgate_sys::netlink;
use std::fmt;

/// The thing, what the kernel says, and its own words where it has any. One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    thing: String,
    errno: Option<i32>,
    cause: String,
}

impl Error {
    /// A request that was refused. `thing` says what was tried with what.
    pub(crate) fn refused(thing: impl Into<String>, error: &netlink::Error) -> Error {
        Error { thing: thing.into(), errno: Some(error.errno), cause: error.to_string() }
    }

    /// A system call that failed.
    pub(crate) fn io(thing: impl Into<String>, error: &io::Error) -> Error {
        Error { thing: thing.into(), errno: error.raw_os_error(), cause: error.to_string() }
    }

    /// What we do not even ask the kernel for.
    pub(crate) fn other(thing: impl Into<String>, errno: Option<i32>, cause: impl Into<String>) -> Error {
        Error { thing: thing.into(), errno, cause: cause.into() }
    }

    /// The error number, positive, if there is one.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.thing, self.cause)
    }
}

impl std::error::Error for Error {}
