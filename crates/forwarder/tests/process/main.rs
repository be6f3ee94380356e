//! Real processes, real sockets, real dnsmasq, on the loopback.
//!
//! `parts` holds what the tests stand on; `forward` is about the command, `resolver` about parent and child, `limits` about what may be used up,
//! `stubs` about who asks.

mod devices;
mod differential;
mod forward;
mod guessing;
mod limits;
mod link_local;
mod parts;
mod resolver;
mod stubs;
mod tcp;
