//! TODO bpf
