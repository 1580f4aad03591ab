//! The way out of the engine: a bounded queue of whole journeys and one thread that sends them.
//!
//! ```text
//! complete() --try_send--> queue --recv_many--> batch of whole journeys --describe, convert--> one OTLP request, again
//!     |                                                                                        until it is taken
//!     `-- full: counted                                                                        `-- given up: counted
//! ```
//! Nobody waits for a collector: a journey that finds the queue full is dropped as a whole and counted. (The SDK's batch
//! processor drops single spans and counts nothing, so it is not used.)

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus_client::metrics::counter::Counter;
use sojourn_contract::journey::Detail;
use sojourn_journey::record::Journey;
use sojourn_journey::spans::describe;
use sojourn_journey::startup::{self, Startup};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, warn};

use super::context::{RequestContext, new_span_id, new_trace_id};
use super::sampler::Sampler;
use super::settings::Settings;
use super::{TelemetryError, otlp, spans};
use crate::recorder::Sink;

/// Spans and events together in one OTLP request: at about 250 bytes each it stays well below gRPC's limit of 4 MiB.
const MAX_REQUEST_ITEMS: usize = 8_000;
/// A request that was refused for so long is given up, so that one that nobody takes does not hold up all others.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(15);
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What has happened to journeys since the start.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Journeys that the receiver took.
    pub exported_journeys: Counter,
    /// Spans that the receiver took.
    pub exported_spans: Counter,
    /// Journeys that were given up: the queue was full, or nobody took them in time.
    pub dropped_journeys: Counter,
}

/// What travels as a whole.
enum Parcel {
    Journey(Box<(Journey, RequestContext)>),
    Startup(Box<Startup>),
}

/// The sending side; cheap to clone behind an [`Arc`].
pub struct Exporter {
    queue: mpsc::Sender<Parcel>,
    sampler: Sampler,
    counts: Counts,
    stop: watch::Sender<Option<Instant>>,
    stopped: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Exporter {
    /// Starts the thread. Without a destination journeys are taken and forgotten.
    ///
    /// # Errors
    /// The exporter cannot be built from the settings, or the thread cannot be started.
    pub fn start(settings: Settings, resource: Resource, detail: Detail) -> Result<Arc<Self>, TelemetryError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(TelemetryError::Thread)?;
        let destination = settings.destination.as_ref();
        let otlp = {
            let _inside = runtime.enter();
            destination.map(otlp::exporter).transpose()?
        };
        let name = destination.map(|destination| destination.endpoint.clone()).unwrap_or_default();
        let (exporter, queue, stop, finished) = Self::new(&settings);
        let counts = exporter.counts.clone();
        let body = move || {
            runtime.block_on(async {
                match otlp {
                    Some(mut otlp) => {
                        otlp.set_resource(&resource);
                        Sender { exporter: otlp, name, settings, detail, counts, stop, dropped: 0, warned: None }
                            .run(queue)
                            .await;
                    }
                    None => forget(queue, stop).await,
                }
            });
            // Nobody may wait for it.
            finished.send(()).ok();
        };
        thread::Builder::new().name("telemetry".into()).spawn(body).map_err(TelemetryError::Thread)?;
        Ok(Arc::new(exporter))
    }

    #[allow(clippy::type_complexity)] // Four ends of three channels, taken apart at once by the two callers.
    fn new(settings: &Settings) -> (Self, mpsc::Receiver<Parcel>, watch::Receiver<Option<Instant>>, oneshot::Sender<()>) {
        let (queue, receiver) = mpsc::channel(settings.queue);
        let (stop, stop_receiver) = watch::channel(None);
        let (finished, stopped) = oneshot::channel();
        let sampler = settings.sampler;
        let exporter = Self { queue, sampler, counts: Counts::default(), stop, stopped: Mutex::new(Some(stopped)) };
        (exporter, receiver, stop_receiver, finished)
    }

    /// What has happened to journeys since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sends the trace of the engine's own start, which is no journey and proves the path before there is any traffic.
    pub fn startup(&self, startup: Startup) {
        self.put(Parcel::Startup(Box::new(startup)));
    }

    /// Sends what is queued, for at most this long; afterwards nothing is taken any more.
    pub async fn shutdown(&self, within: Duration) {
        self.stop.send_replace(Some(Instant::now() + within));
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stopped) = stopped {
            // An error means that the thread ended without saying so, which is an end too.
            drop(stopped.await);
        }
    }

    fn put(&self, parcel: Parcel) {
        let is_journey = matches!(parcel, Parcel::Journey(_));
        if self.queue.try_send(parcel).is_err() && is_journey {
            self.counts.dropped_journeys.inc();
        }
    }
}

impl Sink<RequestContext> for Exporter {
    fn complete(&self, journey: Journey, context: RequestContext) {
        if !self.sampler.keeps(&context) {
            return;
        }
        self.put(Parcel::Journey(Box::new((journey, context))));
    }
}

async fn forget(mut queue: mpsc::Receiver<Parcel>, mut stop: watch::Receiver<Option<Instant>>) {
    loop {
        tokio::select! {
            parcel = queue.recv() => if parcel.is_none() { return },
            _ = stop.wait_for(Option::is_some) => return,
        }
    }
}

