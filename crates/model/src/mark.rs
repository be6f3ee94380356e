//! The firewall mark: a value under a mask.

use crate::number::number;
use crate::text::cut;
use core::fmt;
use core::str::FromStr;

/// A value that is set and matched under a mask (`SO_MARK`, `fwmark`, `meta mark`). Bits outside the mask belong to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The bits that are set; always within [`mask`](Self::mask).
    pub value: u32,
    /// The bits that are ours.
    pub mask: u32,
}

impl Mark {
    /// Gluon's: bit 1, matched as `0x1/0x1`.
    pub const DEFAULT: Mark = Mark { value: 1, mask: 1 };

    /// Whether a packet or socket with `mark` carries ours.
    pub fn matches(self, mark: u32) -> bool {
        mark & self.mask == self.value
    }

    /// `mark` with our bits set and the others as they were.
    pub fn apply(self, mark: u32) -> u32 {
        mark & !self.mask | self.value
    }
}

impl Default for Mark {
    fn default() -> Self {
        Mark::DEFAULT
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

/// Why a text is no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseMarkError {
    /// Not a decimal or 0x number of 32 bits.
    NotANumber,
    /// Zero marks nothing.
    Zero,
    /// The value has bits outside the mask.
    OutsideMask,
}

impl ParseMarkError {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotANumber => "a mark is VALUE or VALUE/MASK, decimal or 0x, of 32 bits",
            Self::Zero => "a mark of 0 marks nothing: set at least one bit",
            Self::OutsideMask => "the mark's value has bits outside its mask",
        }
    }
}

impl fmt::Display for ParseMarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for ParseMarkError {}

impl FromStr for Mark {
    type Err = ParseMarkError;
    /// `V` or `V/M`, decimal or 0x; without M the mask is V.
    fn from_str(text: &str) -> Result<Mark, ParseMarkError> {
        let (value, mask) = cut(text, b'/').unwrap_or((text, text));
        let (Some(value), Some(mask)) = (number(value), number(mask)) else {
            return Err(ParseMarkError::NotANumber);
        };
        if value & !mask != 0 {
            return Err(ParseMarkError::OutsideMask);
        }
        if value == 0 {
            return Err(ParseMarkError::Zero);
        }
        Ok(Mark { value, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_value_under_a_mask_in_decimal_or_hex() {
        assert_eq!("1".parse(), Ok(Mark { value: 1, mask: 1 }));
        assert_eq!("0x1/0x1".parse(), Ok(Mark { value: 1, mask: 1 }));
        assert_eq!("16/0xff".parse(), Ok(Mark { value: 16, mask: 255 }));
        assert_eq!("0xFFFFFFFF".parse(), Ok(Mark { value: u32::MAX, mask: u32::MAX }));
    }

    #[test]
    fn what_is_no_mark_is_refused_with_its_reason() {
        for text in ["", "x", "-1", "+1", "0x", "1/", "/1", "1/2/3", "4294967296", " 1"] {
            assert_eq!(text.parse::<Mark>(), Err(ParseMarkError::NotANumber), "{text:?}");
        }
        assert_eq!("0".parse::<Mark>(), Err(ParseMarkError::Zero));
        assert_eq!("0/1".parse::<Mark>(), Err(ParseMarkError::Zero));
        assert_eq!("2/1".parse::<Mark>(), Err(ParseMarkError::OutsideMask));
    }

    #[test]
    fn bits_outside_the_mask_survive() {
        let mark = Mark { value: 1, mask: 1 };
        assert_eq!(mark.apply(0xf0), 0xf1);
        assert!(mark.matches(0xf1));
        assert!(!mark.matches(0xf0));
    }
}
