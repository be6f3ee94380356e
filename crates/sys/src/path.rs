//! Paths, and other texts of the operating system: bytes without a zero among them, mostly UTF-8.

use alloc::borrow::{Borrow, Cow, ToOwned};
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt::{self, Write};
use core::ops::Deref;

/// A borrowed path or text. Two are equal when their bytes are.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Path {
    bytes: [u8],
}

/// An owned [`Path`].
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathBuf {
    bytes: Vec<u8>,
}

impl Path {
    /// Anything that is one.
    pub fn new<T: AsRef<Path> + ?Sized>(text: &T) -> &Path {
        text.as_ref()
    }

    /// These bytes.
    pub fn from_bytes(bytes: &[u8]) -> &Path {
        // SAFETY: a `Path` is a slice of bytes and nothing else (`repr(transparent)`).
        unsafe { &*(core::ptr::from_ref(bytes) as *const Path) }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As text, if it is UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        core::str::from_utf8(&self.bytes).ok()
    }

    /// As text, with U+FFFD for what is no UTF-8.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// To be written for people to read.
    pub fn display(&self) -> Display<'_> {
        Display(self)
    }

    /// An owned copy.
    pub fn to_path_buf(&self) -> PathBuf {
        PathBuf { bytes: self.bytes.to_vec() }
    }

    /// Itself: a path is a text.
    pub fn as_os_str(&self) -> &Path {
        self
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it begins at the root.
    pub fn is_absolute(&self) -> bool {
        self.bytes.first() == Some(&b'/')
    }

    /// `other` below it; `other` alone, if that begins at the root.
    pub fn join(&self, other: impl AsRef<Path>) -> PathBuf {
        joined(self, other.as_ref())
    }

    /// What it lies in; `None` for the root and for nothing.
    pub fn parent(&self) -> Option<&Path> {
        let path = without_slashes(&self.bytes);
        let at = path.iter().rposition(|byte| *byte == b'/');
        match at {
            _ if path.is_empty() => None,
            None => Some(Path::from_bytes(b"")),
            Some(at) => {
                let parent = without_slashes(&path[..at]);
                Some(Path::from_bytes(if parent.is_empty() { b"/" } else { parent }))
            }
        }
    }

    /// Its last name; `None` where that is no name (`/`, `..`).
    pub fn file_name(&self) -> Option<&Path> {
        let name = without_slashes(&self.bytes).rsplit(|byte| *byte == b'/').next()?;
        (!name.is_empty() && name != b"..").then(|| Path::from_bytes(name))
    }

    /// Its last name replaced.
    pub fn with_file_name(&self, name: impl AsRef<Path>) -> PathBuf {
        joined(self.parent().unwrap_or(Path::from_bytes(b"")), name.as_ref())
    }

    /// Itself, what it lies in, and so on to the end.
    pub fn ancestors(&self) -> impl Iterator<Item = &Path> {
        core::iter::successors(Some(self), |path| path.parent())
    }

    /// What is left of it below `base`; `None` where it is not below it.
    pub fn strip_prefix(&self, base: impl AsRef<Path>) -> Option<&Path> {
        let base = base.as_ref();
        if base.is_empty() || base.is_absolute() != self.is_absolute() {
            return base.is_empty().then_some(self);
        }
        match self.bytes.strip_prefix(without_slashes(&base.bytes))? {
            [] => Some(Path::from_bytes(b"")),
            [b'/', rest @ ..] => Some(Path::from_bytes(without_slashes_before(rest))),
            _ => None,
        }
    }

    /// Whether it is `base` or lies below it.
    pub fn starts_with(&self, base: impl AsRef<Path>) -> bool {
        self.strip_prefix(base).is_some()
    }

    /// Whether something is there, and can be seen.
    pub fn exists(&self) -> bool {
        crate::fs::metadata(self).is_ok()
    }

    /// Whether a directory is there.
    pub fn is_dir(&self) -> bool {
        crate::fs::metadata(self).is_ok_and(|about| about.is_dir())
    }

    /// Whether a regular file is there.
    pub fn is_file(&self) -> bool {
        crate::fs::metadata(self).is_ok_and(|about| about.is_file())
    }
}

fn joined(base: &Path, other: &Path) -> PathBuf {
    let mut path = base.to_path_buf();
    path.push(other);
    path
}

