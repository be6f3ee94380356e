//! The nouns of narrowgate. No I/O, no clock, no policy: what the other rooms talk about.
//!
//! Read in the order of the data flow: [`config`] and [`facts`] come in, [`state`] is what policy makes of them
//! (desired, observed and the steps between), [`net`] and [`nft`] are the kernel's objects in our words.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std)]

#[macro_use]
extern crate alloc;

mod by_name;
pub mod config;
pub mod facts;
mod gather;
mod ip;
mod mark;
pub mod net;
pub mod nft;
mod number;
pub mod peers;
mod prefix;
mod server;
pub mod sort;
pub mod state;
mod text;
mod time;

pub use by_name::ByName;
pub use config::Config;
pub use facts::Facts;
pub use gather::Gather;
pub use ip::{ip, socket_address};
pub use mark::{Mark, ParseMarkError};
pub use number::{decimal, number};
pub use prefix::{ParsePrefixError, Prefix};
pub use server::{ParseServerError, Server, is_device_name};
pub use text::{cut, cut_last, join};
pub use time::Time;

/// Routing protocol number (`RTA_PROTOCOL`, `FRA_PROTOCOL`, `IFA_PROTO`) on every route, rule and address that is ours.
/// Numbers above `RTPROT_STATIC` belong to userland; this one is in none of iproute2's tables.
pub const PROTOCOL: u8 = 110;

/// Name of our nftables tables, one in each of the families `inet`, `arp` and `netdev`.
pub const NFT_TABLE: &str = "narrowgate";
