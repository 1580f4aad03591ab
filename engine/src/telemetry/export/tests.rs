//! Journeys on their way out, with a receiver that takes, refuses, or is not there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use opentelemetry::trace::SpanId;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use sojourn_contract::journey::{Kind, Parent};
use sojourn_journey::record::{ApiEvent, ApiRecord, Stamp};

use super::*;

/// A receiver under a test's control.
#[derive(Debug, Clone, Default)]
struct Receiver {
    requests: Arc<Mutex<Vec<Vec<SpanData>>>>,
    /// Refuses so many requests first.
    refusals: Arc<AtomicUsize>,
    /// Ids of the spans of each attempt.
    attempts: Arc<Mutex<Vec<Vec<SpanId>>>>,
    /// Never answers.
    hangs: bool,
}

impl SpanExporter for Receiver {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.attempts.lock().unwrap().push(batch.iter().map(|span| span.span_context.span_id()).collect());
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let refuse = |left: usize| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse).is_ok() {
            return Err(OTelSdkError::InternalFailure("refused".into()));
        }
        self.requests.lock().unwrap().push(batch);
        Ok(())
    }
}

impl Receiver {
    fn refusing(count: usize) -> Self {
        Self { refusals: Arc::new(count.into()), ..Self::default() }
    }

    fn spans(&self) -> Vec<SpanData> {
        self.requests.lock().unwrap().concat()
    }
}

fn settings() -> Settings {
    Settings { destination: None, sampler: Sampler::ALL, schedule_delay: Duration::from_millis(5), queue: 64, batch: 8 }
}

/// Runs a sender over `receiver` until it ends, while `body` uses the exporter.
async fn exporting<F: Future<Output = ()>>(
    settings: Settings,
    receiver: &Receiver,
    body: impl FnOnce(Arc<Exporter>) -> F,
) -> Counts {
    let (exporter, queue, stop, finished) = Exporter::new(&settings);
    let counts = exporter.counts.clone();
    let (name, exporter_end) = ("test".to_owned(), receiver.clone());
    let detail = Detail::Journey;
    let sender =
        Sender { exporter: exporter_end, name, settings, detail, counts: counts.clone(), stop, dropped: 0, warned: None };
    let run = async {
        sender.run(queue).await;
        drop(finished);
    };
    tokio::join!(run, body(Arc::new(exporter)));
    counts
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn journey(id: usize, events: usize) -> (Journey, RequestContext) {
    let at = |seconds: usize| Stamp { unix_nanos: seconds as u64, monotonic: seconds as f64 };
    let mut api = vec![ApiRecord { at: at(0), event: ApiEvent::Arrived }; events];
    api.push(ApiRecord { at: at(1), event: ApiEvent::Departed });
    let journey = Journey {
        kind: Kind::Request,
        parent: Parent::None,
        request_id: id.to_string(),
        queue_depth_at_arrival: 0,
        running_at_arrival: 0,
        api,
        cores: Vec::new(),
    };
    (journey, RequestContext::new(None))
}

fn put(exporter: &Exporter, ids: std::ops::Range<usize>) {
    for id in ids {
        let (journey, context) = journey(id, 1);
        exporter.complete(journey, context);
    }
}

#[test]
fn a_shutdown_sends_what_is_queued_in_batches() {
    block_on(async {
        let receiver = Receiver::default();
        let counts = exporting(settings(), &receiver, |exporter| async move {
            put(&exporter, 0..20);
            exporter.shutdown(Duration::from_secs(10)).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_journeys.get(), counts.exported_spans.get()), (20, 20));
        assert_eq!(counts.dropped_journeys.get(), 0);
        assert!(receiver.requests.lock().unwrap().iter().all(|request| request.len() <= 8));
    });
}

#[test]
fn a_journey_leaves_without_waiting_for_a_full_batch() {
    block_on(async {
        let receiver = Receiver::default();
        let also = receiver.clone();
        exporting(settings(), &receiver, |exporter| async move {
            put(&exporter, 0..1);
            while also.spans().is_empty() {
                tokio::task::yield_now().await;
            }
            exporter.shutdown(Duration::from_secs(10)).await;
        })
        .await;
        assert_eq!(receiver.spans().len(), 1);
    });
}

#[test]
fn a_refused_request_is_sent_again_with_the_same_ids() {
    block_on(async {
        let receiver = Receiver::refusing(2);
        let counts = exporting(settings(), &receiver, |exporter| async move {
            put(&exporter, 0..2);
            exporter.shutdown(Duration::from_secs(10)).await;
        });
        let counts = counts.await;
        let attempts = receiver.attempts.lock().unwrap();
        assert_eq!(attempts.len(), 3);
        assert!(attempts.iter().all(|attempt| attempt.len() == 2 && *attempt == attempts[0]), "{attempts:?}");
        assert_eq!((counts.exported_journeys.get(), counts.dropped_journeys.get()), (2, 0));
    });
}

#[test]
fn a_full_queue_drops_whole_journeys_and_counts_them() {
    block_on(async {
        let receiver = Receiver::default();
        let counts = exporting(Settings { queue: 4, ..settings() }, &receiver, |exporter| async move {
            put(&exporter, 0..10);
            exporter.shutdown(Duration::from_secs(10)).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_journeys.get(), counts.dropped_journeys.get()), (4, 6));
    });
}

#[test]
fn a_receiver_that_hangs_holds_nobody_up() {
    block_on(async {
        let receiver = Receiver { hangs: true, ..Receiver::default() };
        let begun = SystemTime::now();
        let counts = exporting(Settings { queue: 4, ..settings() }, &receiver, |exporter| async move {
            put(&exporter, 0..100);
            exporter.shutdown(Duration::from_millis(300)).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_journeys.get(), counts.dropped_journeys.get()), (0, 100));
        assert!(begun.elapsed().unwrap() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}

#[test]
fn what_comes_after_the_shutdown_is_counted_as_dropped() {
    block_on(async {
        let receiver = Receiver::default();
        let counts = exporting(settings(), &receiver, |exporter| async move {
            exporter.shutdown(Duration::from_secs(10)).await;
            put(&exporter, 0..1);
        });
        assert_eq!(counts.await.dropped_journeys.get(), 1);
    });
}

#[test]
fn a_request_holds_whole_journeys_and_is_bounded() {
    let (exporter, _queue, stop, _finished) = Exporter::new(&settings());
    let counts = exporter.counts.clone();
    let sender = Sender {
        exporter: Receiver::default(),
        name: String::new(),
        settings: settings(),
        detail: Detail::Journey,
        counts,
        stop,
        dropped: 0,
        warned: None,
    };
    let parcels = [3_000, 3_000, 3_000, 20_000, 1].map(|events| Parcel::Journey(Box::new(journey(0, events))));
    let requests = sender.requests(parcels.into_iter());
    let journeys: Vec<u64> = requests.iter().map(|(journeys, _)| *journeys).collect();
    assert_eq!(journeys, [2, 1, 1, 1]);
    assert_eq!(requests.iter().map(|(_, spans)| spans.len()).sum::<usize>(), 5);
}
