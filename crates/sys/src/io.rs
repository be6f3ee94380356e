//! Errors of system calls, and writing to a terminal: what the standard library's `io` is elsewhere. The program does without the
//! standard library, whose fixed share of a program is several times what is here.

use alloc::boxed::Box;
use alloc::ffi::NulError;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// What may fail as a system call does.
pub type Result<T> = core::result::Result<T, Error>;

/// Why something failed: the kernel's reason, or one of our own. As long as a pointer, since so many results have room for one: the
/// kernel's number, shifted, with a bit that no pointer has, or else the pointer to what is [`Said`].
pub struct Error(NonNull<Said>);

struct Said(ErrorKind, String);

// SAFETY: it is a number, or the only pointer to what can be handed to another thread and be looked at from there.
unsafe impl Send for Error {}
// SAFETY: as above.
unsafe impl Sync for Error {}

/// What callers tell errors apart by. `Other` is every reason that has no name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are called as errno(3) has them, spelt out")]
pub enum ErrorKind {
    AddrInUse,
    AddrNotAvailable,
    ConnectionRefused,
    HostUnreachable,
    Interrupted,
    InvalidData,
    InvalidInput,
    IsADirectory,
    NetworkUnreachable,
    NotFound,
    Other,
    PermissionDenied,
    ResourceBusy,
    UnexpectedEof,
    WouldBlock,
}

impl Error {
    /// With a reason in words.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error::said(kind, text.into())
    }

    #[inline(never)]
    fn said(kind: ErrorKind, text: String) -> Error {
        Error(NonNull::from(Box::leak(Box::new(Said(kind, text)))))
    }

    /// The same, of no kind that callers ask for.
    pub fn other(text: impl Into<String>) -> Error {
        Error::new(ErrorKind::Other, text)
    }

    /// The reason of the system call that failed last in this thread.
    #[inline(never)]
    pub fn last_os_error() -> Error {
        // SAFETY: the pointer is to this thread's errno, which is always there.
        Error::from_raw_os_error(unsafe { *libc::__errno_location() })
    }

    /// The reason with this number (errno(3)).
    pub const fn from_raw_os_error(number: i32) -> Error {
        let bits = (number as usize) << SHIFT | NUMBER;
        // SAFETY: one bit of it is set, so it is not null.
        Error(unsafe { NonNull::new_unchecked(core::ptr::without_provenance_mut(bits)) })
    }

    /// The kernel's number for it, if it is a reason of the kernel's.
    pub fn raw_os_error(&self) -> Option<i32> {
        let bits = self.0.addr().get();
        (bits & NUMBER != 0).then_some((bits >> SHIFT) as i32)
    }

    /// What it is.
    #[inline(never)]
    pub fn kind(&self) -> ErrorKind {
        match self.cause() {
            Ok(number) => {
                KINDS.iter().find(|(of, _)| *of == number).map_or(ErrorKind::Other, |(_, kind)| *kind)
            }
            Err(said) => said.0,
        }
    }

    /// The number, or what is said.
    fn cause(&self) -> core::result::Result<i32, &Said> {
        match self.raw_os_error() {
            Some(number) => Ok(number),
            // SAFETY: without the bit it is the pointer that `said` has put there, and nobody else has it.
            None => Err(unsafe { self.0.as_ref() }),
        }
    }
}