fn without_slashes(mut path: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

fn without_slashes_before(mut path: &[u8]) -> &[u8] {
    while let [b'/', rest @ ..] = path {
        path = rest;
    }
    path
}

impl PathBuf {
    /// Nothing.
    pub const fn new() -> PathBuf {
        PathBuf { bytes: Vec::new() }
    }

    /// These bytes.
    pub fn from_vec(bytes: Vec<u8>) -> PathBuf {
        PathBuf { bytes }
    }

    /// The same, borrowed.
    pub fn as_path(&self) -> &Path {
        Path::from_bytes(&self.bytes)
    }

    /// Goes to `other` below it; to `other` alone, if that begins at the root.
    pub fn push(&mut self, other: impl AsRef<Path>) {
        let other = other.as_ref();
        if other.is_absolute() {
            self.bytes.clear();
        } else if !self.bytes.is_empty() && self.bytes.last() != Some(&b'/') {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// Appends bytes to its last name.
    pub fn append(&mut self, text: impl AsRef<Path>) {
        self.bytes.extend_from_slice(&text.as_ref().bytes);
    }

    /// Its bytes.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

impl Deref for PathBuf {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.as_path()
    }
}

impl Borrow<Path> for PathBuf {
    fn borrow(&self) -> &Path {
        self
    }
}

impl ToOwned for Path {
    type Owned = PathBuf;

    fn to_owned(&self) -> PathBuf {
        self.to_path_buf()
    }
}

impl AsRef<Path> for Path {
    fn as_ref(&self) -> &Path {
        self
    }
}

impl AsRef<Path> for PathBuf {
    fn as_ref(&self) -> &Path {
        self
    }
}

impl AsRef<Path> for str {
    fn as_ref(&self) -> &Path {
        Path::from_bytes(self.as_bytes())
    }
}

impl AsRef<Path> for String {
    fn as_ref(&self) -> &Path {
        Path::from_bytes(self.as_bytes())
    }
}

impl AsRef<Path> for [u8] {
    fn as_ref(&self) -> &Path {
        Path::from_bytes(self)
    }
}

impl AsRef<Path> for CStr {
    fn as_ref(&self) -> &Path {
        Path::from_bytes(self.to_bytes())
    }
}

impl<T: AsRef<Path> + ?Sized> From<&T> for PathBuf {
    fn from(text: &T) -> PathBuf {
        text.as_ref().to_path_buf()
    }
}

impl From<String> for PathBuf {
    fn from(text: String) -> PathBuf {
        PathBuf { bytes: text.into_bytes() }
    }
}

impl Default for &Path {
    fn default() -> Self {
        Path::from_bytes(b"")
    }
}

impl PartialEq<str> for Path {
    fn eq(&self, other: &str) -> bool {
        self.bytes == *other.as_bytes()
    }
}

impl PartialEq<str> for PathBuf {
    fn eq(&self, other: &str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl PartialEq<&str> for PathBuf {
    fn eq(&self, other: &&str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl PartialEq<Path> for PathBuf {
    fn eq(&self, other: &Path) -> bool {
        self.bytes == other.bytes
    }
}

impl PartialEq<&Path> for PathBuf {
    fn eq(&self, other: &&Path) -> bool {
        self.bytes == other.bytes
    }
}

impl PartialEq<PathBuf> for Path {
    fn eq(&self, other: &PathBuf) -> bool {
        self.bytes == other.bytes
    }
}

/// See [`Path::display`].
#[derive(Debug, Clone, Copy)]
pub struct Display<'a>(&'a Path);

impl fmt::Display for Display<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string_lossy())
    }
}

/// In quotes, and what is no text or would not be seen escaped. Less is than by `str`'s own, which has tables of 5 KB for it.
impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' | '\\' => write!(f, "\\{c}")?,
                    _ if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                    _ => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02X}")?;
            }
        }
        f.write_char('"')
    }
}

impl fmt::Debug for PathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_path(), f)
    }
}

impl Path {
    fn c_string(&self) -> rustix::io::Result<CString> {
        CString::new(&self.bytes).map_err(|_| rustix::io::Errno::INVAL)
    }
}

impl rustix::path::Arg for &Path {
    fn as_str(&self) -> rustix::io::Result<&str> {
        self.to_str().ok_or(rustix::io::Errno::INVAL)
    }

    fn to_string_lossy(&self) -> Cow<'_, str> {
        Path::to_string_lossy(self)
    }

    fn as_cow_c_str(&self) -> rustix::io::Result<Cow<'_, CStr>> {
        self.c_string().map(Cow::Owned)
    }

    fn into_c_str<'b>(self) -> rustix::io::Result<Cow<'b, CStr>>
    where
        Self: 'b,
    {
        self.c_string().map(Cow::Owned)
    }

    fn into_with_c_str<T, F>(self, f: F) -> rustix::io::Result<T>
    where
        Self: Sized,
        F: FnOnce(&CStr) -> rustix::io::Result<T>,
    {
        f(&self.c_string()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    /// The standard library's, where it goes by names and not by bytes, is the oracle.
    #[test]
    fn paths_are_taken_apart_and_put_together_as_the_standard_library_does() {
        let paths =
            ["", "/", "a", "/a", "a/", "a/b", "/a/b", "/a/b/", "//a", "..", "a/..", "/a/../b", "a.b/c.d"];
        let bytes = |path: Option<&std::path::Path>| path.map(|p| p.as_os_str().as_bytes().to_vec());
        for one in paths {
            let (ours, theirs) = (Path::new(one), std::path::Path::new(one));
            let parent = ours.parent().map(|p| p.as_bytes().to_vec());
            assert_eq!(parent, bytes(theirs.parent()), "{one}");
            let name = ours.file_name().map(|p| p.as_bytes().to_vec());
            assert_eq!(name, theirs.file_name().map(|n| n.as_bytes().to_vec()), "{one}");
            assert_eq!(ours.is_absolute(), theirs.is_absolute());
            for other in paths {
                let joined = theirs.join(other);
                assert_eq!(ours.join(other).as_bytes(), joined.as_os_str().as_bytes(), "{one} {other}");
                let new = theirs.with_file_name(if other.is_empty() { "x" } else { other });
                let own = ours.with_file_name(if other.is_empty() { "x" } else { other });
                if theirs.file_name().is_some() {
                    assert_eq!(own.as_bytes(), new.as_os_str().as_bytes(), "{one} {other}");
                }
                if !one.contains("//") && !other.contains("//") {
                    let rest = ours.strip_prefix(other).map(|p| without_slashes(p.as_bytes()).to_vec());
                    let expected =
                        bytes(theirs.strip_prefix(other).ok()).map(|p| without_slashes(&p).to_vec());
                    assert_eq!(rest, expected, "{one} {other}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_text_is_shown_nevertheless() {
        let path = Path::from_bytes(b"a\xff\"b");
        assert_eq!(format!("{}", path.display()), "a\u{fffd}\"b");
        assert_eq!(format!("{path:?}"), "\"a\\xFF\\\"b\"");
        assert_eq!(path.to_str(), None);
        assert_eq!(format!("[{:>4}]", Path::new("ab").display()), "[  ab]");
    }
}
