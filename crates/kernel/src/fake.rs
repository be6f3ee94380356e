//! x
/// x
pub struct Fake;
