//! From text to sections. A command that is wrong is reported and left out (one with a word too many is kept without it), and the
//! reading goes on with the next line.

use super::cursor::{Cursor, is_blank, is_space};
use super::{File, Mistake, Place, Section, Setting, Word, shown};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What a section's name must be unique among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// All sections, as libuci wants it: a second section of the same name and another type is refused.
    OfAll,
    /// The sections of its type: `uplink 'wan'` and `resolver 'wan'` are two.
    OfEachType,
}

/// Reads a whole text. The mistakes come in their order; the file is what remains without them.
pub fn parse(text: &str, names: Names) -> (File, Vec<Mistake>) {
    let mut unclosed = Vec::new();
    loop {
        let mut parser = Parser {
            cursor: Cursor::new(text),
            names,
            file: File::default(),
            current: Current::None,
            blocks: 0,
            at: Place::START,
            unclosed: &unclosed,
            endless: None,
            suspect: None,
            bare_end: None,
            unnamed: false,
            mistakes: Vec::new(),
        };
        if parser.acceptable(text) {
            parser.file();
        }
        match parser.endless {
            // Read again without it, since it has hidden whatever stands behind it.
            Some(quote) if unclosed.len() < MOST_UNCLOSED => unclosed.push(quote),
            _ => return (parser.file, parser.mistakes),
        }
    }
}

/// So many forgotten quotes are told apart; a file with more is none.
const MOST_UNCLOSED: usize = 8;

struct Parser<'a> {
    cursor: Cursor<'a>,
    names: Names,
    file: File,
    current: Current,
    blocks: u32,
    /// Where the command begins, or what of it is refused.
    at: Place,
    /// Quotes that are known never to be closed: their lines are passed over.
    unclosed: &'a [Place],
    /// One more of them.
    endless: Option<Place>,
    /// The first quote that goes on over lines and seems to have swallowed commands.
    suspect: Option<Place>,
    /// Where the last word without quotes and backslashes ended.
    bare_end: Option<Place>,
    /// The last command was a `config` without a name.
    unnamed: bool,
    mistakes: Vec<Mistake>,
}

/// The section that the next `option` belongs to.
enum Current {
    None,
    /// Its `config` command was refused: what follows is passed over, since one mistake is enough.
    Refused,
    At(usize),
}

/// A mistake has been noted, and the rest of its line is to be passed over.
struct Refused;

