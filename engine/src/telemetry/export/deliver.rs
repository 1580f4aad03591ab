//! The thread's side: takes batches from the queue and sends them to the receiver, each until it is taken, refused or given up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::backoff;
use super::counts::{Counts, DropReason, Tally};
use super::pack::{Packed, Packer, Request};
use super::queue::Queue;
use crate::telemetry::otlp::{Accepted, Failure, Transport};

/// Nobody is told more often that journeys are lost.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A receiver.
pub struct To<T> {
    /// Talks to it.
    pub client: T,
    /// Its endpoint, for people.
    pub name: String,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// Sends what the queue holds.
pub struct Delivery<T> {
    to: To<T>,
    queue: Arc<Queue>,
    packer: Arc<Packer>,
    counts: Counts,
    /// The end's deadline, once it has one.
    stop: watch::Receiver<Option<Instant>>,
    /// Failures in a row, over all requests.
    failures: u32,
    /// The receiver is left alone until then.
    resume_at: Option<Instant>,
    /// Of what was dropped, the part that a warning has spoken of.
    told: Tally,
    warned: Option<Instant>,
}

impl<T: Transport> Delivery<T> {
    /// Ready to run.
    pub fn new(
        to: To<T>,
        queue: Arc<Queue>,
        packer: Arc<Packer>,
        counts: Counts,
        stop: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let (failures, resume_at, told, warned) = (0, None, Tally::default(), None);
        Self { to, queue, packer, counts, stop, failures, resume_at, told, warned }
    }

    /// Runs until the queue is closed and everything is sent or given up.
    pub async fn run(mut self) {
        let packer = self.packer.clone();
        while let Some(parcels) = self.queue.gather().await {
            if self.is_over() {
                parcels.iter().for_each(|parcel| self.counts.dropped(DropReason::Shutdown, parcel.tally(packer.detail)));
                continue;
            }
            for packed in packer.pack(parcels) {
                match packed {
                    Packed::Request(request) => self.deliver(request).await,
                    Packed::TooLarge(tally) => self.lose(DropReason::TooLarge, tally, "a journey is larger than 4 MiB"),
                }
            }
        }
        self.farewell();
    }

    /// Sends one request until it is taken, refused or given up, or until the engine's end has come.
    async fn deliver(&mut self, request: Request) {
        let begun = Instant::now();
        loop {
            if !self.pause().await {
                return self.counts.dropped(DropReason::Shutdown, request.tally);
            }
            let mut stop = self.stop.clone();
            let answer = tokio::select! {
                answer = timeout(self.to.timeout, self.to.client.send(request.spans.clone())) => answer,
                () = end(&mut stop) => return self.counts.dropped(DropReason::Shutdown, request.tally),
            };
            let late = |_| Err(Failure::network(&format!("no answer within {:?}", self.to.timeout)));
            match answer.unwrap_or_else(late) {
                Ok(accepted) => return self.taken(request.tally, &accepted),
                Err(Failure::Permanent { error }) => return self.lose(DropReason::Refused, request.tally, &error),
                Err(Failure::Transient { error, after }) => {
                    self.failures = self.failures.saturating_add(1);
                    let batching = self.queue.batching();
                    let pause = backoff::pause(batching.retry_pause, self.failures, after, rand::random());
                    self.resume_at = Some(Instant::now() + pause);
                    if begun.elapsed() >= batching.export_timeout {
                        return self.lose(DropReason::Undeliverable, request.tally, &error);
                    }
                    self.warn(&error);
                }
            }
        }
    }

    /// Leaves the receiver alone for as long as it needs, or as the engine's end permits; false when that has come.
    async fn pause(&mut self) -> bool {
        if let Some(at) = self.resume_at.take() {
            let mut stop = self.stop.clone();
            let end = *stop.borrow();
            match end {
                // There is no time for long pauses any more.
                Some(end) => sleep_until(at.min(Instant::now() + self.queue.batching().retry_pause).min(end)).await,
                None => tokio::select! {
                    () = sleep_until(at) => {}
                    // The end is a reason to try at once, in the time that is left.
                    _ = deadline(&mut stop) => {}
                },
            }
        }
        !self.is_over()
    }

    /// The end's deadline has come.
    fn is_over(&self) -> bool {
        self.stop.borrow().is_some_and(|deadline| deadline <= Instant::now())
    }

    fn taken(&mut self, mut tally: Tally, accepted: &Accepted) {
        self.failures = 0;
        self.resume_at = None;
        let spans = accepted.rejected_spans.min(tally.spans);
        // Nobody says which spans they were; each may have been of another journey.
        let rejected = Tally { journeys: spans.min(tally.journeys), spans };
        tally = Tally { journeys: tally.journeys - rejected.journeys, spans: tally.spans - rejected.spans };
        self.counts.exported(tally);
        debug!(journeys = tally.journeys, spans = tally.spans, endpoint = %self.to.name, "exported");
        if spans > 0 {
            let why = format!("the receiver took all but {spans} spans: {}", accepted.message);
            self.lose(DropReason::PartialSuccess, rejected, &why);
        } else if !accepted.message.is_empty() {
            self.warn(&format!("the receiver took everything and warns: {}", accepted.message));
        } else if self.counts.dropped_in_all() != self.told {
            self.warn("journeys were dropped since the last warning");
        }
    }

    fn lose(&mut self, reason: DropReason, tally: Tally, why: &str) {
        self.counts.dropped(reason, tally);
        self.warn(why);
    }

    fn warn(&mut self, error: &str) {
        let now = Instant::now();
        if self.warned.is_some_and(|last| now - last < WARN_EVERY) {
            return;
        }
        self.warned = Some(now);
        self.told = self.counts.dropped_in_all();
        let (endpoint, waiting, dropped) = (self.to.name.as_str(), self.queue.len(), self.counts.dropped_by_reason());
        warn!(%error, endpoint, waiting, dropped, "not all journeys are delivered; requests are not affected");
    }

    /// Says what the engine's end left behind.
    fn farewell(&self) {
        let Tally { journeys, spans } = self.counts.dropped_for(DropReason::Shutdown);
        if spans > 0 {
            warn!(journeys, spans, endpoint = %self.to.name, "the engine ends before these journeys were delivered");
        }
    }
}

/// Waits until the engine's end has a deadline.
async fn deadline(stop: &mut watch::Receiver<Option<Instant>>) -> Instant {
    match stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline) {
        Some(deadline) => deadline,
        None => std::future::pending().await,
    }
}

/// Waits for that deadline.
async fn end(stop: &mut watch::Receiver<Option<Instant>>) {
    sleep_until(deadline(stop).await).await;
}
