//! UCI text, as OpenWrt's libuci reads it, with the place of every word, so that later mistakes can be shown where they are.
//!
//! A file is a row of commands, one a line, or several with `;` between: `package NAME`, `config TYPE [NAME]`, `option NAME VALUE`,
//! `list NAME VALUE`; their first letters do as well. Words are separated by white space. `'…'` is literal, `"…"` knows the
//! backslash, and both may go on over lines; pieces that touch are one word. Outside `'…'` a backslash takes the character behind it
//! literally and joins lines at their end. `#` outside quotes begins a comment, even in the middle of a word.
//!
//! Refused is what libuci (in its default, strict mode) refuses, but for two of its accidents: behind a continuation the next line
//! may be indented, and a section may be repeated more than once. Refused beyond that are a missing value, an empty word too many,
//! and a `;` that libuci takes for something else than a separator.

mod cursor;
mod parse;
mod write;

pub use parse::{Names, parse};
pub use write::write;

use alloc::borrow::ToOwned;
use alloc::fmt::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use narrowgate_model::cut;

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// From 1.
    pub line: u32,
    /// From 1, in characters, not bytes.
    pub column: u32,
}

impl Place {
    /// The first character of a text.
    pub const START: Place = Place { line: 1, column: 1 };
}

/// A word without its quotes, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What it says.
    pub text: String,
    /// Its first character, which may be a quote.
    pub place: Place,
    /// A comment touches its end: an unquoted `192.0.2.1#53` says `192.0.2.1`, which the writer hardly meant.
    pub cut: bool,
}

impl Word {
    /// One to be read into.
    const fn empty() -> Word {
        Word { text: String::new(), place: Place::START, cut: false }
    }

    /// A word that stands nowhere, for [`write()`].
    pub fn new(text: impl Into<String>) -> Word {
        Word { text: text.into(), place: Place::START, cut: false }
    }
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct File {
    /// The last `package` command; libuci ignores it in a file that it loads by name.
    pub package: Option<Word>,
    /// In the order of their first appearance; named ones that repeat are one.
    pub sections: Vec<Section>,
}

/// A section: a type, perhaps a name, and settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The type, such as `interface`.
    pub kind: Word,
    /// The name; `None`: anonymous.
    pub name: Option<Word>,
    /// All `option` and `list` commands, in order, overridden ones too. Look up with [`Section::value`].
    pub settings: Vec<Setting>,
    /// A command below it was refused, so that what seems to be missing may be there.
    pub refused: bool,
}

/// An `option` or `list` command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Written `list`, not `option`.
    pub list: bool,
    /// Its name.
    pub name: Word,
    /// Its value.
    pub value: Word,
    /// The number of the `config` command that it stands below, from 1: tells an override in a repeated section from a slip.
    pub block: u32,
}

/// What a name stands for once all commands have been obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// The last word was an `option`.
    One(&'a Word),
    /// There was a `list`; an `option` ahead of it is its first entry, as in libuci.
    Many(Vec<&'a Word>),
}

impl Section {
    /// Whether `name` stands for anything.
    pub fn has(&self, name: &str) -> bool {
        !self.words(name).is_empty()
    }

    /// What `name` stands for. A later `option` replaces everything ahead of it; an empty one deletes.
    pub fn value(&self, name: &str) -> Option<Value<'_>> {
        let words = self.words(name);
        match words.as_slice() {
            [] => None,
            [word] if !self.is_list(name) => Some(Value::One(word)),
            _ => Some(Value::Many(words)),
        }
    }

    /// Whether the last word of this `name` was a `list`.
    pub(crate) fn is_list(&self, name: &str) -> bool {
        self.settings.iter().rfind(|s| s.name.text == name).is_some_and(|s| s.list)
    }

    /// The values that count.
    #[inline(never)]
    pub(crate) fn words(&self, name: &str) -> Vec<&Word> {
        let mut words = Vec::new();
        for setting in self.settings.iter().filter(|s| s.name.text == name) {
            if !setting.list {
                words.clear();
            }
            if setting.list || !setting.value.text.is_empty() {
                words.push(&setting.value);
            }
        }
        words
    }
}

/// Why a text, or a part of it, is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong and why, in one line.
    pub message: String,
    /// What to do.
    pub mend: String,
}

impl Mistake {
    /// What is wrong and what to do are a line each: so one formatting makes both.
    #[inline(never)]
    pub(crate) fn new(place: Place, lines: fmt::Arguments<'_>) -> Mistake {
        let lines = format(lines);
        let (message, mend) = cut(&lines, b'\n').unwrap_or((&lines, ""));
        Mistake { place, message: message.to_owned(), mend: mend.to_owned() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.place.line, self.place.column, self.message, self.mend)
    }
}

impl core::error::Error for Mistake {}

/// Foreign text for a message of one line: control characters escaped, the end cut off.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        match c {
            _ if n == LONGEST => {
                out.push('…');
                break;
            }
            c if c.is_control() || c == '\u{feff}' || ('\u{2028}'..='\u{202e}').contains(&c) => {
                let _ = match c {
                    '\t' => out.write_str("\\t"),
                    '\n' => out.write_str("\\n"),
                    '\r' => out.write_str("\\r"),
                    c => write!(out, "\\u{{{:x}}}", u32::from(c)),
                };
            }
            c => out.push(c),
        }
    }
    out
}
