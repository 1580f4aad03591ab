//! The queue of whole journeys, bounded in journeys and in bytes. Whoever puts something in never waits, and holds the lock
//! for microseconds.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::counts::DropReason;
use super::parcel::Parcel;
use crate::telemetry::settings::Batching;

/// Parcels on their way.
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
    batching: Batching,
    /// Length for `/metrics`.
    queued: Gauge,
}

#[derive(Default)]
struct State {
    /// What goes first.
    first: VecDeque<Parcel>,
    /// Journeys of requests.
    requests: VecDeque<Parcel>,
    bytes: usize,
    closed: bool,
}

impl State {
    fn len(&self) -> usize {
        self.first.len() + self.requests.len()
    }

    fn take(&mut self, most: usize) -> Vec<Parcel> {
        let first = self.first.len().min(most);
        let requests = self.requests.len().min(most - first);
        let taken: Vec<Parcel> = self.first.drain(..first).chain(self.requests.drain(..requests)).collect();
        self.bytes -= taken.iter().map(Parcel::bytes).sum::<usize>().min(self.bytes);
        taken
    }
}

impl Queue {
    /// An empty queue, which tells `queued` its length.
    pub fn new(batching: Batching, queued: Gauge) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), batching, queued }
    }

    /// How journeys wait and travel.
    pub fn batching(&self) -> Batching {
        self.batching
    }

    /// Puts a parcel in; answers what had no room, which may be others: journeys of requests make room for what goes first.
    pub fn push(&self, parcel: Parcel) -> Vec<(Parcel, DropReason)> {
        let bytes = parcel.bytes();
        let mut state = self.state();
        if state.closed {
            return vec![(parcel, DropReason::Shutdown)];
        }
        let mut dropped = Vec::new();
        while !self.has_room(&state, bytes) {
            let evicted = if parcel.goes_first() { state.requests.pop_back() } else { None };
            let Some(evicted) = evicted else {
                dropped.push((parcel, DropReason::QueueFull));
                self.tell_length(&state);
                return dropped;
            };
            state.bytes = state.bytes.saturating_sub(evicted.bytes());
            dropped.push((evicted, DropReason::QueueFull));
        }
        state.bytes += bytes;
        if parcel.goes_first() {
            state.first.push_back(parcel)
        } else {
            state.requests.push_back(parcel)
        }
        self.tell_length(&state);
        drop(state);
        self.changed.notify_one();
        dropped
    }

    fn has_room(&self, state: &State, bytes: usize) -> bool {
        state.len() < self.batching.queue && state.bytes + bytes <= self.batching.queue_bytes
    }

    /// A batch: the first parcel waits for others for at most the schedule delay. `None` when the queue is closed and empty.
    /// Only one may wait at a time.
    pub async fn gather(&self) -> Option<Vec<Parcel>> {
        self.filled(1).await;
        let deadline = Instant::now() + self.batching.schedule_delay;
        // What is there when the time is over travels.
        drop(timeout_at(deadline, self.filled(self.batching.batch)).await);
        let batch = {
            let mut state = self.state();
            let batch = state.take(self.batching.batch);
            self.tell_length(&state);
            batch
        };
        if batch.is_empty() { None } else { Some(batch) }
    }

    /// Waits until there are so many, or the queue is closed.
    async fn filled(&self, count: usize) {
        loop {
            {
                let state = self.state();
                if state.closed || state.len() >= count {
                    return;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Takes nothing any more; what is there stays.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// Parcels that wait.
    pub fn len(&self) -> usize {
        self.state().len()
    }

    /// Under the lock, so that the last one to tell is right.
    fn tell_length(&self, state: &State) {
        self.queued.set(i64::try_from(state.len()).unwrap_or(i64::MAX));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
