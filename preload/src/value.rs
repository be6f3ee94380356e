//! What `LIBPACKETMARK_MARK` says.

/// A mark, and the bits of it that are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    /// The bits; always within the mask.
    pub(crate) value: u32,
    /// All ones where no mask was written: then the whole mark is set, as the original does.
    pub(crate) mask: u32,
}

impl Value {
    /// `VALUE` or `VALUE/MASK`, decimal or 0x. No signs, no blanks, nothing behind; no bit outside the mask.
    pub(crate) fn parse(text: &[u8]) -> Option<Value> {
        let mut parts = text.splitn(2, |byte| *byte == b'/');
        let value = number(parts.next()?)?;
        let mask = match parts.next() {
            Some(mask) => number(mask)?,
            None => u32::MAX,
        };
        (value & !mask == 0).then_some(Value { value, mask })
    }

    pub(crate) fn apply(self, old: u32) -> u32 {
        old & !self.mask | self.value
    }
}

fn number(text: &[u8]) -> Option<u32> {
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16),
        digits => (digits, 10),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |sum, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        sum.checked_mul(radix)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(value: u32) -> Option<Value> {
        Some(Value { value, mask: u32::MAX })
    }

    #[test]
    fn decimal_is_read_as_the_original_reads_it_and_hex_as_people_mean_it() {
        assert_eq!(Value::parse(b"1"), whole(1));
        assert_eq!(Value::parse(b"0"), whole(0));
        assert_eq!(Value::parse(b"010"), whole(10));
        assert_eq!(Value::parse(b"0x1"), whole(1));
        assert_eq!(Value::parse(b"0XfF"), whole(255));
        assert_eq!(Value::parse(b"4294967295"), whole(u32::MAX));
    }

    #[test]
    fn a_mask_keeps_the_other_bits() {
        let value = Value::parse(b"0x1/0xf").expect("a mark");
        assert_eq!(value.apply(0xff2), 0xff1);
        assert_eq!(Value::parse(b"0/1"), Some(Value { value: 0, mask: 1 }));
    }

    #[test]
    fn what_is_no_number_is_no_mark() {
        let bad: [&[u8]; 14] = [
            b"",
            b" 1",
            b"1 ",
            b"-1",
            b"+1",
            b"0x",
            b"x1",
            b"1a",
            b"4294967296",
            b"0x100000000",
            b"1/",
            b"/1",
            b"2/1",
            b"1/1/1",
        ];
        for text in bad {
            assert_eq!(Value::parse(text), None, "{:?}", String::from_utf8_lossy(text));
        }
    }
}
