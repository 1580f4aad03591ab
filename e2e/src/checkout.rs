//! Where the sources are. It is found when a program runs: several checkouts may share a target directory, and cargo does not
//! compile anew for another path.

use std::path::{Path, PathBuf};

/// A file that only a checkout's root has below it.
const MARK: &str = "e2e/sandbox-values.yaml";
/// Where this was compiled, for a program that runs outside every checkout.
const COMPILED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The root of the checkout that the current directory is in.
pub fn root() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    enclosing(&here).unwrap_or(Path::new(COMPILED)).to_owned()
}

/// A file or directory of the checkout by its path from the root.
pub fn path(relative: &str) -> PathBuf {
    root().join(relative)
}

fn enclosing(directory: &Path) -> Option<&Path> {
    directory.ancestors().find(|ancestor| ancestor.join(MARK).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_is_found_from_anywhere_within_it_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("e2e/src/bench");
        std::fs::create_dir_all(&below).unwrap();
        assert_eq!(enclosing(&below), None);
        std::fs::write(directory.path().join(MARK), "").unwrap();
        assert_eq!(enclosing(&below), Some(directory.path()));
        assert_eq!(enclosing(directory.path()), Some(directory.path()));
    }

    #[test]
    fn the_paths_of_this_checkout_are_there() {
        assert!(path("charts/sojourn/Chart.yaml").is_file());
    }
}
