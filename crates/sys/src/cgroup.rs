//! TODO cgroup
