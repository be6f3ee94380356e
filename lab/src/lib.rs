//! The laboratory: hosts, cables, daemons and captures in network namespaces, for tests and for the eye.
//!
//! A [`Lab`] is a household with its router, an internet, a VPN gateway with a mesh behind it, and a bare node. Every
//! daemon in it is the real one. Nothing of it is visible outside, and nothing of it outlives it.

#![forbid(unsafe_code)]

mod byhand;
pub mod capture;
pub mod client;
pub mod daemon;
pub mod demo;
pub mod error;
pub mod fastd;
pub mod frame;
pub mod holder;
mod household;
mod lab;
pub mod layout;
mod options;
pub mod original;
pub mod packet;
pub mod place;
pub mod probe;
pub mod rundir;
pub mod serve;
mod services;
pub mod snapshot;
pub mod sort;
pub mod timeline;
pub mod usage;
pub mod wait;
pub mod wireguard;

pub use capture::Capture;
pub use error::{Error, Result};
pub use lab::Lab;
pub use layout::Host;
pub use options::{Families, Options};
