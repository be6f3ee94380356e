//! Cutting text at a byte, and putting texts together. The standard library's searches are for any pattern, and each use costs twice as much.

use alloc::string::String;

/// What is ahead of the first such ASCII character and what is behind it.
pub fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    apart(text, text.bytes().position(|b| b == at)?)
}

/// What is ahead of the last such ASCII character and what is behind it.
pub fn cut_last(text: &str, at: u8) -> Option<(&str, &str)> {
    apart(text, text.bytes().rposition(|b| b == at)?)
}

fn apart(text: &str, at: usize) -> Option<(&str, &str)> {
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// All of them with `between` between each two. The standard library's `join` is 1.5 KB, for it reckons the length first.
pub fn join<T: AsRef<str>>(words: &[T], between: &str) -> String {
    let mut text = String::new();
    for (n, word) in words.iter().enumerate() {
        add(&mut text, if n > 0 { between } else { "" }, word.as_ref());
    }
    text
}

#[inline(never)]
fn add(text: &mut String, between: &str, word: &str) {
    text.push_str(between);
    text.push_str(word);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_joined() {
        for words in [&[][..], &["a"], &["a", "", "c"]] {
            assert_eq!(join(words, ", "), words.join(", "), "{words:?}");
        }
    }

    #[test]
    fn text_is_cut_where_it_is_told() {
        for text in ["", ":", "a:b", "a:b:c", "ä:ö:ü", ":a:", "none"] {
            assert_eq!(cut(text, b':'), text.split_once(':'), "{text:?}");
            assert_eq!(cut_last(text, b':'), text.rsplit_once(':'), "{text:?}");
        }
    }
}
