//! A few names, with a number each.

use crate::message::is_same_name;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// See the module's head. What was put in last stands last.
#[derive(Default)]
pub(super) struct Names(Vec<(Box<[u8]>, u64)>);

impl Names {
    /// The name's number, whatever the case of its letters.
    pub fn get(&self, name: &[u8]) -> Option<u64> {
        self.0.get(self.find(name)?).map(|(_, number)| *number)
    }

    /// Notes a name, in place of the oldest one if there are `most`.
    #[inline(never)]
    pub fn put(&mut self, name: &[u8], number: u64, most: usize) {
        let old = self.find(name).unwrap_or(if self.0.len() < most { most } else { 0 });
        if old < self.0.len() {
            self.0.remove(old);
        }
        self.0.push((name.into(), number));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        self.0.iter().position(|(known, _)| is_same_name(known, name))
    }
}
