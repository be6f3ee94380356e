//! Which sections and options there are, and how a section is asked for them.

use super::Reader;
use super::values::Why;
use crate::uci::{Section, Setting, Value, Word, shown};
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::Gather;

/// An option that a section may have.
pub(super) struct Key {
    name: &'static str,
    list: bool,
}

/// A section type with its options, in the manual's order.
pub(super) struct Kind {
    name: &'static str,
    keys: &'static [Key],
}

const fn option(name: &'static str) -> Key {
    Key { name, list: false }
}

const fn list(name: &'static str) -> Key {
    Key { name, list: true }
}

/// All of them. The manual page narrowgate-config(5) has the same list.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "narrowgate",
        keys: &[option("mark"), option("table"), option("priority"), option("strict")],
    },
    Kind {
        name: "uplink",
        keys: &[
            option("device"),
            option("provider"),
            list("interface"),
            list("dns"),
            list("inbound"),
            option("metric"),
            list("address"),
            list("gateway"),
        ],
    },
    Kind { name: "tunnel", keys: &[option("group"), option("device"), list("peer"), option("cgroup")] },
    Kind { name: "resolver", keys: &[list("listen"), option("via"), list("server"), option("cache")] },
];

impl Reader<'_> {
    /// Whether the section's type is known. Then its settings are looked over: unknown ones, ones written twice, `list` for `option`.
    pub(super) fn known(&mut self, section: &Section) -> bool {
        let Some(kind) = KINDS.iter().find(|k| k.name == section.kind.text) else {
            let mend = suggestion(&section.kind.text, KINDS.iter().map(|k| k.name));
            self.problem(
                section.kind.place,
                format_args!("section type `{}`: unknown", shown(&section.kind.text)),
                &mend,
            );
            return false;
        };
        for (n, setting) in section.settings.iter().enumerate() {
            let name = &setting.name;
            let Some(key) = kind.keys.iter().find(|k| k.name == name.text) else {
                self.problem(
                    name.place,
                    format_args!(
                        "option `{}`: a section of type {} has none of this name",
                        name.text, kind.name
                    ),
                    &suggestion(&name.text, kind.keys.iter().map(|k| k.name)),
                );
                continue;
            };
            let earlier = section.settings.get(..n).unwrap_or_default();
            self.setting(key, setting, earlier);
        }
        true
    }

    fn setting(&mut self, key: &Key, setting: &Setting, earlier: &[Setting]) {
        let (name, value) = (key.name, &setting.value);
        if setting.list && !key.list {
            self.problem(
                setting.name.place,
                format_args!("list {name}: this option has one value"),
                &format!("write: option {name} '{}'", shown(&value.text)),
            );
        }
        let same = |s: &&Setting| s.name.text == name && s.block == setting.block;
        if let Some(first) =
            earlier.iter().rfind(same).filter(|first| !(first.list && setting.list && key.list))
        {
            let mend = if key.list { "write each value as a `list`" } else { "remove one of the two" };
            self.problem(
                setting.name.place,
                format_args!("{name}: written in line {} already", first.name.place.line),
                mend,
            );
        }
        if value.cut {
            self.problem(
                value.place,
                format_args!(
                    "{name} `{}`: a comment begins within the value, since # stands outside quotes",
                    shown(&value.text)
                ),
                "quote the value, or put a space ahead of the comment",
            );
        }
        if value.text.contains(['\n', '\r']) {
            self.problem(
                value.place,
                format_args!(
                    "{name}: the value goes on over several lines, so its closing quote is probably missing"
                ),
                "close the quote on its line",
            );
        }
    }

    /// An option's value; `None` if it is not there, empty, or wrong, which is reported.
    pub(super) fn option<T>(
        &mut self,
        section: &Section,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Why>,
    ) -> Option<T> {
        match section.value(name)? {
            Value::One(word) => self.value(name, word, &word.text, &parse),
            Value::Many(_) => None, // reported by `setting`
        }
    }

    /// A list's values, without those that are wrong, which are reported, and without repetitions. An `option` is read as a list
    /// with spaces between, as most of OpenWrt does.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        section: &Section,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Why>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        let mut add = |value: Option<T>| all.extend(value);
        match section.value(name) {
            None => {}
            Some(Value::One(word)) => {
                word.text.split_ascii_whitespace().for_each(|part| add(self.value(name, word, part, &parse)));
            }
            Some(Value::Many(words)) => {
                words.into_iter().for_each(|word| add(self.value(name, word, &word.text, &parse)));
            }
        }
        let mut once: Vec<T> = Vec::new();
        for value in all {
            if !once.contains(&value) {
                once.push(value);
            }
        }
        once
    }

    fn value<T>(
        &mut self,
        name: &str,
        word: &Word,
        text: &str,
        parse: impl Fn(&str) -> Result<T, Why>,
    ) -> Option<T> {
        if word.cut || word.text.contains(['\n', '\r']) {
            return None; // reported by `setting`
        }
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse(name, word, text, &why);
                None
            }
        }
    }

    fn refuse(&mut self, name: &str, word: &Word, text: &str, why: &Why) {
        self.problem(word.place, format_args!("{name} `{}`: {}", shown(text), why.why), &why.mend);
    }
}

/// `did you mean …?`, or what there is.
pub(super) fn suggestion<'a>(written: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near =
        known.clone().map(|k| (distance(written, k), k)).min().filter(|(d, k)| *d <= 2 && *d < k.len());
    match near {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("there are: {}", known.gather().join(", ")),
    }
}

/// How many characters must be put in, left out, replaced or swapped with their neighbour to turn one text into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, x) in a.chars().take(32).enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], n: usize| row.get(n).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&last, j) + usize::from(x != *y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            if j > 0 && previous == Some(*y) && b.get(j - 1) == Some(&x) {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = core::mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["group", "device", "peer", "cgroup"];
        for (written, meant) in
            [("grop", "group"), ("devcie", "device"), ("peers", "peer"), ("c_group", "cgroup")]
        {
            assert_eq!(suggestion(written, known.into_iter()), format!("did you mean `{meant}`?"));
        }
        assert_eq!(suggestion("colour", known.into_iter()), "there are: group, device, peer, cgroup");
    }

    #[test]
    fn a_swap_counts_once() {
        assert_eq!(distance("devcie", "device"), 1);
        assert_eq!(distance("", "peer"), 4);
        assert_eq!(distance("peer", "peer"), 0);
    }
}
