//! Domain names from the wire to text.

use alloc::string::String;

/// Appends a label; false if it is none that a person could read or the name gets too long.
pub(crate) fn push_label(name: &mut String, label: &[u8]) -> bool {
    let printable = label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !printable || name.len() + label.len() >= 253 {
        return false;
    }
    if !name.is_empty() {
        name.push('.');
    }
    name.extend(label.iter().map(|&b| char::from(b.to_ascii_lowercase())));
    true
}
