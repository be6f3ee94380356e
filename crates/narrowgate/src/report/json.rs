//! The report as JSON (RFC 8259): one walk over the fields, which writes them or reads what it has written itself. So the reader need
//! not understand all of JSON: what is not to the byte as the writer of this version has it is refused.

/// What a report is made of.
pub trait Part {
    /// Writes itself, or becomes what is read.
    fn walk(&mut self, walk: &mut Walk);
}

/// In one line.
pub fn write<T: Part>(mut part: T) -> String {
    let mut walk = Walk { text: String::new(), at: 0, reads: false, wrong: false };
    part.walk(&mut walk);
    walk.text
}

/// Nothing if it is not what [`write`] of this version writes.
pub fn read<T: Part + Default>(text: String) -> Option<T> {
    let mut walk = Walk { text, at: 0, reads: true, wrong: false };
    let mut part = T::default();
    part.walk(&mut walk);
    (!walk.wrong && walk.at == walk.text.len()).then_some(part)
}

/// Where the writer or the reader is.
pub struct Walk {
    text: String,
    /// How far it is read.
    at: usize,
    reads: bool,
    /// Something else was read than was expected.
    wrong: bool,
}

impl Walk {
    /// The fields with their names, in the order in which they are written.
    pub fn object(&mut self, fields: &mut [(&str, &mut dyn Part)]) {
        let mut before = "{\"";
        for (name, value) in fields {
            self.must(before);
            self.must(name);
            self.must("\":");
            value.walk(self);
            before = ",\"";
        }
        self.must("}");
    }

    /// Writes the word. When reading: whether it is what comes next.
    fn word(&mut self, word: &str) -> bool {
        if !self.reads {
            self.text.push_str(word);
            return true;
        }
        let is = self.rest().starts_with(word.as_bytes());
        self.at += if is { word.len() } else { 0 };
        is
    }

    fn must(&mut self, word: &str) {
        self.wrong |= !self.word(word);
    }

    fn rest(&self) -> &[u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn take(&mut self) -> u8 {
        let byte = self.rest().first().copied();
        self.wrong |= byte.is_none();
        self.at += usize::from(byte.is_some());
        byte.unwrap_or_default()
    }

    fn write_string(&mut self, text: &str) {
        self.text.push('"');
        for char in text.chars() {
            match ESCAPED.iter().find(|(_, plain)| *plain == char) {
                Some((letter, _)) => self.text.extend(['\\', *letter]),
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
                    let escaped = match self.take() {
                        b'u' => (0..4)
                            .try_fold(0, |sum, _| Some(sum << 4 | char::from(self.take()).to_digit(16)?)),
                        letter => {
                            ESCAPED.iter().find(|(l, _)| *l == char::from(letter)).map(|(_, c)| *c as u32)
                        }
                    };
                    let byte = escaped.and_then(|code| u8::try_from(code).ok()).filter(u8::is_ascii);
                    self.wrong |= byte.is_none();
                    bytes.extend(byte);
                }
                byte => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// Letters behind a backslash, and what they stand for.
const ESCAPED: [(char, char); 7] =
    [('"', '"'), ('\\', '\\'), ('b', '\x08'), ('f', '\x0c'), ('n', '\n'), ('r', '\r'), ('t', '\t')];

impl Part for String {
    fn walk(&mut self, walk: &mut Walk) {
        if walk.reads {
            *self = walk.read_string();
        } else {
            walk.write_string(self);
        }
    }
}

impl Part for u64 {
    fn walk(&mut self, walk: &mut Walk) {
        if walk.reads {
            let rest = walk.rest();
            let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let number = walk.text.get(walk.at..walk.at + len).and_then(|digits| digits.parse().ok());
            walk.wrong |= number.is_none();
            walk.at += len;
            *self = number.unwrap_or_default();
        } else {
            walk.text.push_str(&self.to_string());
        }
    }
}

impl Part for u32 {
    fn walk(&mut self, walk: &mut Walk) {
        let mut wide = u64::from(*self);
        wide.walk(walk);
        *self = u32::try_from(wide).unwrap_or_else(|_| {
            walk.wrong = true;
            0
        });
    }
}

impl Part for bool {
    fn walk(&mut self, walk: &mut Walk) {
        if walk.reads {
            *self = walk.word("true");
            walk.wrong |= !*self && !walk.word("false");
        } else {
            walk.must(if *self { "true" } else { "false" });
        }
    }
}

impl<T: Part + Default> Part for Option<T> {
    fn walk(&mut self, walk: &mut Walk) {
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
    fn walk(&mut self, walk: &mut Walk) {
        let mut before = "[";
        if walk.reads {
            walk.must("[");
            if walk.word("]") {
                return;
            }
            loop {
                let mut part = T::default();
                part.walk(walk);
                self.push(part);
                if !walk.word(",") {
                    break;
                }
            }
        } else {
            for part in self.iter_mut() {
                walk.must(before);
                part.walk(walk);
                before = ",";
            }
            if self.is_empty() {
                walk.must("[");
            }
        }
        walk.must("]");
    }
}

/// A structure whose fields are all parts, and which is one itself.
macro_rules! part {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl $crate::report::json::Part for $name {
            fn walk(&mut self, walk: &mut $crate::report::json::Walk) {
                walk.object(&mut [$((stringify!($field), &mut self.$field),)*]);
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
        assert_eq!(read(text.clone()), Some(report));
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
        assert_eq!(read(whole.clone()), Some(uplink()));
        for (end, _) in whole.char_indices() {
            assert_eq!(read::<UplinkReport>(whole[..end].to_owned()), None, "{end}");
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
            assert_eq!(read::<UplinkReport>(whole.replacen(ours, theirs, 1)), None, "{theirs}");
        }
        assert_eq!(read::<UplinkReport>(whole + " "), None);
        assert_eq!(read::<Vec<u32>>("[,]".to_owned()), None);
        assert_eq!(read::<Vec<bool>>("[true,false]".to_owned()), Some(vec![true, false]));
        assert_eq!(read::<bool>("maybe".to_owned()), None);
    }
}
