//! Real processes, real sockets, real dnsmasq, on the loopback.
//!
//! `parts` holds what the tests stand on; `forward` is about the command, `resolver` about parent and child.

mod forward;
mod parts;
mod resolver;
