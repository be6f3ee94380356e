//! Blobs: nested attributes with a number each, and fields (`blobmsg`): attributes with a name and a type, which are to
//! ubus what JSON's values are.
//!
//! An attribute is 32 bits of big-endian header (1 bit: it is a field; 7 bits: number or type; 24 bits: length with header),
//! its payload, and zeros up to a multiple of 4. A field's payload starts with the length of its name (16 bits), the name, a
//! zero, and zeros up to a multiple of 4.

use alloc::vec::Vec;
use core::ops::Not;

/// An attribute. If it is a field, [`Attr::field`] takes its name off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Its number or, of a field, its type.
    pub id: u8,
    /// Whether it is a field.
    pub extended: bool,
    /// What it contains.
    pub payload: &'a [u8],
}

/// A field: a named value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name; empty in an array, and if it is no UTF-8.
    pub name: &'a str,
    kind: u8,
    value: &'a [u8],
}

/// The attributes in a payload; ends early at one that is cut off or impossible.
pub fn attrs(bytes: &[u8]) -> Attrs<'_> {
    Attrs { rest: bytes }
}

/// The fields in a payload. What is no field is passed over.
pub fn fields(bytes: &[u8]) -> impl Iterator<Item = Field<'_>> {
    Fields { attrs: attrs(bytes) }
}

struct Fields<'a> {
    attrs: Attrs<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Field<'a>> {
        self.attrs.find_map(Attr::field)
    }
}

/// The field of that name.
pub fn field<'a>(bytes: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields(bytes).find(|f| f.name == name)
}

/// See [`attrs`].
#[derive(Debug, Clone)]
pub struct Attrs<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let header = u32::from_be_bytes(*self.rest.first_chunk::<HEADER>()?);
        let len = (header & LEN_MASK) as usize;
        let payload = self.rest.get(HEADER..len)?;
        self.rest = self.rest.get(padded(len)..).unwrap_or_default();
        Some(Attr { id: (header >> 24 & 0x7f) as u8, extended: header & EXTENDED != 0, payload })
    }
}

impl<'a> Attr<'a> {
    /// As a field, if it is one.
    pub fn field(self) -> Option<Field<'a>> {
        let (len, rest) = self.payload.split_first_chunk::<NAME_LEN>().filter(|_| self.extended)?;
        let len = usize::from(u16::from_be_bytes(*len));
        let name = core::str::from_utf8(rest.get(..len)?).unwrap_or_default();
        let value = self.payload.get(padded(NAME_LEN + len + 1)..)?;
        Some(Field { name, kind: self.id, value })
    }

    /// As an unsigned number of 32 bits, if it is as long.
    pub fn number(self) -> Option<u32> {
        self.payload.try_into().ok().map(u32::from_be_bytes)
    }

    /// As text up to its zero, if it is UTF-8.
    pub fn text(self) -> Option<&'a str> {
        text(self.payload)
    }
}

impl<'a> Field<'a> {
    /// The text, if it is one in UTF-8.
    pub fn text(self) -> Option<&'a str> {
        (self.kind == STRING).then(|| text(self.value)).flatten()
    }

    /// The number, whatever its width; negative ones are `None`.
    pub fn number(self) -> Option<u64> {
        let number = match (self.kind, self.value) {
            (INT64, v) => i64::from_be_bytes(v.try_into().ok()?),
            (INT32, v) => i32::from_be_bytes(v.try_into().ok()?).into(),
            (INT16, v) => i16::from_be_bytes(v.try_into().ok()?).into(),
            (INT8, [v]) => (*v).into(),
            _ => return None,
        };
        u64::try_from(number).ok()
    }

    /// Whether it is true; a number other than 0 is.
    pub fn truth(self) -> bool {
        self.number().unwrap_or_default() != 0
    }

    /// What an array or a table contains; nothing, if it is neither.
    pub fn inner(self) -> &'a [u8] {
        if matches!(self.kind, ARRAY | TABLE) { self.value } else { &[] }
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    core::str::from_utf8(bytes.get(..end)?).ok()
}

/// Appends an attribute whose payload `fill` appends.
pub fn put_nested(out: &mut Vec<u8>, id: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    put_with(out, u32::from(id) << 24, fill);
}

/// Appends an attribute with a number.
#[inline(never)]
pub fn put_u32(out: &mut Vec<u8>, id: u8, value: u32) {
    put_nested(out, id, |out| out.extend_from_slice(&value.to_be_bytes()));
}

/// Appends an attribute with a text.
#[inline(never)]
pub fn put_string(out: &mut Vec<u8>, id: u8, value: &str) {
    put_nested(out, id, |out| push_text(out, value));
}

/// Appends a field with a number.
#[inline(never)]
pub fn put_field_u32(out: &mut Vec<u8>, name: &str, value: u32) {
    put_field(out, INT32, name, |out| out.extend_from_slice(&value.to_be_bytes()));
}

/// Appends a field with a truth.
pub fn put_field_bool(out: &mut Vec<u8>, name: &str, value: bool) {
    put_field(out, INT8, name, |out| out.push(value.into()));
}

/// Appends a field with a text.
#[inline(never)]
pub fn put_field_string(out: &mut Vec<u8>, name: &str, value: &str) {
    put_field(out, STRING, name, |out| push_text(out, value));
}

/// Appends a field with fields in it, which `fill` appends.
pub fn put_field_table(out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    put_field(out, TABLE, name, fill);
}

/// Appends a field with fields without a name in it, which `fill` appends.
pub fn put_field_array(out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    put_field(out, ARRAY, name, fill);
}

fn put_field(out: &mut Vec<u8>, kind: u8, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    open_field(out, kind, name);
    fill(out);
    close(out, start);
}

#[inline(never)]
fn open_field(out: &mut Vec<u8>, kind: u8, name: &str) {
    out.extend_from_slice(&(EXTENDED | u32::from(kind) << 24).to_be_bytes());
    let start = out.len();
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    push_text(out, name);
    pad(out, start);
}

fn put_with(out: &mut Vec<u8>, header: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&header.to_be_bytes());
    fill(out);
    close(out, start);
}

/// Puts the length into the header at `start`.
#[inline(never)]
fn close(out: &mut Vec<u8>, start: usize) {
    let len = u32::try_from(out.len() - start).unwrap_or(LEN_MASK).min(LEN_MASK);
    if let Some(header) = out.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<HEADER>()) {
        *header = (u32::from_be_bytes(*header) | len).to_be_bytes();
    }
    pad(out, start);
}

fn push_text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

fn pad(out: &mut Vec<u8>, start: usize) {
    out.resize(start + padded(out.len() - start), 0);
}

fn padded(len: usize) -> usize {
    len.saturating_add(3) & 3usize.not()
}

/// Bytes of an attribute's header.
pub(super) const HEADER: usize = 4;
/// The length's part of the header.
pub(super) const LEN_MASK: u32 = 0x00ff_ffff;
/// The attribute is a field.
const EXTENDED: u32 = 1 << 31;
/// Bytes of the length of a field's name.
const NAME_LEN: usize = 2;

const ARRAY: u8 = 1;
const TABLE: u8 = 2;
const STRING: u8 = 3;
const INT64: u8 = 4;
const INT32: u8 = 5;
const INT16: u8 = 6;
const INT8: u8 = 7;
