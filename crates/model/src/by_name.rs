//! A map for a handful of things with names. A `BTreeMap` is for thousands, and each type of value costs 3 to 9 KB of program.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Values by name, in the order of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByName<V>(Vec<(String, V)>);

impl<V> ByName<V> {
    /// An empty one.
    pub const fn new() -> ByName<V> {
        ByName(Vec::new())
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The value of this name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.0.iter_mut().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Whether there is something of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Puts a value in, in place of the one that had this name, if any.
    pub fn insert(&mut self, name: String, value: V) {
        let mut place = 0;
        for (known, is) in &mut self.0 {
            match name.cmp(known) {
                Ordering::Less => break,
                Ordering::Equal => {
                    *is = value;
                    return;
                }
                Ordering::Greater => place += 1,
            }
        }
        self.0.insert(place, (name, value));
    }

    /// Takes a value out.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        let place = self.keys().position(|n| n == name)?;
        Some(self.0.remove(place).1)
    }

    /// Names and values, in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&String, &V)> + Clone {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The names, in their order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &String> + Clone {
        self.iter().map(|(name, _)| name)
    }

    /// The values, in the order of their names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// Keeps those that `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut V) -> bool) {
        self.0.retain_mut(|(name, value)| keep(name, value));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V> Default for ByName<V> {
    fn default() -> ByName<V> {
        ByName::new()
    }
}

impl<V> IntoIterator for ByName<V> {
    type Item = (String, V);
    type IntoIter = alloc::vec::IntoIter<(String, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<V> FromIterator<(String, V)> for ByName<V> {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(items: I) -> ByName<V> {
        let mut all = ByName::new();
        items.into_iter().for_each(|(name, value)| all.insert(name, value));
        all
    }
}

impl<V, const N: usize> From<[(String, V); N]> for ByName<V> {
    fn from(items: [(String, V); N]) -> ByName<V> {
        items.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_a_btree_map_would_be() {
        let mut map = ByName::new();
        let mut should = std::collections::BTreeMap::new();
        for n in 0..200u32 {
            let name = (n * 7919 % 23).to_string(); // each name several times, in no order
            if n % 3 == 0 {
                assert_eq!(map.remove(&name), should.remove(&name));
            } else {
                map.insert(name.clone(), n);
                should.insert(name.clone(), n);
            }
            assert!(map.iter().eq(&should), "{map:?}");
            assert_eq!(map.get(&name), should.get(&name));
            assert_eq!((map.len(), map.contains_key(&name)), (should.len(), should.contains_key(&name)));
        }
        assert_eq!(map, should.into_iter().rev().collect());
    }
}
