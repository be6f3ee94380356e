//! The one line that says that marking failed: on stderr, once a process, and only where that does no harm.

use crate::c::{self, c_int};
use core::sync::atomic::{AtomicI32, Ordering};

/// Why a socket has no mark.
pub(crate) enum Cause<'a> {
    /// The variable's text is no mark.
    NoMark(&'a [u8]),
    /// The kernel refused.
    Refused { mark: u32, errno: c_int },
}

/// Says it, unless this process has said it before. errno is lost.
pub(crate) fn once(cause: Cause<'_>, strict: bool) {
    // SAFETY: takes nothing, cannot fail.
    let process = unsafe { c::getpid() };
    if SAID.load(Ordering::Relaxed) == process {
        return;
    }
    let _quiet = Uncancelled::new();
    if !is_safe() || SAID.swap(process, Ordering::Relaxed) == process {
        return;
    }
    let mut line = Line::new();
    line.text(b"libpacketmark: ");
    match cause {
        Cause::NoMark(text) => {
            line.text(b"LIBPACKETMARK_MARK=");
            line.foreign(text);
            line.text(b" is no mark; write VALUE or VALUE/MASK, decimal or 0x");
        }
        Cause::Refused { mark, errno } => {
            line.text(b"a socket could not be marked 0x");
            line.number(mark, 16);
            line.text(b": ");
            match errno {
                c::EPERM => line.text(b"Operation not permitted"),
                _ => {
                    line.text(b"errno ");
                    line.number(errno.unsigned_abs(), 10);
                }
            }
            line.text(b"; give the process CAP_NET_ADMIN (or CAP_NET_RAW, Linux 5.17), or use narrowgate exec --via cgroup");
        }
    }
    line.text(if strict { b" (strict: no socket)\n" } else { b" (its sockets stay unmarked)\n" });
    // SAFETY: the pointer and the length are the line's.
    unsafe { c::write(2, line.bytes.as_ptr().cast(), line.len) };
}

/// The process that has said it. A child of fork is a process of its own.
static SAID: AtomicI32 = AtomicI32::new(0);

/// Whether a line may be written to descriptor 2: it may be a socket of the program's (a line of text must not become a
/// packet), a pipe without a reader (SIGPIPE) or one that is full (the program would hang).
fn is_safe() -> bool {
    let mut stderr = c::pollfd { fd: 2, events: c::POLLOUT, revents: 0 };
    // SAFETY: one pollfd, and no waiting.
    if unsafe { c::poll(&raw mut stderr, 1, 0) } != 1 || stderr.revents != c::POLLOUT {
        return false;
    }
    let mut address = [0u16; 64];
    let mut len = 128u32;
    // SAFETY: points to 128 bytes, aligned for the family that comes first, and to that length.
    let is_socket = unsafe { c::getsockname(2, address.as_mut_ptr().cast(), &raw mut len) } == 0;
    !is_socket || i32::from(address[0]) == c::AF_UNIX
}

/// While it lives, pthread_cancel waits: `socket` is no cancellation point, but what it calls here would be one.
pub(crate) struct Uncancelled {
    set: Option<SetCancelState>,
    old: c_int,
}

type SetCancelState = unsafe extern "C" fn(c_int, *mut c_int) -> c_int;

impl Uncancelled {
    pub(crate) fn new() -> Uncancelled {
        // Looked up by name: in an older glibc it is in another library, and absent where there are no threads.
        // SAFETY: the name is a C string.
        let found = unsafe { c::dlsym(c::RTLD_DEFAULT, c"pthread_setcancelstate".as_ptr()) };
        let mut quiet = Uncancelled { set: None, old: 0 };
        if !found.is_null() {
            // SAFETY: the function of that name has this type.
            let set = unsafe { core::mem::transmute::<*mut c::c_void, SetCancelState>(found) };
            // SAFETY: a valid state, and a place for the old one.
            unsafe { set(c::PTHREAD_CANCEL_DISABLE, &raw mut quiet.old) };
            quiet.set = Some(set);
        }
        quiet
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        if let Some(set) = self.set {
            // SAFETY: the state that was there before.
            unsafe { set(self.old, core::ptr::null_mut()) };
        }
    }
}

/// A line of text without an allocator. What does not fit is cut.
struct Line {
    bytes: [u8; 320],
    len: usize,
}

impl Line {
    fn new() -> Line {
        Line { bytes: [0; 320], len: 0 }
    }

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn text(&mut self, text: &[u8]) {
        text.iter().for_each(|byte| self.byte(*byte));
    }

    /// Text from outside: short, and nothing that a terminal would obey.
    fn foreign(&mut self, text: &[u8]) {
        text.iter().take(40).for_each(|byte| self.byte(if byte.is_ascii_graphic() { *byte } else { b'?' }));
    }

    fn number(&mut self, mut number: u32, radix: u32) {
        let mut digits = [0u8; 10];
        let mut used = 0;
        for place in digits.iter_mut().rev() {
            *place = b"0123456789abcdef".get((number % radix) as usize).copied().unwrap_or(b'?');
            used += 1;
            number /= radix;
            if number == 0 {
                break;
            }
        }
        digits.iter().skip(10 - used).for_each(|digit| self.byte(*digit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line::new();
        write(&mut line);
        String::from_utf8_lossy(&line.bytes[..line.len]).into_owned()
    }

    #[test]
    fn numbers_are_written_in_their_radix() {
        assert_eq!(text(|line| line.number(0, 10)), "0");
        assert_eq!(text(|line| line.number(u32::MAX, 10)), "4294967295");
        assert_eq!(text(|line| line.number(0xbeef, 16)), "beef");
    }

    #[test]
    fn a_foreign_text_is_short_and_harmless() {
        assert_eq!(text(|line| line.foreign(b"a\x1b[2J\n")), "a?[2J?");
        assert_eq!(text(|line| line.foreign(&[b'x'; 400])).len(), 40);
        assert_eq!(text(|line| line.text(&[b'x'; 400])).len(), 320);
    }
}
