//! The DNS forwarder.
#![forbid(unsafe_code)]

pub mod child;
pub mod control;
pub mod driver;
pub mod engine;
pub mod message;
pub mod parent;
