//! The end-to-end tests: real daemons, real frames. They need root and a Linux with network namespaces.
//!
//! Rooms: `itself` holds what the laboratory promises about itself, and its positive control.

mod itself;
