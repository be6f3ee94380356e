//! The words behind a command, one after the other: `--name VALUE`, `--name=VALUE`, letters behind one dash, `--`, and what is no option.

use alloc::string::String;
use core::fmt;
use narrowgate_sys::path::{Path, PathBuf};

/// What is still to be read.
pub struct Words<'a> {
    rest: &'a [PathBuf],
    /// Letters of the option word that was read last.
    letters: &'a [u8],
    /// What stood behind its `=`, until somebody has asked for it.
    inline: Option<&'a Path>,
    /// The option that was read last, as the user knows it.
    option: String,
    /// There was a `--`.
    no_more: bool,
    /// The command's word, for what is said of mistakes.
    command: &'static str,
}

/// One of them.
pub enum Word<'a> {
    /// An option: [`Words::option`] is its name.
    Option,
    /// No option.
    Other(&'a PathBuf),
}

impl<'a> Words<'a> {
    /// At the first of these, which stand behind the word `command`.
    pub fn new(command: &'static str, words: &'a [PathBuf]) -> Words<'a> {
        Words { rest: words, letters: &[], inline: None, option: String::new(), no_more: false, command }
    }

    /// The next one.
    ///
    /// # Errors
    /// The option before had a value and takes none.
    pub fn next(&mut self) -> Result<Option<Word<'a>>, String> {
        if let Some(value) = self.inline {
            return Err(
                self.wrong(format_args!("unexpected argument for option '{}': {value:?}", self.option))
            );
        }
        if let Some((letter, more)) = self.letters.split_first() {
            self.letters = more;
            return Ok(Some(self.known("-", &[*letter])));
        }
        let Some((word, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        match word.as_bytes() {
            b"--" if !self.no_more => {
                self.no_more = true;
                self.next()
            }
            [b'-', b'-', name @ ..] if !self.no_more => {
                let end = name.iter().position(|b| *b == b'=').unwrap_or(name.len());
                let (name, value) = name.split_at(end);
                self.inline = value.get(1..).map(Path::from_bytes);
                Ok(Some(self.known("--", name)))
            }
            [b'-', letters @ ..] if !self.no_more && !letters.is_empty() => {
                self.letters = letters;
                self.next()
            }
            _ => Ok(Some(Word::Other(word))),
        }
    }

    fn known(&mut self, dashes: &str, name: &[u8]) -> Word<'a> {
        self.option.clear();
        self.option.push_str(dashes);
        self.option.push_str(&String::from_utf8_lossy(name));
        Word::Option
    }

    /// The option that was read last, with its dashes and without its value.
    pub fn option(&self) -> &str {
        &self.option
    }

    /// The value of the option that was read last.
    ///
    /// # Errors
    /// There is none.
    pub fn value(&mut self) -> Result<&'a Path, String> {
        if let Some(value) = self.inline.take() {
            return Ok(value);
        }
        let Some((word, rest)) = self.rest.split_first() else {
            return Err(self.wrong(format_args!("missing argument for option '{}'", self.option)));
        };
        self.rest = rest;
        Ok(word)
    }

    /// The same as text.
    ///
    /// # Errors
    /// There is none, or it is no UTF-8.
    pub fn text(&mut self) -> Result<&'a str, String> {
        let value = self.value()?;
        value
            .to_str()
            .ok_or_else(|| self.wrong(format_args!("{} {}: not UTF-8", self.option, value.display())))
    }

    /// All that are left, whatever they look like.
    pub fn rest(&mut self) -> &'a [PathBuf] {
        core::mem::take(&mut self.rest)
    }

    /// That the word read last is none that the command knows.
    pub fn unexpected(&self, word: &Word<'_>) -> String {
        match word {
            Word::Option => self.wrong(format_args!("invalid option '{}'", self.option)),
            Word::Other(word) => self.wrong(format_args!("unexpected argument {word:?}")),
        }
    }

    #[cold]
    #[inline(never)]
    fn wrong(&self, what: fmt::Arguments<'_>) -> String {
        format!("{what}; see narrowgate {} --help", self.command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words as they are understood, where `--x`, `-x` take no value and `--v` does.
    fn read(line: &[&str]) -> Result<Vec<String>, String> {
        let args: Vec<PathBuf> = line.iter().map(PathBuf::from).collect();
        let (mut words, mut read) = (Words::new("x", &args), Vec::new());
        while let Some(word) = words.next()? {
            match word {
                Word::Option if words.option() == "--v" => read.push(format!("v={}", words.text()?)),
                Word::Option if matches!(words.option(), "--x" | "-x" | "-y") => {
                    read.push(words.option().to_owned());
                }
                Word::Other(word) => read.push(word.display().to_string()),
                other => return Err(words.unexpected(&other)),
            }
        }
        Ok(read)
    }

    #[test]
    fn each_way_of_writing_is_understood() {
        assert_eq!(
            read(&["--v", "1", "--v=2=3", "--v=", "--v", "--x"]).unwrap(),
            ["v=1", "v=2=3", "v=", "v=--x"]
        );
        assert_eq!(read(&["-xy", "-", "a", "--x"]).unwrap(), ["-x", "-y", "-", "a", "--x"]);
        assert_eq!(read(&["--x", "--", "--x", "-y", "--"]).unwrap(), ["--x", "--x", "-y", "--"]);
        assert_eq!(read(&[]).unwrap(), [""; 0]);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, message) in [
            (&["--v"][..], "missing argument for option '--v'"),
            (&["--colour"], "invalid option '--colour'"),
            (&["-xz"], "invalid option '-z'"),
            (&["--x=1", "-y"], "unexpected argument for option '--x': \"1\""),
            (&["--x=1"], "unexpected argument for option '--x': \"1\""),
        ] {
            assert_eq!(read(line).unwrap_err(), format!("{message}; see narrowgate x --help"));
        }
        let args = ["--v".into(), PathBuf::from(Path::from_bytes(b"\xff"))];
        let mut words = Words::new("x", &args);
        assert!(matches!(words.next(), Ok(Some(Word::Option))));
        assert!(words.text().is_err());
    }
}