impl Parser<'_> {
    /// Notes a mistake; `lines` as [`Mistake::new`] has them.
    #[inline(never)]
    fn refuse(&mut self, lines: fmt::Arguments<'_>) -> Refused {
        self.mistakes.push(Mistake::new(self.at, lines));
        Refused
    }

    fn acceptable(&mut self, text: &str) -> bool {
        if text.starts_with('\u{feff}') {
            self.refuse(format_args!(
                "byte order mark: UCI text begins with a command\nsave the file without it"
            ));
            self.cursor.bump();
        }
        if !text.as_bytes().contains(&0) {
            return true;
        }
        self.cursor.skip_while(|c| c != '\0');
        self.at = self.cursor.place;
        self.refuse(format_args!("zero byte: this is no text file\nrestore the file from a backup"));
        false
    }

    fn file(&mut self) {
        loop {
            self.cursor.skip_while(is_space);
            match self.cursor.peek() {
                None => return,
                Some('#') => self.cursor.skip_while(|c| c != '\n'),
                Some(_) => {
                    if self.line().is_err() {
                        self.cursor.skip_while(|c| c != '\n');
                        if let Current::At(at) = self.current
                            && let Some(section) = self.file.sections.get_mut(at)
                        {
                            section.refused = true;
                        }
                    }
                }
            }
        }
    }

    /// The commands of one line.
    #[inline(never)]
    fn line(&mut self) -> Result<(), Refused> {
        loop {
            self.command()?;
            let mut extra = Word::empty();
            if self.word(&mut extra)? {
                self.at = extra.place;
                return Err(self.refuse(format_args!(
                    "`{}`: too many words in this command\n\
                     quote a value that contains spaces, or remove the word",
                    shown(&extra.text)
                )));
            }
            if self.cursor.peek() != Some(';') {
                return Ok(()); // the line's end, the text's end, or a comment
            }
            self.separator()?;
            if matches!(self.cursor.peek(), None | Some('#' | '\n')) {
                return Ok(());
            }
        }
    }

    /// A `;`. What follows must be a command, or nothing where libuci bears that. Where libuci takes the `;` for something else,
    /// the line is refused, so that a text never means one thing there and another here.
    #[inline(never)]
    fn separator(&mut self) -> Result<(), Refused> {
        self.at = self.cursor.place;
        let (touches, unnamed) = (self.bare_end == Some(self.at), core::mem::take(&mut self.unnamed));
        self.cursor.bump();
        match touches || unnamed {
            true => self.cursor.skip_while(is_blank),
            false => self.cursor.skip_while(|c| matches!(c, ' ' | '\t')),
        }
        let (what, mend) = match self.cursor.peek() {
            None | Some('#') => return Ok(()),
            Some('\n') if touches || unnamed => return Ok(()),
            Some('\n' | ';') => ("`;`: no command behind it", "remove it"),
            Some(_) if touches => (
                "`;`: it touches the word ahead of it, and libuci loses what follows then",
                "put a space ahead of it",
            ),
            Some(_) if unnamed => (
                "`;`: libuci looks for the section's name here",
                "write the next command in a line of its own",
            ),
            Some(_) => return Ok(()),
        };
        Err(self.refuse(format_args!("{what}\n{mend}")))
    }

    fn command(&mut self) -> Result<(), Refused> {
        self.at = self.cursor.place;
        self.unnamed = false;
        let command = self.cursor.take_while(|c| !matches!(c, ' ' | '\t' | '\n'));
        let is_it = |known: &str| known == command || known.get(..1) == Some(command);
        match "package config option list".split(' ').position(is_it) {
            Some(0) => self.package(),
            Some(1) => self.config(),
            Some(2) => self.setting("option", false),
            Some(_) => self.setting("list", true),
            None => {
                let mend = match command.as_bytes() {
                    [b'/', b'/', ..] | [b'-', b'-', ..] => "begin a comment with #",
                    _ => "a line begins with config, option, list, package or #",
                };
                Err(self.refuse(format_args!("`{}`: unknown command\n{mend}", shown(command))))
            }
        }
    }

    fn package(&mut self) -> Result<(), Refused> {
        let mut name = Word::empty();
        self.needed(&mut name, format_args!("package: its name"), format_args!("package narrowgate"))?;
        if !name.text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err(self.bad_name(&name, "package", "letters, digits, _ and -"));
        }
        self.file.package = Some(name);
        Ok(())
    }

    #[inline(never)]
    fn config(&mut self) -> Result<(), Refused> {
        self.current = Current::Refused; // unless it turns out to be right
        let mut kind = Word::empty();
        self.needed(&mut kind, format_args!("config: its type"), format_args!("config uplink 'wan'"))?;
        if !kind.text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(self.bad_name(&kind, "section's type", "printable ASCII characters without spaces"));
        }
        let mut name = Word::empty();
        self.unnamed = !self.word(&mut name)?;
        if !is_name(&name.text) {
            return Err(self.bad_name(&name, "section", "letters, digits and _"));
        }
        self.blocks += 1;
        let all = self.names == Names::OfAll;
        for (at, known) in self.file.sections.iter().enumerate() {
            if known.name.as_ref().is_none_or(|known| known.text != name.text) {
                continue;
            }
            if known.kind.text == kind.text {
                self.current = Current::At(at);
                return Ok(());
            }
            if all {
                let mistake = Mistake::new(
                    name.place,
                    format_args!(
                        "`{}`: line {} has a section of this name and the type {}, and for libuci a name has one type\n\
                         give one of them another name",
                        name.text, known.kind.place.line, known.kind.text
                    ),
                );
                self.mistakes.push(mistake);
                return Err(Refused);
            }
        }
        self.current = Current::At(self.file.sections.len());
        let name = (!name.text.is_empty()).then_some(name);
        self.file.sections.push(Section { kind, name, settings: Vec::new(), refused: false });
        Ok(())
    }

    #[inline(never)]
    fn setting(&mut self, command: &str, list: bool) -> Result<(), Refused> {
        if matches!(self.current, Current::None) {
            return Err(self.refuse(format_args!(
                "{command}: no section is open yet, so it belongs to nothing\n\
                 begin a section ahead of it, such as: config uplink 'wan'"
            )));
        }
        let mut setting = Setting { list, name: Word::empty(), value: Word::empty(), block: self.blocks };
        let example = format_args!("{command} name 'value'");
        self.needed(&mut setting.name, format_args!("{command}: a name and a value"), example)?;
        let name = &setting.name;
        if !is_name(&name.text) {
            return Err(self.bad_name(name, command, "letters, digits and _"));
        }
        if !self.word(&mut setting.value)? {
            let name = &name.text;
            return Err(self.refuse(format_args!(
                "{command} {name}: the value is missing\nwrite: {command} {name} 'value'"
            )));
        }
        if let Current::At(at) = self.current
            && let Some(section) = self.file.sections.get_mut(at)
        {
            section.settings.push(setting);
        }
        Ok(())
    }

    /// Reads a word that has to be there.
    #[inline(never)]
    fn needed(
        &mut self,
        word: &mut Word,
        what: fmt::Arguments<'_>,
        example: fmt::Arguments<'_>,
    ) -> Result<(), Refused> {
        if self.word(word)? && !word.text.is_empty() {
            return Ok(());
        }
        Err(self.refuse(format_args!("{what} is missing\nwrite, for instance: {example}")))
    }

    fn bad_name(&mut self, word: &Word, whose: &str, allowed: &str) -> Refused {
        self.at = word.place;
        self.refuse(format_args!(
            "`{}`: no name for a {whose}: it may have {allowed}\nchoose another name",
            shown(&word.text)
        ))
    }

    /// Reads the next word of this command; false at its end.
    #[inline(never)]
    fn word(&mut self, word: &mut Word) -> Result<bool, Refused> {
        loop {
            self.cursor.skip_while(is_blank);
            if !self.cursor.skip_continuation() {
                break;
            }
        }
        word.place = self.cursor.place;
        let mut quoted = false;
        let mut bare = true;
        loop {
            match self.cursor.peek() {
                None | Some(';') => break,
                Some(c) if is_space(c) => break,
                Some('#') => {
                    word.cut = quoted || !word.text.is_empty();
                    break;
                }
                Some(quote @ ('\'' | '"')) => {
                    (quoted, bare) = (true, false);
                    self.quoted(quote, &mut word.text)?;
                }
                Some('\\') => {
                    bare = false;
                    self.escaped(&mut word.text);
                }
                Some(c) => {
                    word.text.push(c);
                    self.cursor.bump();
                }
            }
        }
        if bare && !word.text.is_empty() {
            self.bare_end = Some(self.cursor.place);
        }
        Ok(quoted || !word.text.is_empty())
    }

    fn quoted(&mut self, quote: char, text: &mut String) -> Result<(), Refused> {
        let open = self.cursor.place;
        let start = text.len();
        if self.unclosed.contains(&open) {
            return Err(self.never_closed(open, quote));
        }
        self.cursor.bump();
        loop {
            match self.cursor.peek() {
                None => {
                    let place = self.suspect.unwrap_or(open);
                    self.endless = Some(place);
                    return Err(self.never_closed(place, quote));
                }
                Some(c) if c == quote => {
                    self.cursor.bump();
                    let inside = text.get(start..).unwrap_or_default();
                    if self.suspect.is_none() && swallowed_commands(inside) {
                        self.suspect = Some(open);
                    }
                    return Ok(());
                }
                Some('\\') if quote == '"' => self.escaped(text),
                Some(c) => {
                    text.push(c);
                    self.cursor.bump();
                }
            }
        }
    }

    fn never_closed(&mut self, place: Place, quote: char) -> Refused {
        self.at = place;
        self.refuse(format_args!(
            "{quote}: this quote is never closed, so the value goes on to the end of the file\n\
             close it with {quote} at the end of the value"
        ))
    }

    fn escaped(&mut self, text: &mut String) {
        if self.cursor.skip_continuation() {
            return;
        }
        self.cursor.bump();
        if let Some(c) = self.cursor.peek() {
            text.push(c);
            self.cursor.bump();
        }
    }
}

/// Whether a quoted text looks as if its closing quote had been forgotten.
fn swallowed_commands(text: &str) -> bool {
    text.split('\n')
        .skip(1)
        .any(|line| matches!(line.split_whitespace().next(), Some("config" | "option" | "list")))
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
