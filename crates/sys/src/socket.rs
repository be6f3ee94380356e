//! TODO socket
