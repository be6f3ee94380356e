//! Programs attached to a cgroup.
