//! TODO netlink
