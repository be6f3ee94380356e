//! Bytes and text to types and back: what comes from the network and from files. Nothing here does I/O.
#![forbid(unsafe_code)]

pub mod config;
pub mod dhcp4;
pub mod ra;
pub mod resolv;
pub mod uci;
