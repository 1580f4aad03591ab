//! Receivers that are dead, slow or unwilling: they cost requests nothing, and what they cost is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sojourn_engine::telemetry::destination::Protocol;
use sojourn_engine::telemetry::export::Exporter;
use sojourn_engine::telemetry::export::counts::DropReason;
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::engine::SOON;
use super::export::{BOTH, ask, engine, exporter, exporter_with, serve, tally};
use super::receiver::{Receiver, Reply};

/// Nobody listens there.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// What requests leave behind at a receiver that replies so.
async fn after_replies(
    protocol: Protocol,
    replies: impl IntoIterator<Item = Reply>,
    requests: usize,
) -> (Receiver, Arc<Exporter>) {
    let receiver = Receiver::replying(protocol, replies).await;
    let exporter = exporter(receiver.address, protocol);
    serve(&exporter, requests).await;
    exporter.shutdown(SOON).await;
    (receiver, exporter)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_there_costs_requests_nothing() {
    let exporter = exporter(nobody().await, Protocol::Grpc);
    serve(&exporter, 100).await;
    exporter.shutdown(Duration::from_millis(200)).await;
    let counts = exporter.counts();
    assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::Shutdown)), (tally(0, 0), tally(100, 500)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_costs_requests_nothing_with_a_full_queue() {
    let hangs = || (0..1_000).map(|_| Reply::Hang);
    for protocol in BOTH {
        let mut receiver = Receiver::replying(protocol, hangs()).await;
        let small = [("OTEL_BSP_MAX_QUEUE_SIZE", "4"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")];
        let exporter = exporter_with(receiver.address, protocol, &small);
        let mut engine = engine(&exporter).await;
        ask(&engine, 1).await;
        receiver.next().await;
        ask(&engine, 49).await;
        engine.stop();
        engine.ended().await;
        exporter.shutdown(Duration::from_millis(50)).await;
        let counts = exporter.counts();
        assert_eq!((counts.exported_in_all(), counts.dropped_in_all()), (tally(0, 0), tally(50, 250)));
        let (full, end) = (counts.dropped_for(DropReason::QueueFull), counts.dropped_for(DropReason::Shutdown));
        assert_eq!((full, end), (tally(45, 225), tally(5, 25)), "four wait and one is on its way");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_in_time_is_not_waited_for() {
    for protocol in BOTH {
        let mut receiver = Receiver::replying(protocol, [Reply::Hang]).await;
        let exporter = exporter_with(receiver.address, protocol, &[("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "100")]);
        serve(&exporter, 1).await;
        let (first, second) = (receiver.next().await, receiver.next().await);
        assert_eq!(first.request, second.request);
        exporter.shutdown(SOON).await;
        assert_eq!(exporter.counts().exported_in_all(), tally(1, 5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_comes_late_gets_what_waited_for_it() {
    let address = nobody().await;
    let exporter = exporter(address, Protocol::Grpc);
    serve(&exporter, 1).await;
    let mut receiver = Receiver::on(TcpListener::bind(address).await.unwrap(), Protocol::Grpc);
    assert_eq!(receiver.next().await.spans().len(), 5);
    exporter.shutdown(SOON).await;
    assert_eq!(exporter.counts().dropped_in_all(), tally(0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_busy_is_asked_again() {
    let hint = ErrorDetails::with_retry_info(Some(Duration::from_millis(5)));
    let grpc = [
        Reply::Status(Status::unavailable("restarting")),
        Reply::Status(Status::with_error_details(Code::ResourceExhausted, "full", hint)),
    ];
    let http = [Reply::Http(429, Some("0")), Reply::Http(503, Some("0")), Reply::Http(503, None)];
    for (protocol, replies) in [(Protocol::Grpc, grpc.into_iter().collect::<Vec<_>>()), (Protocol::Http, http.into())] {
        let attempts = replies.len() + 1;
        let (mut receiver, exporter) = after_replies(protocol, replies, 1).await;
        for _ in 0..attempts {
            assert_eq!(receiver.next().await.spans().len(), 5);
        }
        assert_eq!((exporter.counts().exported_in_all(), exporter.counts().dropped_in_all()), (tally(1, 5), tally(0, 0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_for_good_is_not_asked_again() {
    let exhausted = Status::resource_exhausted("no room, and there will be none");
    let invalid = Status::invalid_argument("not mine");
    let grpc = [exhausted, invalid].map(|status| (Protocol::Grpc, Reply::Status(status)));
    for (protocol, reply) in grpc.into_iter().chain([(Protocol::Http, Reply::Http(400, None))]) {
        let (_, exporter) = after_replies(protocol, [reply], 1).await;
        let counts = exporter.counts();
        assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::Refused)), (tally(0, 0), tally(1, 5)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_partial_success_leaves_out_is_counted() {
    for protocol in BOTH {
        let (_, exporter) = after_replies(protocol, [Reply::AllBut(2)], 1).await;
        let counts = exporter.counts();
        assert_eq!((counts.exported_in_all(), counts.dropped_for(DropReason::PartialSuccess)), (tally(0, 3), tally(1, 2)));
    }
}
