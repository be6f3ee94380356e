//! What a program was started with: its words and its environment.

use crate::io;
use crate::path::{Path, PathBuf};
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// `argv` of `main`: a list of C strings that ends with a null pointer.
static WORDS: AtomicPtr<*const c_char> = AtomicPtr::new(ptr::null_mut());

unsafe extern "C" {
    /// See environ(7).
    static environ: *const *const c_char;
}

/// Keeps what `main` was given.
///
/// # Safety
/// `words` is `argv` of `main`.
pub(crate) unsafe fn keep_words(words: *const *const c_char) {
    WORDS.store(words.cast_mut(), Ordering::Relaxed);
}

/// The program's name as it was called, and its arguments.
pub fn args_os() -> Vec<PathBuf> {
    // SAFETY: null, or `argv` of `main`, which nobody changes.
    unsafe { list(WORDS.load(Ordering::Relaxed)) }.map(PathBuf::from).collect()
}

/// The environment, as `NAME=value`. Whatever else is in it was put there by a careless parent, and is as it is.
pub fn entries() -> impl Iterator<Item = &'static CStr> {
    // SAFETY: nothing here calls setenv(3), so it is as the process got it.
    unsafe { list(environ) }
}

/// # Safety
/// `next` is null, or a list of C strings that ends with a null pointer and lives as long as the process.
unsafe fn list(mut next: *const *const c_char) -> impl Iterator<Item = &'static CStr> {
    core::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: it is not behind the null pointer that ends the list: that one is not stepped over.
        let text = unsafe { *next };
        if text.is_null() {
            return None;
        }
        // SAFETY: the next one is there, at the latest the null pointer; this one is a C string.
        unsafe {
            next = next.add(1);
            Some(CStr::from_ptr(text))
        }
    })
}

/// The value of a variable.
#[inline(never)]
pub fn var_os(name: &str) -> Option<PathBuf> {
    entries().find_map(|entry| {
        let value = entry.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(Path::from_bytes(value).to_path_buf())
    })
}

/// The same, if it is UTF-8.
pub fn var(name: &str) -> Option<String> {
    String::from_utf8(var_os(name)?.into_vec()).ok()
}

/// The file that this program is.
///
/// # Errors
/// Those of readlink(2): /proc is not mounted.
pub fn current_exe() -> io::Result<PathBuf> {
    crate::fs::read_link("/proc/self/exe")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_what_the_standard_library_sees() {
        for (name, value) in std::env::vars() {
            assert_eq!(var(&name), Some(value), "{name}");
        }
        assert_eq!(var_os("NARROWGATE_NO_SUCH_VARIABLE"), None);
        assert_eq!(current_exe().unwrap().to_str(), std::env::current_exe().unwrap().to_str());
    }

    #[test]
    fn words_are_read_to_the_null_pointer() {
        let words = [c"narrowgate".as_ptr(), c"status".as_ptr(), ptr::null()];
        // SAFETY: such a list.
        let read: Vec<_> = unsafe { list(words.as_ptr()) }.map(CStr::to_bytes).collect();
        assert_eq!(read, [&b"narrowgate"[..], b"status"]);
        // SAFETY: null is allowed.
        assert_eq!(unsafe { list(ptr::null()) }.count(), 0);
    }
}
