//! The way out of the engine: a bounded queue of whole journeys and one thread that sends them.
//!
//! ```text
//! complete() --push--> queue --gather--> batch of whole journeys --pack--> OTLP requests --deliver--> receiver, again until
//!     |                                                             |                         |       it takes or refuses it
//!     `-- full: counted                            too large: counted                         `-- given up: counted
//! ```
//! Nobody waits for a receiver: a journey that finds the queue full is dropped as a whole and counted. (The SDK's batch
//! processor drops single spans and counts nothing, so it is not used.)

mod backoff;
mod console;
pub mod counts;
mod deliver;
mod pack;
mod parcel;
mod queue;
mod size;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use sojourn_contract::journey::{Detail, Kind};
use sojourn_journey::record::Journey;
use sojourn_journey::startup::Startup;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use super::TelemetryError;
use super::context::RequestContext;
use super::otlp::Client;
use super::sampler::Sampler;
use super::settings::{Destination, Settings};
use crate::recorder::Sink;
use counts::Counts;
use deliver::Delivery;
use pack::Packer;
use parcel::Parcel;
use queue::Queue;

/// The thread may take so much longer than it was given, to count what is left.
const SLACK: Duration = Duration::from_secs(1);

/// The sending side; cheap to clone behind an [`Arc`].
pub struct Exporter {
    /// `None` without a destination: journeys are taken and forgotten.
    queue: Option<Arc<Queue>>,
    sampler: Sampler,
    detail: Detail,
    counts: Counts,
    stop: watch::Sender<Option<Instant>>,
    stopped: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Exporter {
    /// Starts the thread, if there is a destination.
    ///
    /// # Errors
    /// The client cannot be built from the settings, or the thread cannot be started.
    pub fn start(settings: &Settings, resource: Resource, detail: Detail) -> Result<Arc<Self>, TelemetryError> {
        let counts = Counts::default();
        let (stop, asked_to_stop) = watch::channel(None);
        let (finished, stopped) = oneshot::channel();
        let exporter = |queue| {
            let (stopped, sampler, counts) = (Mutex::new(Some(stopped)), settings.sampler, counts.clone());
            Ok(Arc::new(Self { queue, sampler, detail, counts, stop, stopped }))
        };
        let Some(destination) = &settings.destination else { return exporter(None) };
        let queue = Arc::new(Queue::new(settings.batching, counts.queued.clone()));
        match destination {
            Destination::Console => {
                let (queue, counts) = (queue.clone(), counts.clone());
                let print = async move { console::print(&queue, detail, &counts, io::stdout()).await };
                spawn(runtime()?, print, finished)?;
            }
            Destination::Otlp(receiver) => {
                let runtime = runtime()?;
                let client = {
                    let _inside = runtime.enter();
                    Client::new(receiver, &resource)
                };
                let client = match client {
                    Ok(client) => client,
                    Err(error) => {
                        // Dropping it would wait, which whoever calls from a runtime must not.
                        runtime.shutdown_background();
                        return Err(error);
                    }
                };
                let packer = Arc::new(Packer::new(&resource, settings.limits, detail));
                let to = deliver::To { client, name: receiver.name(), timeout: receiver.timeout };
                let delivery = Delivery::new(to, queue.clone(), packer, counts.clone(), asked_to_stop);
                spawn(runtime, delivery.run(), finished)?;
            }
        }
        exporter(Some(queue))
    }

    /// What has happened to journeys since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sends the trace of the engine's own start, which is no journey and proves the path before there is any traffic.
    pub fn startup(&self, startup: Startup) {
        self.put(Parcel::Startup(Box::new(startup)));
    }

    /// Sends what is queued, for at most this long, and says what was left; afterwards nothing is taken any more.
    pub async fn shutdown(&self, within: Duration) {
        let Some(queue) = &self.queue else { return };
        self.stop.send_replace(Some(Instant::now() + within));
        queue.close();
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stopped) = stopped {
            // An error means that the thread ended without saying so, which is an end too; one that is blocked by a reader of
            // standard output is not waited for.
            drop(timeout(within + SLACK, stopped).await);
        }
    }

    fn put(&self, parcel: Parcel) {
        let Some(queue) = &self.queue else { return };
        for (parcel, reason) in queue.push(parcel) {
            self.counts.dropped(reason, parcel.tally(self.detail));
        }
    }
}

impl Sink<RequestContext> for Exporter {
    fn complete(&self, journey: Journey, context: RequestContext) {
        // What the engine sends to prove the path is nobody's to sample.
        if journey.kind == Kind::Request && !self.sampler.keeps(&context) {
            return;
        }
        self.put(Parcel::Journey(Box::new((journey, context))));
    }
}

impl Drop for Exporter {
    /// Ends the thread where nobody did.
    fn drop(&mut self) {
        let Some(queue) = &self.queue else { return };
        if self.stop.borrow().is_none() {
            self.stop.send_replace(Some(Instant::now()));
        }
        queue.close();
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, TelemetryError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(TelemetryError::Thread)
}

fn spawn(
    runtime: tokio::runtime::Runtime,
    work: impl Future<Output = ()> + Send + 'static,
    finished: oneshot::Sender<()>,
) -> Result<(), TelemetryError> {
    let body = move || {
        runtime.block_on(work);
        // Nobody may wait for it.
        finished.send(()).ok();
    };
    thread::Builder::new().name("telemetry".into()).spawn(body).map_err(TelemetryError::Thread)?;
    Ok(())
}

#[cfg(test)]
mod tests;
