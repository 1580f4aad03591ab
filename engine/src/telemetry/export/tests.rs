//! Journeys on their way out, with a receiver that takes, refuses, or does not answer.

use sojourn_contract::journey::Parent;
use sojourn_journey::record::{ApiEvent, ApiRecord, Stamp};
use sojourn_journey::trace::Attributes;

use super::counts::{DropReason, Tally};
use super::*;
use crate::telemetry::limits::Limits;
use crate::telemetry::resource::resource;
use crate::telemetry::settings::Batching;
use receiver::{Receiver, Reply};

fn batching() -> Batching {
    let (millisecond, batching) = (Duration::from_millis(1), Batching::default());
    Batching { schedule_delay: millisecond, retry_pause: millisecond, queue: 64, batch: 8, ..batching }
}

fn packer() -> Packer {
    packer_with(Limits::default())
}

fn packer_with(limits: Limits) -> Packer {
    Packer::new(&resource(Vec::new()), limits, Detail::Journey)
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
    let counts = Counts::default();
    let queue = Arc::new(Queue::new(batching, counts.queued.clone()));
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

mod accounting;
mod bounds;
mod receiver;
mod said;
