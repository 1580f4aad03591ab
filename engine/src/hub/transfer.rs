//! One file on its way into the cache: under a lock, from where an earlier attempt has stopped, checked, and renamed when it
//! is whole.

use std::io::SeekFrom;
use std::path::PathBuf;

use futures::StreamExt;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::cache::{Cache, is_whole};
use super::checksum::Checksum;
use super::client::{Client, Metadata, broken};
use super::error::HubError;
use super::lock;
use super::meter::{Meter, Part};
use super::retry::{Failure, Retry};

/// A file that should be in the cache.
#[derive(Debug)]
pub(super) struct Wanted {
    pub file: String,
    pub metadata: Metadata,
}

/// Brings a file into the cache, if it is not there.
pub(super) async fn fetch(client: &Client<'_>, cache: &Cache, wanted: &Wanted, meter: &Meter) -> Result<(), HubError> {
    let Wanted { file, metadata: Metadata { commit, etag, size } } = wanted;
    let mut part = meter.part();
    if cache.has(commit, file, *size) {
        part.set(*size);
        return Ok(());
    }
    let incomplete = cache.incomplete(etag);
    let there = || std::fs::metadata(&incomplete).map_or(0, |metadata| metadata.len());
    let _lock = lock::acquire(&cache.lock(etag), || part.set(there().min(*size))).await?;
    if !cache.has(commit, file, *size) {
        if !is_whole(&cache.blob(etag), *size) {
            download(client, cache, wanted, &mut part).await?;
        }
        cache.link(commit, file, etag)?;
    }
    part.set(*size);
    Ok(())
}

async fn download(client: &Client<'_>, cache: &Cache, wanted: &Wanted, part: &mut Part<'_>) -> Result<(), HubError> {
    let Metadata { etag, size, .. } = &wanted.metadata;
    let mut partial = Partial::open(cache.incomplete(etag), etag, *size).await?;
    let mut retry = client.retry();
    let mut was_damaged = false;
    loop {
        part.set(partial.length);
        if let Err(failure) = receive(client, wanted, &mut partial, part, &mut retry).await {
            partial.flush().await?;
            retry.after(failure).await?;
            continue;
        }
        if partial.sum.clone().matches(etag) {
            return partial.finish(cache.blob(etag)).await;
        }
        partial.clear().await?;
        if was_damaged {
            return Err(HubError::Corrupt { file: wanted.file.clone(), etag: etag.clone() });
        }
        was_damaged = true;
        tracing::warn!(file = wanted.file, "the checksum is wrong: the file is fetched again from its beginning");
    }
}

/// Receives what is missing.
async fn receive(
    client: &Client<'_>,
    wanted: &Wanted,
    partial: &mut Partial,
    part: &mut Part<'_>,
    retry: &mut Retry,
) -> Result<(), Failure> {
    let Metadata { commit, size, .. } = &wanted.metadata;
    if partial.length == *size {
        return Ok(());
    }
    let (response, begins) = client.open(commit, &wanted.file, partial.length).await?;
    if begins != partial.length {
        partial.clear().await.map_err(Failure::Final)?;
        part.set(0);
    }
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(broken)?;
        if partial.length + piece.len() as u64 > *size {
            partial.clear().await.map_err(Failure::Final)?;
            return Err(Failure::passing(format!("it sends more than the {size} bytes of {}", wanted.file)));
        }
        partial.write(&piece).await.map_err(Failure::Final)?;
        part.fetched(piece.len() as u64);
        retry.progress();
    }
    if partial.length < *size {
        return Err(Failure::passing(format!("the connection ended after {} of {size} bytes", partial.length)));
    }
    Ok(())
}

/// What is there of a file that is not whole yet.
struct Partial {
    path: PathBuf,
    file: File,
    length: u64,
    sum: Checksum,
    /// The sum of nothing.
    fresh: Checksum,
}

impl Partial {
    /// Takes up what an earlier process has left.
    async fn open(path: PathBuf, etag: &str, size: u64) -> Result<Self, HubError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(HubError::disk(parent))?;
        }
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&path).await.map_err(HubError::disk(&path))?;
        let length = file.metadata().await.map_err(HubError::disk(&path))?.len();
        let fresh = Checksum::of(etag, size);
        let mut partial = Self { path, file, length, sum: fresh.clone(), fresh };
        if length > size {
            partial.clear().await?;
        } else if length > 0 {
            partial.read_back().await?;
        }
        Ok(partial)
    }

    async fn read_back(&mut self) -> Result<(), HubError> {
        let (path, mut sum) = (self.path.clone(), self.fresh.clone());
        let read = tokio::task::spawn_blocking(move || sum.update_from(&path).map(|()| sum)).await;
        self.sum = read.map_err(std::io::Error::other).and_then(|read| read).map_err(HubError::disk(&self.path))?;
        self.file.seek(SeekFrom::End(0)).await.map_err(HubError::disk(&self.path))?;
        tracing::info!(file = %self.path.display(), bytes = self.length, "a download is taken up where it stopped");
        Ok(())
    }

    async fn write(&mut self, piece: &[u8]) -> Result<(), HubError> {
        self.file.write_all(piece).await.map_err(HubError::disk(&self.path))?;
        self.sum.update(piece);
        self.length += piece.len() as u64;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), HubError> {
        self.file.flush().await.map_err(HubError::disk(&self.path))
    }

    async fn clear(&mut self) -> Result<(), HubError> {
        self.flush().await?;
        self.file.set_len(0).await.map_err(HubError::disk(&self.path))?;
        self.file.rewind().await.map_err(HubError::disk(&self.path))?;
        (self.length, self.sum) = (0, self.fresh.clone());
        Ok(())
    }

    /// It is whole: on the disk first, then under its name.
    async fn finish(mut self, blob: PathBuf) -> Result<(), HubError> {
        self.flush().await?;
        self.file.sync_all().await.map_err(HubError::disk(&self.path))?;
        tokio::fs::rename(&self.path, &blob).await.map_err(HubError::disk(&blob))
    }
}
