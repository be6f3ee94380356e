//! Giving back what only the start needed.

use crate::io;

/// Drops this process's mappings of program code, its own and its libraries': what start-up ran once is then no longer
/// resident, and what is still used comes back by a page fault out of the page cache. Small machines count resident pages.
///
/// Only mappings that are executable, private, of a file and not writable are touched: their pages are clean copies of the file,
/// so nothing can be lost (madvise(2), `MADV_DONTNEED`).
///
/// # Errors
/// Those of reading `/proc/self/maps` and of madvise(2); nothing depends on it.
pub fn forget_start() -> io::Result<()> {
    for line in crate::fs::read_to_string("/proc/self/maps")?.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some("r-xp"), Some(path)) = (words.next(), words.next(), words.nth(3)) else {
            continue;
        };
        let Some((start, end)) = range.split_once('-') else { continue };
        let (Ok(start), Ok(end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16)) else {
            continue;
        };
        if !path.starts_with('/') || end <= start {
            continue;
        }
        // SAFETY: the kernel itself said that this range is mapped from a file, private and not writable. No page in it was
        // ever changed (code is not relocated here: it would have to be writable once, and textrel is refused by the linker), so
        // the next access reads the same bytes again.
        if unsafe {
            libc::madvise(core::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED)
        } != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on() {
        super::forget_start().unwrap();
        assert_eq!("12".parse::<u8>(), Ok(12));
    }
}
