//! Numbers by the hash of what they stand for: a table's places by content. The hash is keyed (SipHash-1-3, as the standard library's tables
//! have it), so that nobody can choose names that fall together.

use super::Outside;
use alloc::vec::Vec;
use siphasher::sip::SipHasher13;

/// See the module's head.
pub(super) struct Index {
    key: Option<(u64, u64)>,
    /// For the last bits of a hash, the number that was put in last, plus one; 0 for none.
    heads: Vec<u32>,
    /// For each number, its hash and the next with the same last bits, plus one.
    links: Vec<(u64, u32)>,
}

impl Index {
    /// For so many numbers. More take more time, and no harm comes of them.
    pub fn new(expected: usize) -> Index {
        Index { key: None, heads: vec![0; expected.min(MOST_HEADS).next_power_of_two()], links: Vec::new() }
    }

    /// The hash of these bytes. The key is made at the first use.
    pub fn hash(&mut self, bytes: &[u8], out: &mut dyn Outside) -> u64 {
        let (one, two) = *self.key.get_or_insert_with(|| (out.random(), out.random()));
        SipHasher13::new_with_keys(one, two).hash(bytes)
    }

    /// The number of this hash that was put in last.
    pub fn get(&self, hash: u64) -> Option<u32> {
        let mut next = *self.heads.get(self.place(hash))?;
        loop {
            let number = next.checked_sub(1)?;
            let (known, behind) = *self.links.get(number as usize)?;
            if known == hash {
                return Some(number);
            }
            next = behind;
        }
    }

    /// Puts a number in, which is not in it.
    pub fn insert(&mut self, hash: u64, number: u32) {
        let (place, at) = (self.place(hash), number as usize);
        while self.links.len() <= at {
            self.links.push((0, 0));
        }
        if let (Some(head), Some(link)) = (self.heads.get_mut(place), self.links.get_mut(at)) {
            *link = (hash, *head);
            *head = number + 1;
        }
    }

    /// Takes a number out.
    pub fn remove(&mut self, hash: u64, number: u32) {
        let place = self.place(hash);
        let Some(&(_, behind)) = self.links.get(number as usize) else { return };
        let Some(mut next) = self.heads.get_mut(place) else { return };
        while *next != number + 1 {
            let Some(link) = next.checked_sub(1).and_then(|n| self.links.get_mut(n as usize)) else { return };
            next = &mut link.1;
        }
        *next = behind;
    }

    fn place(&self, hash: u64) -> usize {
        hash as usize & (self.heads.len() - 1)
    }
}

const MOST_HEADS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn what_was_put_in_is_found_until_it_is_taken_out_however_full_it_is() {
        let (mut index, mut should) = (Index::new(5), HashMap::new());
        let mut seed = 1u32;
        for _ in 0..5000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = seed >> 20 & 63;
            // Half of them share their last bits.
            let hash = u64::from(number) << (8 * (number % 2)) | 1 << 40;
            if should.remove(&hash).is_some() {
                index.remove(hash, number);
            } else {
                index.insert(hash, number);
                should.insert(hash, number);
            }
            for n in 0..64u32 {
                let hash = u64::from(n) << (8 * (n % 2)) | 1 << 40;
                assert_eq!(index.get(hash), should.get(&hash).copied());
            }
        }
        assert_eq!(index.heads.len(), 8);
    }
}