/// The thread's side.
struct Sender<E> {
    exporter: E,
    /// The endpoint, for people.
    name: String,
    settings: Settings,
    detail: Detail,
    counts: Counts,
    stop: watch::Receiver<Option<Instant>>,
    /// Of those that were dropped, the ones that a warning has spoken of.
    dropped: u64,
    warned: Option<Instant>,
}

impl<E: SpanExporter> Sender<E> {
    async fn run(mut self, mut queue: mpsc::Receiver<Parcel>) {
        let mut batch = Vec::new();
        while self.gather(&mut queue, &mut batch).await {
            for (journeys, spans) in self.requests(batch.drain(..)) {
                self.deliver(journeys, spans, queue.len()).await;
            }
        }
    }

    /// Fills the batch: the first parcel waits for others for at most the schedule delay. False when the queue is closed
    /// and empty.
    async fn gather(&mut self, queue: &mut mpsc::Receiver<Parcel>, batch: &mut Vec<Parcel>) -> bool {
        let mut deadline = None;
        while batch.len() < self.settings.batch {
            let room = self.settings.batch - batch.len();
            tokio::select! {
                taken = queue.recv_many(batch, room) => {
                    if taken == 0 {
                        return !batch.is_empty();
                    }
                    deadline = deadline.or_else(|| Some(Instant::now() + self.settings.schedule_delay));
                }
                () = at(deadline) => return true,
                // Closing the queue makes it answer without waiting.
                _ = self.stop.wait_for(Option::is_some), if !queue.is_closed() => queue.close(),
            }
        }
        true
    }

    /// Whole journeys, packed into requests of bounded size, each with the number of its journeys.
    fn requests(&self, parcels: impl Iterator<Item = Parcel>) -> Vec<(u64, Vec<SpanData>)> {
        let mut requests: Vec<(u64, Vec<SpanData>)> = Vec::new();
        let mut room = 0;
        for parcel in parcels {
            let is_journey = matches!(parcel, Parcel::Journey(_));
            let spans = self.spans(parcel);
            let items = spans.iter().map(|span| 1 + span.events.events.len()).sum::<usize>();
            if items > room {
                requests.push((0, Vec::new()));
                room = MAX_REQUEST_ITEMS;
            }
            room = room.saturating_sub(items);
            if let Some((journeys, request)) = requests.last_mut() {
                *journeys += u64::from(is_journey);
                request.extend(spans);
            }
        }
        requests
    }

    fn spans(&self, parcel: Parcel) -> Vec<SpanData> {
        let described = match parcel {
            Parcel::Journey(parcel) => {
                let (journey, context) = *parcel;
                describe(&journey, &context.into_frame(self.detail), new_span_id)
            }
            Parcel::Startup(start) => startup::describe(&start, new_trace_id(), new_span_id),
        };
        described.into_iter().map(spans::convert).collect()
    }

    /// Sends one request until it is taken, given up, or the engine's end has come.
    async fn deliver(&mut self, journeys: u64, spans: Vec<SpanData>, waiting: usize) {
        let begun = Instant::now();
        let mut pause = FIRST_RETRY;
        let mut stop = self.stop.clone();
        loop {
            let attempt = self.exporter.export(spans.clone());
            let result = tokio::select! {
                result = attempt => result.map_err(|error| error.to_string()),
                () = end(&mut stop) => Err("the engine ends".to_owned()),
            };
            let Err(error) = result else {
                self.delivered(journeys, spans.len() as u64, waiting);
                return;
            };
            self.warn(&error, waiting);
            let deadline = *stop.borrow();
            if deadline.is_some() {
                pause = FIRST_RETRY;
            }
            let over = deadline.is_some_and(|deadline| Instant::now() + pause >= deadline);
            if over || begun.elapsed() >= GIVE_UP_AFTER {
                self.dropped += journeys;
                self.counts.dropped_journeys.inc_by(journeys);
                return;
            }
            // A stop in between is a reason to try at once, in the time that is left.
            let wake = Instant::now() + pause;
            drop(timeout_at(wake, stop.changed()).await);
            pause = (pause * 2).min(LAST_RETRY);
        }
    }

    fn delivered(&mut self, journeys: u64, spans: u64, waiting: usize) {
        self.counts.exported_journeys.inc_by(journeys);
        self.counts.exported_spans.inc_by(spans);
        debug!(journeys, spans, endpoint = %self.name, "exported");
        let dropped = self.counts.dropped_journeys.get();
        if dropped > self.dropped {
            self.dropped = dropped;
            self.warn("requests end faster than the receiver takes their journeys", waiting);
        }
    }

    fn warn(&mut self, error: &str, waiting: usize) {
        let now = Instant::now();
        if self.warned.is_none_or(|last| now - last >= WARN_EVERY) {
            self.warned = Some(now);
            let dropped = self.counts.dropped_journeys.get();
            warn!(%error, endpoint = %self.name, waiting, dropped, "cannot deliver journeys; requests are not affected");
        }
    }
}

/// Waits for a deadline, forever without one.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits for the deadline that the engine's end sets.
async fn end(stop: &mut watch::Receiver<Option<Instant>>) {
    let deadline = stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
    at(deadline).await;
}

#[cfg(test)]
mod tests;
