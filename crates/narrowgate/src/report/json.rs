//! The report as JSON (RFC 8259): one walk over the fields, which writes them or reads what it has written itself. So the reader need
//! not understand all of JSON: what is not to the byte as the writer of this version has it is refused.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What a report is made of.
pub trait Part {
    /// Writes itself, or becomes what is read.
    fn walk(&mut self, walk: &mut Walk<'_>);
}

/// A structure of named parts.
pub trait Object {
    /// Its parts by their numbers, in the order in which they are written.
    fn part(&mut self, number: usize) -> Option<&mut dyn Part>;
}

/// In one line.
pub fn write(mut part: impl Part) -> String {
    let mut walk = Walk { text: String::new(), rest: &[], reads: false, wrong: false };
    part.walk(&mut walk);
    walk.text
}

/// Nothing if it is not what [`write`] of this version writes.
pub fn read<T: Part + Default>(text: &str) -> Option<T> {
    let mut walk = Walk { text: String::new(), rest: text.as_bytes(), reads: true, wrong: false };
    let mut part = T::default();
    part.walk(&mut walk);
    (!walk.wrong && walk.rest.is_empty()).then_some(part)
}

/// Where the writer or the reader is.
pub struct Walk<'a> {
    /// What is written.
    text: String,
    /// What is to be read yet.
    rest: &'a [u8],
    reads: bool,
    /// Something else was read than was expected.
    wrong: bool,
}

