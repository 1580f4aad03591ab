//! A ConfigMap or a Secret as the kubelet mounts it: `KEY -> ..data/KEY`, `..data -> ..VERSION`. A change is another version and
//! one swapped link, so that all files change at once.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

const DATA: &str = "..data";

/// A mounted volume.
pub struct Volume {
    path: PathBuf,
    versions: AtomicU64,
}

impl Volume {
    /// An empty one at this path.
    pub fn new(path: PathBuf) -> Result<Self> {
        let volume = Self { path, versions: AtomicU64::new(0) };
        fs::create_dir(&volume.path).with_context(|| format!("cannot make {}", volume.path.display()))?;
        volume.mount(&BTreeMap::new())?;
        Ok(volume)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces all that is in it.
    pub fn mount(&self, files: &BTreeMap<String, String>) -> Result<()> {
        let version = format!("..{}", self.versions.fetch_add(1, Ordering::Relaxed));
        let (data, next) = (self.path.join(&version), self.path.join("..data_tmp"));
        let before = self.path.join(DATA).canonicalize().ok();
        fs::create_dir(&data)?;
        for (name, content) in files {
            fs::write(data.join(name), content)?;
        }
        symlink(&version, &next)?;
        fs::rename(&next, self.path.join(DATA))?;
        for name in files.keys().filter(|name| self.path.join(name).symlink_metadata().is_err()) {
            symlink(Path::new(DATA).join(name), self.path.join(name))?;
        }
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with("..") && !files.contains_key(&name) {
                fs::remove_file(self.path.join(name))?;
            }
        }
        before.map_or(Ok(()), fs::remove_dir_all).context("cannot remove the version before")
    }

    /// The digest of a file that the supervisor calls its revision: 16 hexadecimal digits of its SHA-256.
    pub fn revision(&self, name: &str) -> Result<String> {
        let digest = Sha256::digest(fs::read(self.path.join(name))?);
        Ok(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn a_version_replaces_the_one_before_whole() {
        let directory = tempfile::tempdir().unwrap();
        let volume = Volume::new(directory.path().join("secret")).unwrap();
        volume.mount(&files(&[("a", "1"), ("b", "2")])).unwrap();
        volume.mount(&files(&[("b", "3"), ("c", "4")])).unwrap();
        let read = |name: &str| fs::read_to_string(volume.path().join(name)).ok();
        assert_eq!((read("a"), read("b").as_deref(), read("c").as_deref()), (None, Some("3"), Some("4")));
        assert!(fs::read_link(volume.path().join("c")).unwrap().starts_with(DATA));
        let entries = fs::read_dir(volume.path()).unwrap().count();
        assert_eq!(entries, 4, "b, c, the link and one version");
    }
}
