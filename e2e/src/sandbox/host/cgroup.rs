//! The sandbox's cgroup, in every hierarchy that the machine has mounted: containers live below it, and on cgroup v2 the
//! node's own programs as well. Reads and writes below /sys/fs/cgroup.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

const ROOT: &str = "/sys/fs/cgroup";
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the sandbox's cgroup: the kubelet wants the one that it is told to use to be there in every hierarchy. Where there
/// is only one (v2), this process moves into it as well: a cgroup that the starting shell owns could go with the shell.
pub(in crate::sandbox) fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let cgroup = hierarchy.join(name);
        fs::create_dir_all(&cgroup).with_context(|| format!("cannot make the cgroup {}", cgroup.display()))?;
    }
    if is_unified() {
        share_controllers()?;
        // Beside the containers, not above them: a v2 cgroup has processes or children with controllers, never both.
        let own = Path::new(ROOT).join(name).join("node");
        let enter = || {
            fs::create_dir_all(&own)?;
            fs::write(own.join("cgroup.procs"), "0")
        };
        enter().with_context(|| format!("cannot enter the cgroup {}", own.display()))?;
    }
    Ok(())
}

/// Lets children of the root have every controller, one by one: the kernel refuses those that it cannot share, and the
/// kubelet says which of them it misses.
fn share_controllers() -> Result<()> {
    let root = Path::new(ROOT);
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).context("cannot read the controllers of cgroups")?;
    for controller in controllers.split_whitespace() {
        fs::write(root.join("cgroup.subtree_control"), format!("+{controller}")).ok();
    }
    Ok(())
}

/// Removes the sandbox's cgroups once the kernel has seen their last process go.
pub(in crate::sandbox) async fn remove(name: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for cgroup in hierarchies()?.into_iter().map(|hierarchy| hierarchy.join(name)) {
        loop {
            match remove_tree(&cgroup) {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => bail!("cannot remove the cgroup {}: {error}", cgroup.display()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
    Ok(())
}

/// Where hierarchies are mounted: at the root itself (v2) or at directories of it (v1, which may have v2 among them).
fn hierarchies() -> Result<Vec<PathBuf>> {
    if is_unified() {
        return Ok(vec![PathBuf::from(ROOT)]);
    }
    let mut hierarchies = Vec::new();
    for entry in fs::read_dir(ROOT).with_context(|| format!("cannot read {ROOT}: are cgroups mounted?"))? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            hierarchies.push(path);
        }
    }
    Ok(hierarchies)
}

fn is_unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Removes directories, deepest first; the files in them are the kernel's and go with them.
fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_deepest_first_and_an_absent_one_is_gone_already() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("sandbox");
        fs::create_dir_all(root.join("pod/container")).unwrap();
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        remove_tree(&root).unwrap();
    }
}