impl Walk<'_> {
    /// The fields with their names, in the order in which they are written.
    pub fn object(&mut self, names: &[&str], object: &mut dyn Object) {
        let mut before = "{\"";
        for (number, name) in names.iter().enumerate() {
            self.must(before);
            self.must(name);
            self.must("\":");
            if let Some(part) = object.part(number) {
                part.walk(self);
            }
            before = ",\"";
        }
        self.must("}");
    }

    /// The items of a list that has `len` when it is written.
    fn list(&mut self, len: usize, item: &mut dyn FnMut(&mut Walk<'_>, usize)) {
        self.must("[");
        let mut at = 0;
        while match (self.reads, at) {
            (false, 0) => len > 0,
            (false, _) => at < len && self.word(","),
            (true, 0) => !self.rest.starts_with(b"]"),
            (true, _) => self.word(","),
        } {
            item(self, at);
            at += 1;
        }
        self.must("]");
    }

    /// Writes the word. When reading: whether it is what comes next.
    fn word(&mut self, word: &str) -> bool {
        if !self.reads {
            self.text.push_str(word);
            return true;
        }
        let rest = self.rest.strip_prefix(word.as_bytes());
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn must(&mut self, word: &str) {
        self.wrong |= !self.word(word);
    }

    fn take(&mut self) -> u8 {
        let Some((byte, rest)) = self.rest.split_first() else {
            self.wrong = true;
            return 0;
        };
        self.rest = rest;
        *byte
    }

    fn write_string(&mut self, text: &str) {
        self.text.push('"');
        for char in text.chars() {
            match ESCAPED.iter().find(|(_, plain)| char::from(*plain) == char) {
                Some((letter, _)) => {
                    self.text.push('\\');
                    self.text.push(char::from(*letter));
                }
                None if char < ' ' => {
                    self.text.push_str("\\u00");
                    for digit in [char as u32 >> 4, char as u32 & 15] {
                        self.text.push(char::from_digit(digit, 16).unwrap_or('0'));
                    }
                }
                None => self.text.push(char),
            }
        }
        self.text.push('"');
    }

    fn read_string(&mut self) -> String {
        let mut bytes = Vec::new();
        self.must("\"");
        while !self.wrong {
            match self.take() {
                b'"' => break,
                b'\\' => {
                    let byte = self.escaped();
                    self.wrong |= byte >= 0x80;
                    bytes.push(byte as u8);
                }
                byte => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// What stands behind a backslash; more than ASCII has if it is nothing of ours.
    fn escaped(&mut self) -> u32 {
        let letter = self.take();
        if letter != b'u' {
            return ESCAPED.iter().find(|(l, _)| *l == letter).map_or(u32::MAX, |(_, plain)| (*plain).into());
        }
        let mut code = 0;
        for _ in 0..4 {
            let digit = char::from(self.take()).to_digit(16);
            self.wrong |= digit.is_none();
            code = code << 4 | digit.unwrap_or_default();
        }
        code
    }

    fn read_number(&mut self) -> u64 {
        let len = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at_checked(len).unwrap_or_default();
        self.rest = rest;
        let number = core::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        self.wrong |= number.is_none();
        number.unwrap_or_default()
    }
}

/// Letters behind a backslash, and what they stand for.
const ESCAPED: [(u8, u8); 7] =
    [(b'"', b'"'), (b'\\', b'\\'), (b'b', 8), (b'f', 0xc), (b'n', b'\n'), (b'r', b'\r'), (b't', b'\t')];

impl Part for String {
    fn walk(&mut self, walk: &mut Walk<'_>) {
        if walk.reads {
            *self = walk.read_string();
        } else {
            walk.write_string(self);
        }
    }
}

impl Part for u64 {
    fn walk(&mut self, walk: &mut Walk<'_>) {
        if walk.reads {
            *self = walk.read_number();
        } else {
            walk.text.push_str(&self.to_string());
        }
    }
}

impl Part for u32 {
    fn walk(&mut self, walk: &mut Walk<'_>) {
        let mut wide = u64::from(*self);
        wide.walk(walk);
        *self = u32::try_from(wide).unwrap_or_else(|_| {
            walk.wrong = true;
            0
        });
    }
}

impl Part for bool {
    fn walk(&mut self, walk: &mut Walk<'_>) {
        if walk.reads {
            *self = walk.word("true");
            walk.wrong |= !*self && !walk.word("false");
        } else {
            walk.must(if *self { "true" } else { "false" });
        }
    }
}

impl<T: Part + Default> Part for Option<T> {
    fn walk(&mut self, walk: &mut Walk<'_>) {
        if walk.reads {
            *self = (!walk.word("null")).then(T::default);
        }
        match self {
            Some(part) => part.walk(walk),
            None if walk.reads => {}
            None => walk.must("null"),
        }
    }
}

impl<T: Part + Default> Part for Vec<T> {
    fn walk(&mut self, walk: &mut Walk<'_>) {
        walk.list(self.len(), &mut |walk, at| {
            if walk.reads {
                self.push(T::default());
            }
            if let Some(part) = self.get_mut(at) {
                part.walk(walk);
            }
        });
    }
}

/// A structure whose fields are all parts, and which is one itself.
macro_rules! part {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl $crate::report::json::Part for $name {
            fn walk(&mut self, walk: &mut $crate::report::json::Walk<'_>) {
                walk.object(&[$(stringify!($field)),*], self);
            }
        }

        impl $crate::report::json::Object for $name {
            fn part(&mut self, number: usize) -> Option<&mut dyn $crate::report::json::Part> {
                let mut last = 0;
                $(
                    if number == last {
                        return Some(&mut self.$field);
                    }
                    last += 1;
                )*
                let _ = last;
                None
            }
        }
    };
}
pub(super) use part;

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use miniserde::json::Value;

    fn uplink() -> UplinkReport {
        let strange = "a \"b\"\\ \x08\x0c\n\r\t \x01\x1f / é 💧";
        UplinkReport {
            name: strange.to_owned(),
            mtu: Some(1492),
            dns: vec![
                FactReport { what: "::1".to_owned(), origin: "RA".to_owned(), seconds_left: Some(u32::MAX) },
                FactReport::default(),
            ],
            ..UplinkReport::default()
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_others_can_read_it() {
        let guard = GuardReport { owned: true, ..GuardReport::default() };
        let report = Report { uplinks: vec![uplink()], uptime_ms: u64::MAX, guard, ..Report::default() };
        let text = write(report.clone());
        assert_eq!(read(&text), Some(report));
        let Ok(Value::Object(all)) = miniserde::json::from_str(&text) else { panic!("no JSON: {text}") };
        let Some(Value::Array(uplinks)) = all.get("uplinks") else { panic!("no list in {text}") };
        let Some(Value::Object(first)) = uplinks.iter().next() else { panic!("no uplink in {text}") };
        assert!(matches!(first.get("name"), Some(Value::String(name)) if *name == uplink().name), "{text}");
        assert!(matches!(first.get("mtu"), Some(Value::Number(_))));
        assert!(text.contains("\"mtu\":1492,\"details\":[]}]"), "{text}");
        assert!(text.ends_with("\"problems\":[]}"), "{text}");
    }

    #[test]
    fn what_is_cut_short_or_another_versions_is_refused() {
        let whole = write(uplink());
        assert_eq!(read(&whole), Some(uplink()));
        for (end, _) in whole.char_indices() {
            assert_eq!(read::<UplinkReport>(&whole[..end]), None, "{end}");
        }
        let other = [
            ("\"mtu\"", "\"mtU\""),
            ("1492", "4294967296"),
            ("1492", "99999999999999999999"),
            ("1492", "-1"),
            ("null", "nul"),
            ("\\u0001", "\\u00e4"),
            ("\\u0001", "\\u00g1"),
            ("\\n", "\\x"),
        ];
        for (ours, theirs) in other {
            assert!(whole.contains(ours), "{ours}");
            assert_eq!(read::<UplinkReport>(&whole.replacen(ours, theirs, 1)), None, "{theirs}");
        }
        assert_eq!(read::<UplinkReport>(&(whole + " ")), None);
        assert_eq!(read::<Vec<u32>>("[,]"), None);
        assert_eq!(read::<Vec<bool>>("[true,false]"), Some(vec![true, false]));
        assert_eq!(read::<bool>("maybe"), None);
    }
}
