//! Which sections and options there are, and how a section is asked for them.

use super::values::Checked;
use super::{Places, Reader};
use crate::uci::{Section, Setting, Word, shown};
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::{Config, Gather, join};

/// An option that some section type has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Mark,
    Table,
    Priority,
    Strict,
    Device,
    Provider,
    Interface,
    Dns,
    Inbound,
    Metric,
    Address,
    Gateway,
    Group,
    Peer,
    Cgroup,
    Listen,
    Via,
    Server,
    Cache,
}

/// Their names, in the same order.
const NAMES: &str = "mark table priority strict device provider interface dns inbound metric address gateway group peer cgroup \
                     listen via server cache";

impl Key {
    pub(super) fn name(self) -> &'static str {
        NAMES.split(' ').nth(self as usize).unwrap_or_default()
    }

    fn is_list(self) -> bool {
        use Key::*;
        matches!(self, Interface | Dns | Inbound | Address | Gateway | Peer | Listen | Server)
    }
}

/// A section type with its options, in the manual's order.
pub(super) struct Kind {
    pub name: &'static str,
    pub keys: &'static [Key],
    /// Makes the config's entry of it.
    pub read: fn(&mut Reader, &Section, &Kind, &mut Config, &mut Places),
}

/// All of them. The manual page narrowgate-config(5) has the same list.
const KINDS: &[Kind] = {
    use Key::*;
    &[
        Kind { name: "narrowgate", keys: &[Mark, Table, Priority, Strict], read: Reader::globals },
        Kind {
            name: "uplink",
            keys: &[Device, Provider, Interface, Dns, Inbound, Metric, Address, Gateway],
            read: Reader::uplink,
        },
        Kind { name: "tunnel", keys: &[Group, Device, Peer, Cgroup], read: Reader::tunnel },
        Kind { name: "resolver", keys: &[Listen, Via, Server, Cache], read: Reader::resolver },
    ]
};

/// Something that a section's options are put into.
pub(super) trait Entry {
    /// Takes one value of an option that the section's type has.
    fn put(&mut self, key: Key, text: &str) -> Checked<()>;
}

impl Reader {
    /// The section's type, if it is known. Then its settings are looked over: unknown ones, ones written twice, `list` for `option`.
    #[inline(never)]
    pub(super) fn known(&mut self, section: &Section) -> Option<&'static Kind> {
        let written = &section.kind;
        let Some(kind) = KINDS.iter().find(|k| k.name == written.text) else {
            let kinds: Vec<&str> = KINDS.iter().map(|k| k.name).gather();
            self.problem(
                written.place,
                format_args!(
                    "section type `{}`: unknown\n{}",
                    shown(&written.text),
                    suggestion(&written.text, &kinds)
                ),
            );
            return None;
        };
        for (n, setting) in section.settings.iter().enumerate() {
            let name = &setting.name;
            if let Some(key) = kind.keys.iter().find(|key| key.name() == name.text) {
                let earlier = section.settings.get(..n).unwrap_or_default();
                self.setting(key.is_list(), setting, earlier);
                continue;
            }
            let keys: Vec<&str> = kind.keys.iter().map(|key| key.name()).gather();
            self.problem(
                name.place,
                format_args!(
                    "option `{}`: a section of type {} has none of this name\n{}",
                    name.text,
                    kind.name,
                    suggestion(&name.text, &keys)
                ),
            );
        }
        Some(kind)
    }

    #[inline(never)]
    fn setting(&mut self, list: bool, setting: &Setting, earlier: &[Setting]) {
        let (name, value) = (&setting.name.text, &setting.value);
        if setting.list && !list {
            self.problem(
                setting.name.place,
                format_args!(
                    "list {name}: this option has one value\nwrite: option {name} '{}'",
                    shown(&value.text)
                ),
            );
        }
        let same = |s: &&Setting| s.name.text == *name && s.block == setting.block;
        if let Some(first) = earlier.iter().rfind(same).filter(|first| !(first.list && setting.list && list))
        {
            let mend = if list { "write each value as a `list`" } else { "remove one of the two" };
            self.problem(
                setting.name.place,
                format_args!("{name}: written in line {} already\n{mend}", first.name.place.line),
            );
        }
        if value.cut {
            self.problem(
                value.place,
                format_args!(
                    "{name} `{}`: a comment begins within the value, since # stands outside quotes\n\
                     quote the value, or put a space ahead of the comment",
                    shown(&value.text)
                ),
            );
        }
        if has_lines(value) {
            self.problem(
                value.place,
                format_args!(
                    "{name}: the value goes on over several lines, so its closing quote is probably missing\n\
                     close the quote on its line"
                ),
            );
        }
    }

    /// Puts all that the section says into `entry`. The options come in the order from the last to the first, so that a resolver
    /// knows its `via` when its `listen` comes.
    pub(super) fn fill(&mut self, section: &Section, kind: &Kind, entry: &mut dyn Entry) {
        for key in kind.keys.iter().rev() {
            self.values(section, *key, entry);
        }
    }

    /// Puts an option's value, or a list's values, into `entry`, without those that are wrong, which are reported. An `option` is
    /// read as a list with spaces between, as most of OpenWrt does.
    pub(super) fn values(&mut self, section: &Section, key: Key, entry: &mut dyn Entry) {
        let name = key.name();
        for word in section.words(name) {
            match (section.is_list(name), key.is_list()) {
                (false, true) => {
                    word.text.split_ascii_whitespace().for_each(|part| self.value(key, word, part, entry));
                }
                (true, false) => return, // reported by `setting`
                _ => self.value(key, word, &word.text, entry),
            }
        }
    }

    fn value(&mut self, key: Key, word: &Word, text: &str, entry: &mut dyn Entry) {
        if word.cut || has_lines(word) {
            return; // reported by `setting`
        }
        if let Err(no) = entry.put(key, text) {
            let lines = format_args!("{} `{}`: {}\n{}", key.name(), shown(text), no.why, no.mend);
            self.problem(word.place, lines);
        }
    }
}

