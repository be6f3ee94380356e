//! The internet checksum (RFC 1071).

/// A running sum of 16-bit words. Every piece but the last must have an even length.
#[derive(Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds a piece; an odd last byte is padded with zero.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            let word = match *pair {
                [hi, lo] => u16::from_be_bytes([hi, lo]),
                [hi] => u16::from_be_bytes([hi, 0]),
                _ => 0,
            };
            self.0 += u64::from(word);
        }
    }

    /// The one's complement of the one's complement sum.
    pub(crate) fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}
