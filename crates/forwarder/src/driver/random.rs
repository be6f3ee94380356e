//! Random bits from the kernel, some at a time.

use rustix::rand::{GetRandomFlags, getrandom};

/// See the module's head.
pub(super) struct Random {
    words: [u64; 64],
    left: usize,
}

impl Random {
    pub fn new() -> Random {
        Random { words: [0; 64], left: 0 }
    }

    /// Bits that were never given before. Without any from the kernel the process ends: guessable ids are worse than none.
    pub fn next(&mut self) -> u64 {
        if self.left == 0 {
            let mut bytes = [0u8; 512];
            match getrandom(&mut bytes, GetRandomFlags::empty()) {
                Ok(512) => {}
                _ => narrowgate_sys::process::abort(),
            }
            for (word, bytes) in self.words.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = bytes.try_into().map_or(0, u64::from_ne_bytes);
            }
            self.left = self.words.len();
        }
        self.left -= 1;
        // What is given out is not kept.
        self.words.get_mut(self.left).map_or(0, core::mem::take)
    }
}
