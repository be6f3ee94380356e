//! Cutting text at a byte. The standard library's searches are for any pattern, and each use costs twice as much.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_where_it_is_told() {
        for text in ["", ":", "a:b", "a:b:c", "ä:ö:ü", ":a:", "none"] {
            assert_eq!(cut(text, b':'), text.split_once(':'), "{text:?}");
            assert_eq!(cut_last(text, b':'), text.rsplit_once(':'), "{text:?}");
        }
    }
}
