//! Which sections and options there are, and how a section is asked for them.

use super::Reader;
use super::values::Checked;
use crate::uci::{Section, Setting, Value, Word, shown};
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::Gather;

/// A section type.
pub(super) struct Kind {
    pub name: &'static str,
    /// Its options, in the manual's order.
    pub options: &'static str,
    /// Those of them that are lists.
    lists: &'static str,
}

/// All of them. The manual page narrowgate-config(5) has the same list.
const KINDS: &[Kind] = &[
    Kind { name: "narrowgate", options: "mark table priority strict", lists: "" },
    Kind {
        name: "uplink",
        options: "device provider interface dns inbound metric address gateway",
        lists: "interface dns inbound address gateway",
    },
    Kind { name: "tunnel", options: "group device peer cgroup", lists: "peer" },
    Kind { name: "resolver", options: "listen via server cache", lists: "listen server" },
];

/// Something that a section's options are put into.
pub(super) trait Entry {
    /// Takes one value of an option that the section's type has.
    fn put(&mut self, option: &str, text: &str) -> Checked<()>;
}

impl Reader<'_> {
    /// The section's type, if it is known. Then its settings are looked over: unknown ones, ones written twice, `list` for `option`.
    #[inline(never)]
    pub(super) fn known(&mut self, section: &Section) -> Option<&'static Kind> {
        let written = &section.kind;
        let Some(kind) = KINDS.iter().find(|k| k.name == written.text) else {
            let kinds: Vec<&str> = KINDS.iter().map(|k| k.name).gather();
            self.problem(
                written.place,
                format_args!("section type `{}`: unknown", shown(&written.text)),
                format_args!("{}", suggestion(&written.text, &kinds)),
            );
            return None;
        };
        for (n, setting) in section.settings.iter().enumerate() {
            let name = &setting.name;
            if is_one_of(kind.options, &name.text) {
                let earlier = section.settings.get(..n).unwrap_or_default();
                self.setting(is_one_of(kind.lists, &name.text), setting, earlier);
                continue;
            }
            self.problem(
                name.place,
                format_args!("option `{}`: a section of type {} has none of this name", name.text, kind.name),
                format_args!("{}", suggestion(&name.text, &words(kind.options))),
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
                format_args!("list {name}: this option has one value"),
                format_args!("write: option {name} '{}'", shown(&value.text)),
            );
        }
        let same = |s: &&Setting| s.name.text == *name && s.block == setting.block;
        if let Some(first) = earlier.iter().rfind(same).filter(|first| !(first.list && setting.list && list))
        {
            let mend = if list { "write each value as a `list`" } else { "remove one of the two" };
            self.problem(
                setting.name.place,
                format_args!("{name}: written in line {} already", first.name.place.line),
                format_args!("{mend}"),
            );
        }
        if value.cut {
            self.problem(
                value.place,
                format_args!(
                    "{name} `{}`: a comment begins within the value, since # stands outside quotes",
                    shown(&value.text)
                ),
                format_args!("quote the value, or put a space ahead of the comment"),
            );
        }
        if has_lines(value) {
            self.problem(
                value.place,
                format_args!(
                    "{name}: the value goes on over several lines, so its closing quote is probably missing"
                ),
                format_args!("close the quote on its line"),
            );
        }
    }

    /// Puts all that the section says into `entry`. The options come in the order from the last to the first, so that a resolver
    /// knows its `via` when its `listen` comes.
    pub(super) fn fill(&mut self, section: &Section, kind: &Kind, entry: &mut dyn Entry) {
        for option in words(kind.options).iter().rev() {
            self.values(section, option, is_one_of(kind.lists, option), entry);
        }
    }

    /// Puts an option's value, or a list's values, into `entry`, without those that are wrong, which are reported. An `option` is
    /// read as a list with spaces between, as most of OpenWrt does.
    pub(super) fn values(&mut self, section: &Section, option: &str, list: bool, entry: &mut dyn Entry) {
        match section.value(option) {
            Some(Value::One(word)) if !list => self.value(option, word, &word.text, entry),
            Some(Value::One(word)) => {
                word.text.split_ascii_whitespace().for_each(|part| self.value(option, word, part, entry));
            }
            Some(Value::Many(words)) if list => {
                words.into_iter().for_each(|word| self.value(option, word, &word.text, entry));
            }
            _ => {} // nothing, or reported by `setting`
        }
    }

    fn value(&mut self, option: &str, word: &Word, text: &str, entry: &mut dyn Entry) {
        if word.cut || has_lines(word) {
            return; // reported by `setting`
        }
        if let Err(no) = entry.put(option, text) {
            self.problem(
                word.place,
                format_args!("{option} `{}`: {}", shown(text), no.why),
                format_args!("{}", no.mend),
            );
        }
    }
}

fn has_lines(word: &Word) -> bool {
    word.text.bytes().any(|b| matches!(b, b'\n' | b'\r'))
}

/// Words that have a space between each two.
pub(super) fn words(text: &'static str) -> Vec<&'static str> {
    text.split(' ').gather()
}

/// Whether `text` is one of these [`words`].
pub(super) fn is_one_of(words: &str, text: &str) -> bool {
    words.split(' ').any(|word| word == text)
}

/// `did you mean …?`, or what there is.
pub(super) fn suggestion(written: &str, known: &[&str]) -> String {
    let written: Vec<char> = written.chars().gather();
    let mut nearest = (FAR, "");
    for word in known {
        let letters: Vec<char> = word.chars().gather();
        let distance = distance(&written, &letters, FAR);
        if distance < nearest.0 {
            nearest = (distance, word);
        }
    }
    match nearest {
        (FAR.., _) => format!("there are: {}", known.join(", ")),
        (_, name) => format!("did you mean `{name}`?"),
    }
}

/// From there on two words have nothing to do with each other.
const FAR: usize = 3;

/// How many characters must be put in, left out, replaced or swapped with their neighbour to turn one text into the other; `most` if
/// it is as many or more.
fn distance(a: &[char], b: &[char], most: usize) -> usize {
    let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) else {
        return (a.len() + b.len()).min(most); // one of them is empty
    };
    if x == y {
        return distance(a_rest, b_rest, most);
    }
    let Some(left) = most.checked_sub(1) else { return 0 };
    let mut best = left;
    let mut attempt = |a: &[char], b: &[char]| best = distance(a, b, best);
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
        let distance = |a: &str, b: &str| {
            let letters = |text: &str| text.chars().collect::<Vec<char>>();
            distance(&letters(a), &letters(b), 9)
        };
        assert_eq!(distance("devcie", "device"), 1);
        assert_eq!(distance("", "peer"), 4);
        assert_eq!(distance("peer", "peer"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ca", "abc"), 3);
    }
}
