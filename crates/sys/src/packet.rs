//! TODO packet
