//! Journeys on their way out, with a receiver that takes, refuses, or does not answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use sojourn_contract::journey::Parent;
use sojourn_journey::record::{ApiEvent, ApiRecord, Stamp};
use sojourn_journey::trace::Attributes;

use super::counts::{DropReason, Tally};
use super::*;
use crate::telemetry::limits::Limits;
use crate::telemetry::otlp::{Accepted, Failure, Transport};
use crate::telemetry::settings::Batching;

/// What a receiver does with one request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reply {
    /// Takes it.
    Take,
    /// Does not take it, perhaps later.
    Later,
    /// Takes it, and the answer is lost.
    Lost,
    /// Never takes it.
    Never,
    /// Takes all but so many spans.
    AllBut(u64),
    /// Does not answer.
    Hang,
}

/// A receiver under a test's control: it replies as told, then takes everything.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    replies: VecDeque<Reply>,
    attempts: Vec<Bytes>,
    taken: Vec<Vec<Span>>,
}

impl Transport for Receiver {
    async fn send(&self, body: Bytes) -> Result<Accepted, Failure> {
        let reply = {
            let mut seen = self.0.lock().unwrap();
            seen.attempts.push(body.clone());
            seen.replies.pop_front().unwrap_or(Reply::Take)
        };
        let take = |without: u64| {
            let spans = decode(&body).into_iter().skip(without as usize).collect();
            self.0.lock().unwrap().taken.push(spans);
            Ok(Accepted { rejected_spans: without, message: String::new() })
        };
        let transient = Err(Failure::Transient { error: "refused".to_owned(), after: None });
        match reply {
            Reply::Take => take(0),
            Reply::AllBut(spans) => take(spans),
            Reply::Later => transient,
            Reply::Lost => take(0).and(transient),
            Reply::Never => Err(Failure::Permanent { error: "refused for good".to_owned() }),
            Reply::Hang => std::future::pending().await,
        }
    }
}

impl Receiver {
    fn replying(replies: impl IntoIterator<Item = Reply>) -> Self {
        let receiver = Self::default();
        receiver.0.lock().unwrap().replies.extend(replies);
        receiver
    }

    fn attempts(&self) -> Vec<Bytes> {
        self.0.lock().unwrap().attempts.clone()
    }

    fn taken(&self) -> Vec<Vec<Span>> {
        self.0.lock().unwrap().taken.clone()
    }
}

