//! The DNS forwarder.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[macro_use]
extern crate alloc;

pub mod child;
pub mod control;
pub mod driver;
pub mod engine;
pub mod message;
pub mod parent;