impl Drop for Error {
    #[inline(never)]
    fn drop(&mut self) {
        if self.raw_os_error().is_none() {
            // SAFETY: it is the pointer that `said` has taken out of a box, and nobody uses it any more.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

/// What `Said` is aligned to leaves this bit free.
const NUMBER: usize = 1;
const SHIFT: u32 = 1;
const _: () = assert!(core::mem::align_of::<Said>() > NUMBER);

const KINDS: [(i32, ErrorKind); 14] = [
    (libc::EADDRINUSE, ErrorKind::AddrInUse),
    (libc::EADDRNOTAVAIL, ErrorKind::AddrNotAvailable),
    (libc::ECONNREFUSED, ErrorKind::ConnectionRefused),
    (libc::EHOSTUNREACH, ErrorKind::HostUnreachable),
    (libc::EINTR, ErrorKind::Interrupted),
    (libc::EINVAL, ErrorKind::InvalidInput),
    (libc::EISDIR, ErrorKind::IsADirectory),
    (libc::ENETUNREACH, ErrorKind::NetworkUnreachable),
    (libc::ENOENT, ErrorKind::NotFound),
    (libc::EPERM, ErrorKind::PermissionDenied),
    (libc::EACCES, ErrorKind::PermissionDenied),
    (libc::EBUSY, ErrorKind::ResourceBusy),
    (libc::EAGAIN, ErrorKind::WouldBlock),
    (libc::EWOULDBLOCK, ErrorKind::WouldBlock),
];

impl From<Errno> for Error {
    #[inline]
    fn from(errno: Errno) -> Error {
        Error::from_raw_os_error(errno.raw_os_error())
    }
}

impl From<ErrorKind> for Error {
    #[inline(never)]
    fn from(kind: ErrorKind) -> Error {
        let text = match kind {
            ErrorKind::InvalidData => "invalid data",
            ErrorKind::InvalidInput => "invalid input parameter",
            ErrorKind::IsADirectory => "is a directory",
            ErrorKind::NotFound => "entity not found",
            ErrorKind::PermissionDenied => "permission denied",
            ErrorKind::UnexpectedEof => "unexpected end of file",
            ErrorKind::WouldBlock => "operation would block",
            _ => "other error",
        };
        Error::new(kind, text)
    }
}

impl From<NulError> for Error {
    fn from(_: NulError) -> Error {
        Error::new(ErrorKind::InvalidInput, "a zero byte in a name")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause() {
            Ok(number) => {
                let mut text = [0u8; 128];
                // SAFETY: pointer and length are the array's; the call leaves a C string there.
                unsafe { libc::strerror_r(number, text.as_mut_ptr().cast(), text.len()) };
                let end = text.iter().position(|byte| *byte == 0).unwrap_or(0);
                write!(f, "{} (os error {number})", core::str::from_utf8(&text[..end]).unwrap_or_default())
            }
            Err(said) => f.write_str(&said.1),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Error {}

/// Writes all of it, however many calls it takes.
///
/// # Errors
/// Those of write(2), but EINTR.
pub fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(Error::other("nothing could be written")),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Appends what can be read until the end, `most` bytes of it.
///
/// # Errors
/// Those of read(2), but EINTR. What was read before is in `bytes`.
pub fn read_to_end(from: BorrowedFd<'_>, most: usize, bytes: &mut Vec<u8>) -> Result<()> {
    let mut part = [0u8; 2048];
    let mut left = most;
    while left > 0 {
        let room = part.len().min(left);
        match rustix::io::read(from, &mut part[..room]) {
            Ok(0) => break,
            Ok(read) => {
                bytes.extend_from_slice(part.get(..read).unwrap_or_default());
                left -= read;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The standard input.
pub fn stdin() -> BorrowedFd<'static> {
    // SAFETY: 0 is open from start to end (`runtime` sees to it).
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Writes to the standard output.
///
/// # Errors
/// As [`write_all`].
pub fn stdout(bytes: &[u8]) -> Result<()> {
    // SAFETY: 1 is open from start to end (`runtime` sees to it).
    write_all(unsafe { BorrowedFd::borrow_raw(1) }, bytes)
}

/// Writes to the standard error, in one piece where it takes one. Where to complain of it if it fails?
#[inline(never)]
pub fn stderr(bytes: &[u8]) {
    // SAFETY: 2 is open from start to end (`runtime` sees to it).
    let _ = write_all(unsafe { BorrowedFd::borrow_raw(2) }, bytes);
}

/// For [`eprintln!`](crate::eprintln).
#[doc(hidden)]
#[inline(never)]
pub fn complain(text: fmt::Arguments<'_>) {
    let mut line = text.to_string();
    line.push('\n');
    stderr(line.as_bytes());
}

/// A line on the standard error.
#[macro_export]
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::io::complain(::core::format_args!($($text)*)) };
}

/// A pipe, its reading end first; both are closed by execve(2).
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pipe() -> Result<(rustix::fd::OwnedFd, rustix::fd::OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Reads until the buffer is full.
///
/// # Errors
/// `UnexpectedEof`; those of read(2), but EINTR.
pub fn read_exact(from: impl AsFd, buffer: &mut [u8]) -> Result<()> {
    let mut at = 0;
    while at < buffer.len() {
        match rustix::io::read(from.as_fd(), &mut buffer[at..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => at += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_the_kernel_said() {
        let error = Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::NotFound, Some(libc::ENOENT)));
        assert_eq!(Error::from(Errno::ACCESS).kind(), ErrorKind::PermissionDenied);
        let error = Error::new(ErrorKind::InvalidData, "half of it");
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidData, "half of it"));
        assert_eq!(Error::other("x").raw_os_error(), None);
        assert_eq!(Error::from_raw_os_error(libc::EXDEV).kind(), ErrorKind::Other);
    }

    #[test]
    fn what_is_written_is_read_to_the_end_or_to_the_most() {
        let (reader, writer) = pipe().unwrap();
        write_all(writer.as_fd(), b"seven bytes").unwrap();
        drop(writer);
        let mut first = [0; 5];
        read_exact(&reader, &mut first).unwrap();
        assert_eq!(&first, b"seven");
        let mut bytes = Vec::new();
        read_to_end(reader.as_fd(), 3, &mut bytes).unwrap();
        assert_eq!(bytes, b" by");
        read_to_end(reader.as_fd(), 3000, &mut bytes).unwrap();
        assert_eq!(bytes, b" bytes");
        assert_eq!(read_exact(&reader, &mut first).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