fn decode(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn batching() -> Batching {
    let (millisecond, batching) = (Duration::from_millis(1), Batching::default());
    Batching { schedule_delay: millisecond, retry_pause: millisecond, queue: 64, batch: 8, ..batching }
}

fn packer() -> Packer {
    Packer { resource: Resource::default(), limits: Limits::default(), detail: Detail::Journey }
}

/// Runs a delivery to `receiver` until it ends, while `body` uses the exporter.
async fn exporting<F: Future<Output = ()>>(
    batching: Batching,
    receiver: &Receiver,
    body: impl FnOnce(Arc<Exporter>) -> F,
) -> Counts {
    sampling(Sampler::ALL, batching, receiver, body).await
}

/// The same with a sampler.
async fn sampling<F: Future<Output = ()>>(
    sampler: Sampler,
    batching: Batching,
    receiver: &Receiver,
    body: impl FnOnce(Arc<Exporter>) -> F,
) -> Counts {
    let (queue, counts) = (Arc::new(Queue::new(batching)), Counts::default());
    let (stop, asked_to_stop) = watch::channel(None);
    let (finished, stopped) = oneshot::channel();
    let to = deliver::To { client: receiver.clone(), name: "test".to_owned(), timeout: Duration::from_secs(60) };
    let delivery = Delivery::new(to, queue.clone(), Arc::new(packer()), counts.clone(), asked_to_stop);
    let run = async {
        delivery.run().await;
        drop(finished);
    };
    let exporter = Exporter {
        queue: Some(queue),
        sampler,
        detail: Detail::Journey,
        counts: counts.clone(),
        stop,
        stopped: Mutex::new(Some(stopped)),
    };
    tokio::join!(run, body(Arc::new(exporter)));
    counts
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn journey(kind: Kind, events: usize) -> (Journey, RequestContext) {
    let at = |seconds: usize| Stamp { unix_nanos: seconds as u64, monotonic: seconds as f64 };
    let mut api = vec![ApiRecord { at: at(0), event: ApiEvent::Arrived }; events];
    api.push(ApiRecord { at: at(1), event: ApiEvent::Departed });
    let journey = Journey {
        kind,
        parent: Parent::None,
        request_id: "id".to_owned(),
        queue_depth_at_arrival: 0,
        running_at_arrival: 0,
        api,
        cores: Vec::new(),
    };
    (journey, RequestContext::new(None))
}

fn put(exporter: &Exporter, count: usize) {
    for _ in 0..count {
        let (journey, context) = journey(Kind::Request, 1);
        exporter.complete(journey, context);
    }
}

fn start() -> Startup {
    let at = Stamp { unix_nanos: 1, monotonic: 1.0 };
    Startup { began: at, ended: at, stages: Vec::new(), error: None, attributes: Attributes::default() }
}

fn tally(journeys: u64, spans: u64) -> Tally {
    Tally { journeys, spans }
}

/// Long enough to never be reached.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_shutdown_sends_what_is_queued_in_batches() {
    block_on(async {
        let receiver = Receiver::default();
        let counts = exporting(batching(), &receiver, |exporter| async move {
            put(&exporter, 20);
            exporter.shutdown(LONG).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_in_all(), counts.dropped_in_all()), (tally(20, 20), tally(0, 0)));
        assert!(receiver.taken().iter().all(|request| request.len() <= 8));
    });
}

#[test]
fn a_journey_leaves_without_waiting_for_a_full_batch() {
    block_on(async {
        let receiver = Receiver::default();
        let also = receiver.clone();
        exporting(batching(), &receiver, |exporter| async move {
            put(&exporter, 1);
            while also.taken().is_empty() {
                tokio::task::yield_now().await;
            }
            exporter.shutdown(LONG).await;
        })
        .await;
        assert_eq!(receiver.taken().concat().len(), 1);
    });
}

#[test]
fn a_request_that_is_put_off_is_sent_again_byte_for_byte() {
    block_on(async {
        let receiver = Receiver::replying([Reply::Later, Reply::Lost]);
        let counts = exporting(batching(), &receiver, |exporter| async move {
            put(&exporter, 2);
            exporter.shutdown(LONG).await;
        });
        let counts = counts.await;
        let attempts = receiver.attempts();
        assert_eq!(attempts.len(), 3);
        assert!(attempts.iter().all(|attempt| *attempt == attempts[0]));
        assert_eq!((counts.exported_in_all(), counts.dropped_in_all()), (tally(2, 2), tally(0, 0)));
    });
}

#[test]
fn a_request_that_is_refused_is_not_sent_again() {
    block_on(async {
        let receiver = Receiver::replying([Reply::Never]);
        let counts = exporting(batching(), &receiver, |exporter| async move {
            put(&exporter, 10);
            exporter.shutdown(LONG).await;
        });
        let counts = counts.await;
        assert_eq!(receiver.attempts().len(), 2);
        assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::Refused)), (tally(2, 2), tally(8, 8)));
    });
}

#[test]
fn a_request_that_nobody_takes_is_given_up_and_the_next_one_is_sent() {
    block_on(async {
        let batching = Batching { export_timeout: Duration::ZERO, ..batching() };
        let receiver = Receiver::replying([Reply::Later]);
        let counts = exporting(batching, &receiver, |exporter| async move {
            put(&exporter, 10);
            exporter.shutdown(LONG).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::Undeliverable)), (tally(2, 2), tally(8, 8)));
    });
}

