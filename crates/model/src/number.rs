//! Numbers as people write them. The standard library's readers take a sign, and each costs more.

/// A number of 32 bits, decimal or 0x, without a sign.
pub fn number(text: &str) -> Option<u32> {
    match text.as_bytes() {
        [b'0', b'x' | b'X', digits @ ..] => value(digits, 16),
        digits => value(digits, 10),
    }
}

/// A number of 32 bits, decimal, without a sign.
pub fn decimal(text: &str) -> Option<u32> {
    value(text.as_bytes(), 10)
}

pub(crate) fn value(digits: &[u8], radix: u32) -> Option<u32> {
    let mut number = 0u32;
    for digit in digits {
        let digit = char::from(*digit).to_digit(radix)?;
        number = number.checked_mul(radix)?.checked_add(digit)?;
    }
    (!digits.is_empty()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_decimal_or_hexadecimal_and_fits() {
        for (text, meant) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("4294967295", Some(u32::MAX)),
            ("0xffffFFFF", Some(u32::MAX)),
            ("0X1", Some(1)),
            ("4294967296", None),
            ("0x100000000", None),
            ("99999999999999999999", None),
            ("", None),
            ("0x", None),
            ("+1", None),
            ("-1", None),
            ("1a", None),
            ("0xg", None),
            (" 1", None),
        ] {
            assert_eq!(number(text), meant, "{text:?}");
            assert_eq!(decimal(text), meant.filter(|_| !text.contains(['x', 'X'])), "{text:?}");
        }
    }
}
