//! Where things lie inside the node. The node has a root of its own: programs of the host read-only, Debian's default
//! paths for everything that is written, so that nothing it does can show on the host. Pure names.

/// Port of the API server.
pub const API_SERVER_PORT: u16 = 6443;
/// The sandbox's state directory.
pub const STATE: &str = "/node";
/// The cache's directory of built programs, read-only.
pub const PROGRAMS: &str = "/programs";
/// The cache's model files, read-only.
pub const MODELS: &str = "/models";

/// A configuration file, certificate or key.
pub fn etc(file: &str) -> String {
    format!("{STATE}/etc/{file}")
}
