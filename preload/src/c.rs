//! What is used of libc. By hand, since the numbers are few and the libc crate would name more libraries to the linker.

pub(crate) use core::ffi::{c_char, c_int, c_void};

pub(crate) const AF_UNIX: c_int = 1;
pub(crate) const AF_INET: c_int = 2;
pub(crate) const AF_INET6: c_int = 10;
pub(crate) const AF_PACKET: c_int = 17;

#[cfg(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc64"))]
pub(crate) const SOL_SOCKET: c_int = 0xffff;
#[cfg(not(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc64")))]
pub(crate) const SOL_SOCKET: c_int = 1;
#[cfg(target_arch = "sparc64")]
pub(crate) const SO_MARK: c_int = 0x22;
#[cfg(not(target_arch = "sparc64"))]
pub(crate) const SO_MARK: c_int = 36;

pub(crate) const EPERM: c_int = 1;
pub(crate) const EINVAL: c_int = 22;
#[cfg(any(target_arch = "mips", target_arch = "mips64"))]
pub(crate) const ENOSYS: c_int = 89;
#[cfg(target_arch = "sparc64")]
pub(crate) const ENOSYS: c_int = 90;
#[cfg(not(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc64")))]
pub(crate) const ENOSYS: c_int = 38;

pub(crate) const POLLOUT: i16 = 4;
pub(crate) const PTHREAD_CANCEL_DISABLE: c_int = 1;
pub(crate) const RTLD_DEFAULT: *mut c_void = core::ptr::null_mut();
pub(crate) const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

#[repr(C)]
#[allow(non_camel_case_types)]
pub(crate) struct pollfd {
    pub(crate) fd: c_int,
    pub(crate) events: i16,
    pub(crate) revents: i16,
}

#[link(name = "c")]
unsafe extern "C" {
    pub(crate) fn __errno_location() -> *mut c_int;
    #[cfg(not(any(test, panic = "unwind")))]
    pub(crate) fn abort() -> !;
    pub(crate) fn close(fd: c_int) -> c_int;
    pub(crate) fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    pub(crate) fn getenv(name: *const c_char) -> *mut c_char;
    pub(crate) fn getpid() -> c_int;
    pub(crate) fn getsockname(fd: c_int, address: *mut c_void, len: *mut u32) -> c_int;
    pub(crate) fn getsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        len: *mut u32,
    ) -> c_int;
    pub(crate) fn poll(fds: *mut pollfd, count: core::ffi::c_ulong, timeout: c_int) -> c_int;
    pub(crate) fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: u32) -> c_int;
    pub(crate) fn write(fd: c_int, bytes: *const c_void, len: usize) -> isize;
}
