//! The end-to-end tests: real daemons, real frames. They need root and a Linux with network namespaces.
//!
//! Rooms: `itself` holds what the laboratory promises about itself, and its positive control; `original` the original's
//! way; `time` asking for it before there is a tunnel; `tunnel` how fast the tunnel comes up; `states` what leaks and what works in every state; `inbound` who may come in;
//! `dns` the resolvers; `flaps` a cable that comes and goes; `hooks` programs that hear of it all; `gluon` what a Gluon node's own programs meet; `strict` what they and the guard refuse under `option strict`;
//! `kept` where a node finds its gateway without DNS;
//! `marking` whether the tunnel's sockets are marked; `lifecycle` start, stop, kill and reload; `takeover` another process in the
//! daemon's place; `uplinks` several uplinks at once; `netifd` an uplink that netifd manages; `managers` one that others do; `wireguard` the other VPN; `scene` what they share.

mod dns;
mod faults;
mod flaps;
mod gluon;
mod hooks;
mod inbound;
mod itself;
mod kept;
mod lifecycle;
mod managers;
mod marking;
mod netifd;
mod original;
mod scene;
mod states;
mod strict;
mod takeover;
mod time;
mod tunnel;
mod uplinks;
mod wireguard;
