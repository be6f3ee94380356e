//! Between our errors and paths and the standard library's: for tests, which have both. With it goes rustix's half of the standard
//! library, so that a `std::net::UdpSocket` is a descriptor here too.

#[allow(unused_extern_crates, reason = "the crate is without it otherwise")]
extern crate std;

use crate::io::Error;
use crate::path::{Path, PathBuf};
use alloc::string::ToString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        match error.raw_os_error() {
            Some(number) => Error::from_raw_os_error(number),
            None => Error::other(error.to_string()),
        }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        match error.raw_os_error() {
            Some(number) => std::io::Error::from_raw_os_error(number),
            None => std::io::Error::other(error),
        }
    }
}

impl AsRef<std::path::Path> for Path {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(std::ffi::OsStr::from_bytes(self.as_bytes()))
    }
}

impl AsRef<std::path::Path> for PathBuf {
    fn as_ref(&self) -> &std::path::Path {
        self.as_path().as_ref()
    }
}

impl AsRef<std::ffi::OsStr> for Path {
    fn as_ref(&self) -> &std::ffi::OsStr {
        std::ffi::OsStr::from_bytes(self.as_bytes())
    }
}

impl AsRef<std::ffi::OsStr> for PathBuf {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.as_path().as_ref()
    }
}

impl AsRef<Path> for std::path::Path {
    fn as_ref(&self) -> &Path {
        Path::from_bytes(self.as_os_str().as_bytes())
    }
}

impl AsRef<Path> for std::path::PathBuf {
    fn as_ref(&self) -> &Path {
        self.as_path().as_ref()
    }
}

impl AsRef<Path> for std::ffi::OsStr {
    fn as_ref(&self) -> &Path {
        Path::from_bytes(self.as_bytes())
    }
}

impl AsRef<Path> for std::ffi::OsString {
    fn as_ref(&self) -> &Path {
        self.as_os_str().as_ref()
    }
}

impl From<std::path::PathBuf> for PathBuf {
    fn from(path: std::path::PathBuf) -> PathBuf {
        PathBuf::from_vec(path.into_os_string().into_vec())
    }
}

impl From<std::ffi::OsString> for PathBuf {
    fn from(text: std::ffi::OsString) -> PathBuf {
        PathBuf::from_vec(text.into_vec())
    }
}

impl From<crate::process::ExitCode> for std::process::ExitCode {
    fn from(code: crate::process::ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code.number() as u8)
    }
}
