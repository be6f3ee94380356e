//! From sections to text.

use super::File;
use alloc::string::String;

/// The file as text that [`parse`](super::parse()) reads as the same. Every value is quoted.
pub fn write(file: &File) -> String {
    let mut out = String::new();
    if let Some(package) = &file.package {
        out.push_str("package ");
        quoted(&mut out, &package.text);
        out.push('\n');
    }
    for section in &file.sections {
        out.push_str("\nconfig ");
        let plain = section.kind.text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        match plain {
            true => out.push_str(&section.kind.text),
            false => quoted(&mut out, &section.kind.text),
        }
        if let Some(name) = &section.name {
            out.push(' ');
            quoted(&mut out, &name.text);
        }
        out.push('\n');
        for setting in &section.settings {
            out.push_str(if setting.list { "\tlist " } else { "\toption " });
            out.push_str(&setting.name.text);
            out.push(' ');
            quoted(&mut out, &setting.value.text);
            out.push('\n');
        }
    }
    out
}

/// `'…'` takes everything but its own quote, which is written between two of them.
fn quoted(out: &mut String, text: &str) {
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("'\\''"),
            c => out.push(c),
        }
    }
    out.push('\'');
}
