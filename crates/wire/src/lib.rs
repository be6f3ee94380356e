//! Bytes and text to types and back: what comes from the network and from files. Nothing here does I/O.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std)]

#[macro_use]
extern crate alloc;

#[cfg(feature = "builtin")]
mod checksum;
pub mod config;
#[cfg(feature = "builtin")]
pub mod dhcp4;
#[cfg(feature = "builtin")]
pub mod dhcp6;
#[cfg(feature = "builtin")]
mod domain;
#[cfg(feature = "hook")]
pub mod handed;
#[cfg(feature = "networkd")]
pub mod networkd;
#[cfg(feature = "networkmanager")]
pub mod nmcli;
pub mod peers;
#[cfg(feature = "builtin")]
pub mod ra;
pub mod resolv;
#[cfg(feature = "netifd")]
pub mod ubus;
pub mod uci;
