//! Why the kernel did not do it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::string::ToString;
use core::fmt;
use narrowgate_sys::io;
use narrowgate_sys::netlink;

/// The thing, what the kernel says, and its own words where it has any. One line. It is kept elsewhere, since so many results
/// have room for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    thing: String,
    errno: Option<i32>,
    cause: String,
}

impl Error {
    /// A request that was refused. `thing` says what was tried with what.
    pub(crate) fn refused(thing: fmt::Arguments<'_>, error: &netlink::Error) -> Error {
        Error::other(thing, Some(error.errno), format_args!("{error}"))
    }

    /// A system call that failed.
    pub(crate) fn io(thing: fmt::Arguments<'_>, error: &io::Error) -> Error {
        Error::other(thing, error.raw_os_error(), format_args!("{error}"))
    }

    /// What we do not even ask the kernel for.
    pub(crate) fn other(thing: fmt::Arguments<'_>, errno: Option<i32>, cause: fmt::Arguments<'_>) -> Error {
        Error(Box::new(Inner { thing: thing.to_string(), errno, cause: cause.to_string() }))
    }

    /// The error number, positive, if there is one.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.thing, self.0.cause)
    }
}

impl core::error::Error for Error {}
