//! What a sandbox has on the host beside its node's namespaces: one link with its routes, and one cgroup.

pub(super) mod cgroup;
pub(super) mod link;
