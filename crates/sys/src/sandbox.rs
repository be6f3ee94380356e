//! TODO sandbox
