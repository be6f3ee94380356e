//! narrowgate.
fn main() {}