#[test]
fn spans_that_a_partial_success_leaves_out_are_counted_as_dropped() {
    block_on(async {
        let receiver = Receiver::replying([Reply::AllBut(3), Reply::AllBut(100)]);
        let counts = exporting(batching(), &receiver, |exporter| async move {
            put(&exporter, 16);
            exporter.shutdown(LONG).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::PartialSuccess)), (tally(5, 5), tally(11, 11)));
    });
}

#[test]
fn a_receiver_that_hangs_holds_nobody_up_and_what_was_left_is_counted() {
    block_on(async {
        let receiver = Receiver::replying([Reply::Hang; 4]);
        let counts = exporting(Batching { queue: 4, ..batching() }, &receiver, |exporter| async move {
            put(&exporter, 100);
            exporter.shutdown(Duration::from_millis(50)).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::Shutdown)), (tally(0, 0), tally(4, 4)));
        assert_eq!(counts.dropped_for(DropReason::QueueFull), tally(96, 96));
    });
}

#[test]
fn what_comes_after_the_shutdown_is_counted_as_dropped() {
    block_on(async {
        let receiver = Receiver::default();
        let counts = exporting(batching(), &receiver, |exporter| async move {
            exporter.shutdown(LONG).await;
            put(&exporter, 1);
        });
        assert_eq!(counts.await.dropped_for(DropReason::Shutdown), tally(1, 1));
    });
}

#[test]
fn a_sampler_decides_about_requests_alone() {
    let always_off = |name: &str| (name == "OTEL_TRACES_SAMPLER").then(|| "always_off".to_owned());
    let sampler = Sampler::read(&crate::telemetry::environment::Environment::new(&always_off));
    block_on(async {
        let receiver = Receiver::default();
        let counts = sampling(sampler, batching(), &receiver, |exporter| async move {
            for kind in [Kind::Request, Kind::Canary, Kind::Request] {
                let (journey, context) = journey(kind, 1);
                exporter.complete(journey, context);
            }
            exporter.shutdown(LONG).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_in_all(), counts.dropped_in_all()), (tally(1, 1), tally(0, 0)));
    });
}

/// What console output does to two journeys.
fn printed(out: &mut impl std::io::Write) -> Counts {
    let (queue, counts) = (Queue::new(batching()), Counts::default());
    for _ in 0..2 {
        queue.push(Parcel::Journey(Box::new(journey(Kind::Request, 1))));
    }
    queue.close();
    block_on(console::print(&queue, Detail::Journey, &counts, out));
    counts
}

#[test]
fn the_console_draws_every_journey() {
    let mut out = Vec::new();
    assert_eq!(printed(&mut out).exported_in_all(), tally(2, 2));
    assert_eq!(String::from_utf8(out).unwrap().matches("trace ").count(), 2);
}

#[test]
fn what_a_closed_output_does_not_take_is_counted() {
    let mut nobody: &mut [u8] = &mut [];
    assert_eq!(printed(&mut nobody).dropped_for(DropReason::Refused), tally(2, 2));
}

/// Counts warnings.
struct Warnings(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn trouble_is_told_once_a_minute_and_what_the_end_leaves_is_told_once() {
    use tracing_subscriber::layer::SubscriberExt;
    let told = Arc::new(AtomicUsize::new(0));
    let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(Warnings(told.clone())));
    block_on(async {
        let receiver = Receiver::replying([[Reply::Later; 4], [Reply::Never; 4]].concat().into_iter().chain([Reply::Hang]));
        let (told, also) = (told.clone(), receiver.clone());
        exporting(Batching { batch: 1, ..batching() }, &receiver, |exporter| async move {
            put(&exporter, 8);
            while also.attempts().len() < 9 {
                tokio::task::yield_now().await;
            }
            assert_eq!(told.load(Ordering::SeqCst), 1);
            exporter.shutdown(Duration::from_millis(1)).await;
        })
        .await;
    });
    assert_eq!(told.load(Ordering::SeqCst), 2);
}

mod accounting;
mod bounds;
