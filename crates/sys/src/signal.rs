//! TODO signal
