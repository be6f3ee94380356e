//! A map for a handful of things with names. A `BTreeMap` is for thousands, and each type of value costs 3 to 9 KB of program.

use alloc::string::String;
use alloc::vec::{IntoIter, Vec};
use core::cmp::Ordering;
use core::iter::Zip;

/// Values by name, in the order of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByName<V> {
    // Apart, so that what concerns the names alone is in the program once.
    names: Vec<String>,
    values: Vec<V>,
}

impl<V> ByName<V> {
    /// An empty one.
    pub const fn new() -> ByName<V> {
        ByName { names: Vec::new(), values: Vec::new() }
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.values.get(place(&self.names, name).ok()?)
    }

    /// The value of this name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.values.get_mut(place(&self.names, name).ok()?)
    }

    /// Whether there is something of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        place(&self.names, name).is_ok()
    }

    /// Puts a value in, in place of the one that had this name, if any.
    pub fn insert(&mut self, name: String, value: V) {
        match place(&self.names, &name) {
            Ok(at) => {
                if let Some(is) = self.values.get_mut(at) {
                    *is = value;
                }
            }
            Err(at) => {
                self.names.insert(at, name);
                self.values.insert(at, value);
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        let at = place(&self.names, name).ok()?;
        self.names.remove(at);
        Some(self.values.remove(at))
    }

    /// Names and values, in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&String, &V)> + Clone {
        self.names.iter().zip(&self.values)
    }

    /// The names, in their order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &String> + Clone {
        self.names.iter()
    }

    /// The values, in the order of their names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> + Clone {
        self.values.iter()
    }

    /// Keeps those that `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut V) -> bool) {
        let mut at = 0;
        while let (Some(name), Some(value)) = (self.names.get(at), self.values.get_mut(at)) {
            if keep(name, value) {
                at += 1;
            } else {
                self.names.remove(at);
                self.values.remove(at);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Where the name is, or where it would have to be.
#[inline(never)]
fn place(names: &[String], name: &str) -> Result<usize, usize> {
    let mut at = 0;
    for known in names {
        match known.as_str().cmp(name) {
            Ordering::Less => at += 1,
            Ordering::Equal => return Ok(at),
            Ordering::Greater => break,
        }
    }
    Err(at)
}

impl<V> Default for ByName<V> {
    fn default() -> ByName<V> {
        ByName::new()
    }
}

impl<V> IntoIterator for ByName<V> {
    type Item = (String, V);
    type IntoIter = Zip<IntoIter<String>, IntoIter<V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.names.into_iter().zip(self.values)
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