fn has_lines(word: &Word) -> bool {
    word.text.bytes().any(|b| matches!(b, b'\n' | b'\r'))
}

/// Whether `text` is one of these words, which have a space between each two.
pub(super) fn is_one_of(words: &str, text: &str) -> bool {
    words.split(' ').any(|word| word == text)
}

/// `did you mean …?`, or what there is.
pub(super) fn suggestion(written: &str, known: &[&str]) -> String {
    let mut nearest = (FAR, "");
    for word in known {
        let distance = distance(written.as_bytes(), word.as_bytes(), FAR);
        if distance < nearest.0 {
            nearest = (distance, word);
        }
    }
    match nearest {
        (FAR.., _) => format!("there are: {}", join(known, ", ")),
        (_, name) => format!("did you mean `{name}`?"),
    }
}

/// From there on two words have nothing to do with each other.
const FAR: usize = 3;

/// How many letters must be put in, left out, replaced or swapped with their neighbour to turn one text into the other; `most` if
/// it is as many or more.
fn distance(a: &[u8], b: &[u8], most: usize) -> usize {
    let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) else {
        return (a.len() + b.len()).min(most); // one of them is empty
    };
    if x == y {
        return distance(a_rest, b_rest, most);
    }
    let Some(left) = most.checked_sub(1) else { return 0 };
    let mut best = left;
    let mut attempt = |a: &[u8], b: &[u8]| best = distance(a, b, best);
    attempt(a_rest, b_rest);
    attempt(a_rest, b);
    attempt(a, b_rest);
    if let ([x2, a_rest @ ..], [y2, b_rest @ ..]) = (a_rest, b_rest)
        && (x, x2) == (y2, y)
    {
        attempt(a_rest, b_rest);
    }
    best + 1
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
            assert_eq!(suggestion(written, &known), format!("did you mean `{meant}`?"));
        }
        assert_eq!(suggestion("colour", &known), "there are: group, device, peer, cgroup");
    }

    #[test]
    fn a_swap_counts_once() {
        let distance = |a: &str, b: &str| distance(a.as_bytes(), b.as_bytes(), 9);
        assert_eq!(distance("devcie", "device"), 1);
        assert_eq!(distance("", "peer"), 4);
        assert_eq!(distance("peer", "peer"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ca", "abc"), 3);
    }
}
