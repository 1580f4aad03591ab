//! How far a download is, for those who watch it from outside.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How far a download is.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    total: AtomicU64,
    fetched: AtomicU64,
}

impl Meter {
    /// Bytes that are there, also those that were there before or that another process fetches.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Bytes of all files; 0 until it is known.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Bytes that came over the network.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Relaxed)
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    /// A part of the whole: one file.
    pub(super) fn part(&self) -> Part<'_> {
        Part { meter: self, done: 0 }
    }
}

/// How far one file is.
pub(super) struct Part<'a> {
    meter: &'a Meter,
    done: u64,
}

impl Part<'_> {
    pub fn set(&mut self, done: u64) {
        // Wrapping: it also goes back, when a damaged file begins again.
        self.meter.done.fetch_add(done.wrapping_sub(self.done), Relaxed);
        self.done = done;
    }

    pub fn fetched(&mut self, bytes: u64) {
        self.meter.fetched.fetch_add(bytes, Relaxed);
        self.set(self.done + bytes);
    }
}
