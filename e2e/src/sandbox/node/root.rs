//! The node's file system: a root of its own in which the host's programs are read-only and everything that is written lies
//! in the state directory. Only the first process calls this, in its own mount namespace.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

use super::layout;
use crate::sandbox::settings::Settings;

/// Of the host: directories, or links to them where /usr is merged.
const READ_ONLY: [&str; 7] = ["usr", "etc", "bin", "sbin", "lib", "lib32", "lib64"];
/// Of the host, with all mounts below them: devices and cgroups.
const SHARED: [&str; 2] = ["dev", "sys"];
/// The node's own, kept in the state directory.
const OWN: [&str; 3] = ["run", "var", "tmp"];

/// Moves this process into the node's root. Mounts made before or after are seen by no other namespace.
pub(super) fn enter(settings: &Settings) -> Result<()> {
    mount_at("/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    let root = settings.state.join("root");
    fs::create_dir_all(&root)?;
    mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=16m"))
        .with_context(|| format!("cannot mount a root for the node on {}", root.display()))?;

    for name in READ_ONLY {
        let source = Path::new("/").join(name);
        match fs::symlink_metadata(&source) {
            Ok(what) if what.is_symlink() => symlink(fs::read_link(&source)?, root.join(name))?,
            Ok(_) => bind_read_only(&source, &root.join(name))?,
            Err(_) => {}
        }
    }
    for name in SHARED {
        bind(&Path::new("/").join(name), &root.join(name), MsFlags::MS_REC)?;
    }
    for name in OWN {
        bind(&made(settings.state.join(name))?, &root.join(name), MsFlags::empty())?;
    }
    bind(&settings.state, &inside(&root, layout::STATE), MsFlags::empty())?;
    bind_read_only(&made(settings.programs())?, &inside(&root, layout::PROGRAMS))?;
    bind_read_only(&made(settings.models())?, &inside(&root, layout::MODELS))?;
    fs::create_dir_all(root.join("proc"))?;

    chdir(&root)?;
    pivot_root(".", ".").context("cannot make the node's root the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot leave the host's root")?;
    chdir("/")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, None::<&str>)
        .context("cannot mount /proc")?;
    // The kubelet and its containers pass mounts on to each other.
    mount_at("/", None, MsFlags::MS_REC | MsFlags::MS_SHARED)
}

fn made(directory: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn bind(source: &Path, target: &Path, depth: MsFlags) -> Result<()> {
    fs::create_dir_all(target)?;
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | depth, None::<&str>)
        .with_context(|| format!("cannot show {} to the node", source.display()))
}

fn bind_read_only(source: &Path, target: &Path) -> Result<()> {
    bind(source, target, MsFlags::MS_REC)?;
    mount(None::<&str>, target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>)
        .with_context(|| format!("cannot make {} read-only for the node", source.display()))
}

fn mount_at(target: &str, source: Option<&str>, flags: MsFlags) -> Result<()> {
    mount(source, target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot change how mounts below {target} are shared"))
}
