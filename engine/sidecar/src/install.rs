//! Copies this very program to where another container starts it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sojourn_contract::path::SUPERVISOR_BINARY;

/// What could not be installed, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot install the supervisor as {}", path.display())]
pub struct NotInstalled {
    path: PathBuf,
    #[source]
    reason: io::Error,
}

/// Copies the program to `dir`, whole or not at all, and answers its path.
pub fn install(dir: &Path) -> Result<PathBuf, NotInstalled> {
    let path = dir.join(SUPERVISOR_BINARY);
    let unfinished = dir.join(format!(".{SUPERVISOR_BINARY}"));
    let copied = std::env::current_exe()
        .and_then(|program| fs::copy(program, &unfinished))
        .and_then(|_| fs::set_permissions(&unfinished, Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&unfinished, &path));
    match copied {
        Ok(()) => Ok(path),
        Err(reason) => Err(NotInstalled { path, reason }),
    }
}
