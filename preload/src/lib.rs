//! `libpacketmark.so`, for `LD_PRELOAD`: marks every AF_INET, AF_INET6 and AF_PACKET socket that a program creates by
//! calling `socket` of its libc. `LIBPACKETMARK_MARK` says with what, `LIBPACKETMARK_STRICT=1` that a socket which
//! cannot be marked shall not be. The manual page is docs/man/libpacketmark.8.
//!
//! It lives inside other people's programs: no allocation, no panic, no Rust runtime, nothing exported but `socket`,
//! and a call that is not ours to change costs two loads and a jump.
#![cfg_attr(not(any(test, panic = "unwind")), no_std)]

mod c;
mod complaint;
mod value;

use c::{c_char, c_int, c_void};
use complaint::Cause;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use value::Value;

/// `socket(2)` as the program sees it. The next `socket` in the program's own order of libraries makes the socket, so
/// preloads before and behind this one keep working; then it is marked.
///
/// # Safety
/// As `socket(2)`: any values are allowed, and it may be called from any thread, also before constructors have run.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    let next = next(); // before WATCHED: who sees what `start` wrote here sees what it wrote there
    let watched = WATCHED.load(Ordering::Relaxed);
    if (domain as u32) < 32 && watched >> domain & 1 != 0 {
        return marked(next, domain, kind, protocol);
    }
    // SAFETY: the caller's own call.
    unsafe { next(domain, kind, protocol) }
}

type Socket = unsafe extern "C" fn(c_int, c_int, c_int) -> c_int;

/// The `socket` behind ours, once [`start`] has found it.
static NEXT: AtomicPtr<c_void> = AtomicPtr::new(first as *mut c_void);
/// The families that are marked, a bit each; none where no mark was asked for.
static WATCHED: AtomicU32 = AtomicU32::new(0);
static VALUE: AtomicU32 = AtomicU32::new(0);
static MASK: AtomicU32 = AtomicU32::new(0);
/// The variable holds something that is no mark.
static REFUSED: AtomicBool = AtomicBool::new(false);
static STRICT: AtomicBool = AtomicBool::new(false);

const FAMILIES: u32 = 1 << c::AF_INET | 1 << c::AF_INET6 | 1 << c::AF_PACKET;

fn next() -> Socket {
    // SAFETY: NEXT is `first`, `missing`, or what dlsym found under the name `socket`: all have this type.
    unsafe { core::mem::transmute::<*mut c_void, Socket>(NEXT.load(Ordering::Acquire)) }
}

/// Stands in NEXT until [`start`] has run.
#[cold]
unsafe extern "C" fn first(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    start();
    // SAFETY: the caller's own call.
    unsafe { socket(domain, kind, protocol) }
}

/// Stands in NEXT where no library behind ours has a `socket`.
#[cold]
unsafe extern "C" fn missing(_: c_int, _: c_int, _: c_int) -> c_int {
    set_errno(c::ENOSYS);
    -1
}

/// Early, while there is one thread: later a first call might come in a child of fork, where dlsym is not safe.
/// A program that makes sockets in constructors that run before this one comes through [`first`].
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static INIT: extern "C" fn() = start;

/// Reads the environment and finds the next `socket`. Threads that race here all write the same.
#[cold]
extern "C" fn start() {
    let errno = errno();
    if let Some(text) = variable(c"LIBPACKETMARK_MARK") {
        match Value::parse(text) {
            Some(Value { value, mask }) => {
                VALUE.store(value, Ordering::Relaxed);
                MASK.store(mask, Ordering::Relaxed);
            }
            None => REFUSED.store(true, Ordering::Relaxed), // and MASK stays 0: no socket takes the short way
        }
        let strict = variable(c"LIBPACKETMARK_STRICT").is_some_and(|text| !matches!(text, b"" | b"0"));
        STRICT.store(strict, Ordering::Relaxed);
        WATCHED.store(FAMILIES, Ordering::Relaxed);
    }
    // SAFETY: the name is a C string. The result is used, so this is no tail call and RTLD_NEXT means "after us".
    let found = unsafe { c::dlsym(c::RTLD_NEXT, c"socket".as_ptr()) };
    NEXT.store(if found.is_null() { missing as *mut c_void } else { found }, Ordering::Release);
    set_errno(errno);
}

