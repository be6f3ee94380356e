//! What a program stands on that is without the standard library: `main`, memory, and the end of a panic.

use core::ffi::c_char;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::BorrowedFd;

/// Makes `main` of a program out of a function that takes the words of its command line and returns an [`ExitCode`](crate::process::ExitCode).
#[macro_export]
macro_rules! program {
    ($main:path) => {
        /// As C has it.
        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn main(
            _count: ::core::ffi::c_int,
            words: *const *const ::core::ffi::c_char,
        ) -> ::core::ffi::c_int {
            // SAFETY: it is `argv`.
            unsafe { $crate::runtime::start(words) };
            $crate::process::ExitCode::number($main($crate::env::args_os()))
        }

        /// Tests have a `main` of their own.
        #[cfg(test)]
        fn main() {
            let _ = $main($crate::env::args_os());
        }
    };
}

/// Before anything else: keeps the words that the program was called with, sees to it that descriptors 0 to 2 are open (so that
/// nothing which is opened later is written to as if it were the standard error), and lets a write to a closed pipe be an error.
///
/// # Safety
/// `words` is `argv` of `main`.
#[doc(hidden)]
pub unsafe fn start(words: *const *const c_char) {
    // SAFETY: as the caller promises.
    unsafe { crate::env::keep_words(words) };
    for number in 0..3 {
        // SAFETY: it is only asked about, and if it is not open the kernel says so.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let mut asked = [PollFd::new(&descriptor, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut asked, Some(&at_once)).is_ok()
            && asked[0].revents().contains(PollFlags::NVAL)
        {
            // The lowest number that is free is taken, which is this one. It stays open.
            // SAFETY: a C string and flags.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
    // SAFETY: no handler of ours runs for it.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

#[cfg(not(any(test, feature = "std")))]
mod without_std {
    use core::alloc::{GlobalAlloc, Layout};

    // The crate `libc` asks the linker for it only where no other crate of the build thinks that the standard library will.
    #[link(name = "c")]
    unsafe extern "C" {}

    /// The C library's memory.
    struct Memory;

    /// At least, with every C library.
    const MALLOC_ALIGNS_TO: usize = 2 * size_of::<usize>();

    // SAFETY: malloc(3) and its like give memory for any type of C's, posix_memalign(3) what wants more than that; free(3) takes either.
    unsafe impl GlobalAlloc for Memory {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if layout.align() <= MALLOC_ALIGNS_TO {
                // SAFETY: any number may be asked for.
                return unsafe { libc::malloc(layout.size()) }.cast();
            }
            let mut place = core::ptr::null_mut();
            // SAFETY: a `Layout`'s alignment is a power of two, here a large one.
            match unsafe { libc::posix_memalign(&raw mut place, layout.align(), layout.size()) } {
                0 => place.cast(),
                _ => core::ptr::null_mut(),
            }
        }

        unsafe fn dealloc(&self, place: *mut u8, _: Layout) {
            // SAFETY: it is from `alloc`.
            unsafe { libc::free(place.cast()) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            if layout.align() <= MALLOC_ALIGNS_TO {
                // SAFETY: any numbers may be asked for.
                return unsafe { libc::calloc(layout.size(), 1) }.cast();
            }
            // SAFETY: as the caller promises.
            let place = unsafe { self.alloc(layout) };
            if !place.is_null() {
                // SAFETY: it was made with this size.
                unsafe { place.write_bytes(0, layout.size()) };
            }
            place
        }

        unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            if layout.align() <= MALLOC_ALIGNS_TO {
                // SAFETY: it is from malloc(3), whose alignment will do.
                return unsafe { libc::realloc(place.cast(), size) }.cast();
            }
            // SAFETY: the size is no larger than a `Layout` may be, as the caller promises.
            let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
            if !new.is_null() {
                // SAFETY: both are as long as is copied, and are not the same.
                unsafe {
                    place.copy_to_nonoverlapping(new, layout.size().min(size));
                    self.dealloc(place, layout);
                }
            }
            new
        }
    }

    #[global_allocator]
    static MEMORY: Memory = Memory;

    /// Says where, and aborts. Not what: the words for every place where it cannot happen would be a good part of the program.
    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        if let Some(place) = info.location() {
            crate::eprintln!("narrowgate: panic at {}:{}", place.file(), place.line());
        }
        // SAFETY: it ends the process.
        unsafe { libc::abort() }
    }

    /// What `alloc`, as it comes compiled, refers to in a build that is not optimized. Nobody unwinds here.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    /// See [`rust_eh_personality`].
    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Resume() -> ! {
        // SAFETY: it ends the process.
        unsafe { libc::abort() }
    }
}
