//! One writer for each file of the cache: a lock of the operating system (`flock`, as huggingface_hub's), which a process that
//! is killed gives back.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::HubError;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const SAY_EVERY: Duration = Duration::from_secs(30);

/// The right to write a file; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Option<File>,
}

/// Waits for the lock at a path; `while_waiting` is called again and again.
pub(super) async fn acquire(path: &Path, mut while_waiting: impl FnMut()) -> Result<Lock, HubError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(HubError::disk(parent))?;
    }
    let mut said: Option<Instant> = None;
    loop {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(HubError::disk(path))?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path) => return Ok(Lock { _file: Some(file) }),
            // Somebody has removed it meanwhile, and others lock the new one.
            Ok(()) => continue,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                // Two writers write the same bytes at the same places, so this costs traffic and no more.
                tracing::warn!(%error, path = %path.display(), "this file system has no locks: others may download the same");
                return Ok(Lock { _file: None });
            }
        }
        if said.is_none_or(|said| said.elapsed() > SAY_EVERY) {
            said = Some(Instant::now());
            tracing::info!(lock = %path.display(), "another process downloads the same file: waiting for it");
        }
        while_waiting();
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(id).is_ok_and(|own| std::fs::metadata(path).map(id).is_ok_and(|there| own == there))
}