/// A socket of a family that is marked. What is rare is kept out of line here: it would cost this one its registers.
#[inline(never)]
fn marked(next: Socket, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    if MASK.load(Ordering::Relaxed) != u32::MAX {
        return marked_in_part(next, domain, kind, protocol);
    }
    // SAFETY: the caller's own call.
    let fd = unsafe { next(domain, kind, protocol) };
    if fd < 0 {
        return fd;
    }
    // A call that succeeds leaves errno alone, so what the kernel says to the mark must not show.
    let before = errno();
    let value = VALUE.load(Ordering::Relaxed);
    if set_mark(fd, value) { fd } else { unmarked(fd, value, before) }
}

/// With a mask, under which bits survive; or with something that is no mark.
#[cold]
#[inline(never)]
fn marked_in_part(next: Socket, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    let refused = REFUSED.load(Ordering::Relaxed);
    if refused {
        let strict = STRICT.load(Ordering::Relaxed);
        complaint::once(Cause::NoMark(variable(c"LIBPACKETMARK_MARK").unwrap_or(b"")), strict);
        if strict {
            set_errno(c::EINVAL);
            return -1;
        }
    }
    // SAFETY: the caller's own call.
    let fd = unsafe { next(domain, kind, protocol) };
    if fd < 0 || refused {
        return fd;
    }
    let before = errno();
    let value = Value { value: VALUE.load(Ordering::Relaxed), mask: MASK.load(Ordering::Relaxed) };
    let old = mark_of(fd);
    let wanted = value.apply(old.unwrap_or(0));
    // A cgroup program may have marked it already: then no privilege is needed.
    if old == Some(wanted) || set_mark(fd, wanted) { fd } else { unmarked(fd, wanted, before) }
}

/// The kernel refused the mark: that is said, and under STRICT there is no socket.
#[cold]
#[inline(never)]
fn unmarked(fd: c_int, wanted: u32, before: c_int) -> c_int {
    let (cause, strict) = (errno(), STRICT.load(Ordering::Relaxed));
    let marked = mark_of(fd) == Some(wanted);
    if !marked {
        complaint::once(Cause::Refused { mark: wanted, errno: cause }, strict);
    }
    if marked || !strict {
        set_errno(before);
        return fd;
    }
    let _quiet = complaint::Uncancelled::new();
    // SAFETY: the descriptor is ours alone, the program has not seen it.
    unsafe { c::close(fd) };
    set_errno(cause);
    -1
}

#[inline(always)]
fn set_mark(fd: c_int, mark: u32) -> bool {
    let mark = &raw const mark;
    // SAFETY: points to a u32, and says so.
    unsafe { c::setsockopt(fd, c::SOL_SOCKET, c::SO_MARK, mark.cast(), 4) == 0 }
}

fn mark_of(fd: c_int) -> Option<u32> {
    let (mut mark, mut len) = (0u32, 4u32);
    // SAFETY: points to a u32 and to its length.
    let got = unsafe { c::getsockopt(fd, c::SOL_SOCKET, c::SO_MARK, (&raw mut mark).cast(), &raw mut len) };
    (got == 0).then_some(mark)
}

/// A variable of the environment. The text is the program's own memory: it is used at once and not kept.
fn variable(name: &core::ffi::CStr) -> Option<&'static [u8]> {
    // SAFETY: the name is a C string.
    let text: *const c_char = unsafe { c::getenv(name.as_ptr()) };
    if text.is_null() {
        return None;
    }
    // SAFETY: getenv gives a C string.
    Some(unsafe { core::ffi::CStr::from_ptr(text) }.to_bytes())
}

#[inline(always)]
fn errno() -> c_int {
    // SAFETY: libc gives each thread its own.
    unsafe { *c::__errno_location() }
}

fn set_errno(errno: c_int) {
    // SAFETY: as above.
    unsafe { *c::__errno_location() = errno }
}

#[cfg(not(any(test, panic = "unwind")))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: takes nothing, never returns. No code here can panic; the linker drops this.
    unsafe { c::abort() }
}
