//! Lists from iterators, for short lists. The standard library's `collect` and `extend` look how long the list will be and take the
//! first item out of the loop: whatever the iterator does is in the program twice. This costs 130 to 400 bytes less each time.

use alloc::vec::Vec;

/// What iterators can besides.
pub trait Gather: Iterator + Sized {
    /// All items, as `collect` would have them.
    fn gather(self) -> Vec<Self::Item> {
        let mut list = Vec::new();
        self.add_to(&mut list);
        list
    }

    /// Puts all items behind those in the list, as `extend` would.
    fn add_to(self, list: &mut Vec<Self::Item>) {
        self.for_each(|item| list.push(item));
    }
}

impl<I: Iterator> Gather for I {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_items_come_in_their_order_behind_what_is_there() {
        let mut list = vec![7];
        [1, 2, 3].into_iter().filter(|n| *n != 2).add_to(&mut list);
        assert_eq!(list, [7, 1, 3]);
        assert_eq!((0..4).gather(), [0, 1, 2, 3]);
    }
}
