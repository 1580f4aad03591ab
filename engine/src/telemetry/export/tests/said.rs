//! What is said of journeys and of their way: on the console, and in the log.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// What console output does to two journeys.
fn printed(out: &mut impl std::io::Write) -> Counts {
    let counts = Counts::default();
    let queue = Queue::new(batching(), counts.queued.clone());
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
