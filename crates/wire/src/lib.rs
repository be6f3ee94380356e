//! Bytes and text to types and back: what comes from the network and from files. Nothing here does I/O.
#![forbid(unsafe_code)]

mod checksum;
pub mod config;
pub mod dhcp4;
pub mod dhcp6;
mod domain;
pub mod networkd;
pub mod ra;
pub mod resolv;
pub mod ubus;
pub mod uci;
