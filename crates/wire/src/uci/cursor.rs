//! The text, character by character, with line and column.

use super::Place;
use core::str::Chars;

/// A place in a text, and what comes behind it.
pub(super) struct Cursor<'a> {
    rest: Chars<'a>,
    pub place: Place,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Cursor<'a> {
        Cursor { rest: text.chars(), place: Place::START }
    }

    pub fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    pub fn bump(&mut self) {
        match self.rest.next() {
            Some('\n') => self.place = Place { line: self.place.line.saturating_add(1), column: 1 },
            Some(_) => self.place.column = self.place.column.saturating_add(1),
            None => {}
        }
    }

    pub fn skip_while(&mut self, wanted: fn(char) -> bool) {
        while self.peek().is_some_and(wanted) {
            self.bump();
        }
    }

    /// Passes over what is `wanted`, and says what it was.
    pub fn take_while(&mut self, wanted: fn(char) -> bool) -> &'a str {
        let ahead = self.rest.as_str();
        self.skip_while(wanted);
        ahead.get(..ahead.len() - self.rest.as_str().len()).unwrap_or_default()
    }

    /// Passes over a backslash with the line's end behind it, if they come next.
    pub fn skip_continuation(&mut self) -> bool {
        let length = match self.rest.as_str().as_bytes() {
            [b'\\', b'\n', ..] => 2,
            [b'\\', b'\r', b'\n', ..] => 3,
            _ => return false,
        };
        for _ in 0..length {
            self.bump();
        }
        true
    }
}

/// C's `isspace`.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

pub(super) fn is_blank(c: char) -> bool {
    is_space(c) && c != '\n'
}
