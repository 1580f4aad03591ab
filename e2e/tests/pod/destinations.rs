//! Where kept journeys go: several places at once, each with its own protocol, credentials and faults.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sojourn_contract::metric;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::pod::{Plan, Pod};
use sojourn_e2e::receiver::{Harvest, Receiver, Wire};

use crate::traffic::{many, plain};

/// Value of a header, with what a collector or a shell would expand.
const TRICKY: &str = "pa$$word-${env:HOME}-$HOME";

fn manifest(destinations: Value) -> Manifest {
    Manifest::smollm("smollm").with("tracing.destinations", destinations)
}

/// Asks so often, and waits until the sidecar has all journeys.
async fn traffic(pod: &Pod, before: usize, requests: usize) -> Result<Vec<String>> {
    let answers = many(pod, requests, 4, plain).await?;
    pod.until_exported((before + requests) as u64).await?;
    Ok(answers.into_iter().map(|answer| answer.request_id).collect())
}

/// Everything that was asked arrived here, once.
fn has_exactly(name: &str, arrived: &Harvest<'_>, ids: &[String]) {
    let mut expected: Vec<&String> = ids.iter().collect();
    expected.sort();
    assert_eq!(arrived.journeys.keys().collect::<Vec<_>>(), expected, "{name}");
    for (id, spans) in &arrived.journeys {
        let requests = spans.iter().filter(|span| span.name == sojourn_contract::journey::LLM_REQUEST).count();
        assert_eq!(requests, 1, "{name} has journey {id} more than once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_at_once_each_in_its_own_way() -> Result<()> {
    let (grpc, http, raw) =
        (Receiver::start().await?, Receiver::start_for(Wire::Http).await?, Receiver::start_for(Wire::Http).await?);
    let late = Receiver::start().await?;
    let (grpc_tls, grpc_ca) = Receiver::start_with_tls(Wire::Grpc).await?;
    let (http_tls, http_ca) = Receiver::start_with_tls(Wire::Http).await?;
    let (stranger, _) = Receiver::start_with_tls(Wire::Grpc).await?;
    grpc.require("authorization", "Bearer with-a-newline");
    http.require("x-scope", TRICKY);
    http.require("x-plain", TRICKY);
    raw.require("x-key", TRICKY);
    late.require("authorization", "Bearer came-late");
    let header = |name: &str, key: &str| json!({"name": name, "secretKey": key});
    let raw_configuration =
        json!({"traces_endpoint": format!("{}/v1/traces", raw.url), "headers": {"x-key": {"secretKey": "tricky"}}});
    let destinations = json!([
        {"name": "grpc", "endpoint": grpc.url, "headers": [header("authorization", "newline")]},
        {"name": "http", "endpoint": http.url, "protocol": "http", "headers": [header("x-scope", "tricky"), {"name": "x-plain", "value": TRICKY}]},
        {"name": "grpc-tls", "endpoint": grpc_tls.url, "tls": {"caSecretKey": "grpc-ca"}},
        {"name": "http-tls", "endpoint": format!("{}/v1/traces", http_tls.url), "protocol": "http", "tls": {"caSecretKey": "http-ca"}},
        {"name": "stranger", "endpoint": stranger.url, "tls": {"caSecretKey": "grpc-ca"}},
        {"name": "raw", "exporter": {"type": "otlp_http", "config": raw_configuration}},
        {"name": "late", "endpoint": late.url, "headers": [header("authorization", "late")]},
    ]);
    let mut pod = Plan::of(manifest(destinations))
        .secret("newline", "Bearer with-a-newline\n")
        .secret("tricky", TRICKY)
        .secret("grpc-ca", &grpc_ca)
        .secret("http-ca", &http_ca)
        .supervisor(&["--drain-timeout=2s", "--shutdown-timeout=6s"])
        .start()
        .await?;

    let mut ids = traffic(&pod, 0, 40).await?;
    let mut arrived = [&grpc, &http, &grpc_tls, &http_tls, &raw].map(Harvest::of);
    for arrived in &mut arrived {
        arrived.until("all journeys have come", |arrived| arrived.journeys.len() >= ids.len()).await?;
    }
    let state = pod.until("it says who the stranger is", |state| state.destinations[4].last_error.is_some()).await?;
    let error = state.destinations[4].last_error.clone().unwrap_or_default();
    assert!(error.contains("certificate signed by unknown authority"), "{error}");
    assert_eq!(state.destinations[4].sent_spans, 0);
    assert_eq!(state.destinations[6].missing_keys, ["late"]);
    assert!([0, 1, 2, 3, 5].iter().all(|index| state.destinations[*index].failed_spans == 0), "{state:?}");
    assert_eq!((stranger.requests(), late.requests()), (0, 0));
    let log = pod.sidecar_log()?;
    assert!(!log.contains("with-a-newline") && !log.contains("pa$$word"), "a credential is in the log");

    pod.change_secret("late", Some("Bearer came-late\n"))?;
    pod.until("the late one is in", |state| state.collector.running && state.destinations[6].missing_keys.is_empty()).await?;
    let more = traffic(&pod, ids.len(), 10).await?;
    let mut late_arrived = Harvest::of(&late);
    late_arrived.until("the late one has the newest", |arrived| arrived.journeys.len() >= more.len()).await?;
    ids.extend(more.iter().cloned());
    pod.end().await?;
    for (name, arrived) in ["grpc", "http", "grpc-tls", "http-tls", "raw"].into_iter().zip(&mut arrived) {
        has_exactly(name, arrived.gather()?, &ids);
    }
    has_exactly("late", late_arrived.gather()?, &more);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_away_holds_nobody_up_and_misses_nothing() -> Result<()> {
    away_for(60, Duration::ZERO).await
}

/// Longer than the collector's longest pause between two tries; `SOJOURN_OUTAGE_SECONDS` makes it longer still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: make test-full"]
async fn one_that_is_away_for_long_misses_nothing() -> Result<()> {
    let seconds = match std::env::var("SOJOURN_OUTAGE_SECONDS") {
        Ok(text) => text.parse().with_context(|| format!("SOJOURN_OUTAGE_SECONDS is '{text}', not a number"))?,
        Err(_) => 20,
    };
    away_for(seconds, Duration::from_secs(1)).await
}

/// Of two destinations one is away while so many batches of requests come, one batch each pause.
async fn away_for(batches: usize, pause: Duration) -> Result<()> {
    let (near, away) = (Receiver::start().await?, Receiver::start_for(Wire::Http).await?);
    let destinations = json!([
        {"name": "near", "endpoint": near.url},
        {"name": "away", "endpoint": away.url, "protocol": "http"},
    ]);
    let pod = Plan::of(manifest(destinations)).start().await?;
    pod.until("both have something", |state| state.destinations.iter().all(|destination| destination.sent_spans > 0)).await?;
    let (mut of_near, mut of_away) = (Harvest::of(&near), Harvest::of(&away));
    away.close().await;
    let mut ids = Vec::new();
    for _ in 0..batches {
        ids.extend(many(&pod, 5, 5, plain).await?.into_iter().map(|answer| answer.request_id));
        tokio::time::sleep(pause).await;
    }
    pod.until_exported(ids.len() as u64).await?;
    of_near.until("the near one has all, while the other is away", |arrived| arrived.journeys.len() >= ids.len()).await?;
    pod.until("something waits for the other alone", |state| {
        state.destinations[0].queue_size == 0 && state.destinations[1].queue_size > 0
    })
    .await?;
    assert_eq!(of_away.gather()?.journeys.len(), 0);
    away.open().await?;
    of_away.until("the other has all that waited", |arrived| arrived.journeys.len() >= ids.len()).await?;
    let state = pod.telemetry().await?;
    assert!(state.destinations.iter().all(|destination| destination.failed_spans == 0), "{state:?}");
    assert_eq!(pod.engine_metrics().await?.sum(&metric::JOURNEYS_DROPPED.series(), &[]), 0.0);
    pod.end().await?;
    has_exactly("near", of_near.gather()?, &ids);
    has_exactly("away", of_away.gather()?, &ids);
    Ok(())
}

/// Each of these requests has eight sequences, so that a queue is soon full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_queue_is_full_holds_nobody_up_either_and_what_it_missed_is_counted() -> Result<()> {
    let (near, away) = (Receiver::start().await?, Receiver::start().await?);
    let destinations = json!([{"name": "near", "endpoint": near.url}, {"name": "away", "endpoint": away.url}]);
    let pod = Plan::of(manifest(destinations).with("engine.maxNumSeqs", 32)).start().await?;
    pod.until("both have something", |state| state.destinations.iter().all(|destination| destination.sent_spans > 1)).await?;
    away.close().await;
    let (mut ids, mut of_near) = (Vec::new(), Harvest::of(&near));
    for round in 0.. {
        if pod.destination("away").await?.failed_spans > 0 {
            break;
        }
        assert!(round < 100, "its queue is never full");
        let answers = many(&pod, 50, 8, |index| plain(index).with("n", 8).with("max_tokens", 2)).await?;
        ids.extend(answers.into_iter().map(|answer| answer.request_id));
        of_near.until("the near one has all so far", |arrived| arrived.journeys.len() >= ids.len()).await?;
    }
    away.open().await?;
    pod.until("what waited is through", |state| state.destinations.iter().all(|destination| destination.queue_size == 0))
        .await?;
    pod.until_drained().await?;
    let state = pod.until("all is counted", |state| {
        let [near, away] = &state.destinations[..] else { return false };
        near.sent_spans == away.sent_spans + away.failed_spans
    });
    let state = state.await?;
    assert_eq!(state.destinations[0].failed_spans, 0);
    assert_eq!(pod.engine_metrics().await?.sum(&metric::JOURNEYS_DROPPED.series(), &[]), 0.0);
    pod.end().await?;
    has_exactly("near", of_near.gather()?, &ids);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_destination_at_all_everything_works_and_goes_nowhere() -> Result<()> {
    let mut pod = Plan::of(manifest(json!([]))).start().await?;
    pod.until_up().await?;
    traffic(&pod, 0, 10).await?;
    assert_eq!(pod.engine_metrics().await?.sum(&metric::JOURNEYS_DROPPED.series(), &[]), 0.0);
    let (status, reason, _) = pod.telemetry_ready().await?;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoDestination"));
    pod.end().await
}
