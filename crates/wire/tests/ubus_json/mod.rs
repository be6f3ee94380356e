//! JSON as blobmsg, as `ubus call` shows one for the other: the recorded answers back on the wire.

use miniserde::json::{Number, Object, Value};
use narrowgate_wire::ubus::blob;
use std::path::Path;

/// The fields of a recorded answer.
pub fn fixture(name: &str) -> Vec<u8> {
    let Value::Object(object) = read(name) else { panic!("{name}: no object") };
    fields(&object)
}

/// A recorded answer as JSON.
pub fn read(name: &str) -> Value {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/fixtures/netifd");
    let text = std::fs::read_to_string(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    miniserde::json::from_str(&text).unwrap_or_else(|_| panic!("{name}: no JSON"))
}

/// The fields of an object.
pub fn fields(object: &Object) -> Vec<u8> {
    let mut out = Vec::new();
    object.iter().for_each(|(name, value)| put(&mut out, name, value));
    out
}

fn put(out: &mut Vec<u8>, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(b) => blob::put_field_bool(out, name, *b),
        Value::Number(Number::U64(n)) => blob::put_field_u32(out, name, u32::try_from(*n).unwrap()),
        Value::Number(other) => panic!("{name}: {other:?}"),
        Value::String(text) => blob::put_field_string(out, name, text),
        Value::Array(list) => {
            blob::put_field_array(out, name, |out| list.iter().for_each(|v| put(out, "", v)))
        }
        Value::Object(object) => blob::put_field_table(out, name, |out| out.extend(fields(object))),
    }
}
