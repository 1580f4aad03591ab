//! What is bounded: the queue, in journeys and in bytes, and a request.

use super::receiver::{decode, encode};
use super::*;

#[test]
fn a_full_queue_drops_whole_journeys_and_counts_them() {
    block_on(async {
        let receiver = Receiver::default();
        let counts = exporting(Batching { queue: 4, ..batching() }, &receiver, |exporter| async move {
            put(&exporter, 10);
            exporter.shutdown(LONG).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::QueueFull)), (tally(4, 4), tally(6, 6)));
    });
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    block_on(async {
        let receiver = Receiver::default();
        let (journey, context) = journey(Kind::Request, 1);
        let one = Parcel::Journey(Box::new((journey, context))).bytes();
        let counts = exporting(Batching { queue_bytes: 3 * one, ..batching() }, &receiver, |exporter| async move {
            put(&exporter, 5);
            assert_eq!(exporter.counts().queued.get(), 3, "what waits is shown");
            exporter.shutdown(LONG).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::QueueFull)), (tally(3, 3), tally(2, 2)));
        assert_eq!(counts.queued.get(), 0);
    });
}

#[test]
fn a_start_and_a_canary_go_first_and_journeys_make_room_for_them() {
    block_on(async {
        let receiver = Receiver::default();
        let counts = exporting(Batching { queue: 4, ..batching() }, &receiver, |exporter| async move {
            put(&exporter, 4);
            exporter.startup(start());
            let (journey, context) = journey(Kind::Canary, 1);
            exporter.complete(journey, context);
            put(&exporter, 1);
            exporter.shutdown(LONG).await;
        });
        let counts = counts.await;
        assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::QueueFull)), (tally(3, 4), tally(3, 3)));
        let names: Vec<String> = receiver.taken().concat().into_iter().map(|span| span.name).collect();
        assert_eq!(names, ["engine_startup", "llm_request", "llm_request", "llm_request"]);
    });
}

#[test]
fn a_request_holds_whole_journeys_and_stays_below_4_mib() {
    let parcels = [10_000, 10_000, 100_000, 1, 40_000, 40_000, 40_000];
    let parcels = parcels.map(|events| Parcel::Journey(Box::new(journey(Kind::Request, events))));
    let packer = packer_with(Limits { events: usize::MAX, ..Limits::default() });
    let mut journeys = Vec::new();
    for packed in packer.pack(parcels.into_iter().collect()) {
        match packed {
            pack::Packed::Request(request) => {
                let body = encode(request.spans);
                assert!(body.len() < 4 << 20, "{}", body.len());
                assert_eq!(decode(&body).len() as u64, request.tally.spans);
                journeys.push(request.tally.journeys);
            }
            pack::Packed::TooLarge(tally) => {
                assert_eq!(tally, Tally { journeys: 1, spans: 1 });
                journeys.push(0);
            }
        }
    }
    assert_eq!(journeys, [2, 0, 3, 1]);
}
