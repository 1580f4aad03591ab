//! What only the real collector can show of its supervisor: whatever becomes of the one, the other says so, and the engine
//! serves.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use sojourn_contract::path;
use sojourn_contract::sidecar::State;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::pod::{Plan, Pod};
use sojourn_e2e::receiver::{Harvest, Manner, Receiver};
use sojourn_e2e::wait::{self, Look};

use crate::traffic::{many, plain};

const PATIENCE: Duration = Duration::from_secs(60);

fn plan(receiver: &Receiver) -> Plan {
    let here = json!({"name": "here", "endpoint": receiver.url});
    Plan::of(Manifest::smollm("smollm").with("engine.maxNumSeqs", 32).with("tracing.destinations", json!([here])))
}

fn signal_collector(pod: &Pod, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(pod.collector_pid()?.cast_signed()), signal)?)
}

/// The engine is ready and answers, whatever its sidecar does.
async fn serves(pod: &Pod) -> Result<()> {
    let ready = reqwest::get(format!("{}{}", pod.url, path::READY)).await?;
    assert!(ready.status().is_success(), "{ready:?}");
    many(pod, 5, 5, plain).await.map(drop)
}

/// A journey that is made now arrives.
async fn arrives(pod: &Pod, arrived: &mut Harvest<'_>) -> Result<()> {
    let id = pod.chat.ask(plain(0), |_| {}).await?.request_id;
    arrived.until("a new journey has come", |arrived| arrived.journeys.contains_key(&id)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_killed_again_and_again_is_started_again() -> Result<()> {
    let receiver = Receiver::start().await?;
    let pod = plan(&receiver).supervisor(&["--backoff=200ms"]).start().await?;
    for killed in 1..=3 {
        pod.until_up().await?;
        signal_collector(&pod, Signal::SIGKILL)?;
        serves(&pod).await?;
        pod.until("it counts the end", |state| state.collector.crashes == killed).await?;
    }
    let state = pod.until_up().await?;
    assert_eq!((state.collector.starts, state.collector.refused.as_ref()), (4, None), "the file is good: it ran");
    assert_eq!(state.collector.last_error.as_deref(), Some("the collector ended with signal SIGKILL"));
    arrives(&pod, &mut Harvest::of(&receiver)).await?;
    pod.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_is_renewed_and_what_came_meanwhile_arrives() -> Result<()> {
    let receiver = Receiver::start().await?;
    let pod = plan(&receiver).supervisor(&["--hang-timeout=3s", "--stop-timeout=1s"]).start().await?;
    pod.until("the start-up trace is through", |state| state.destinations[0].sent_spans > 1).await?;
    signal_collector(&pod, Signal::SIGSTOP)?;
    let ids: Vec<String> = many(&pod, 50, 8, plain).await?.into_iter().map(|answer| answer.request_id).collect();
    serves(&pod).await?;
    let state = pod.until("it is renewed", |state| state.collector.running && state.collector.starts == 2).await?;
    assert_eq!(state.collector.crashes, 1);
    let error = state.collector.last_error.unwrap_or_default();
    assert!(error.contains("did not answer for"), "{error}");
    let mut arrived = Harvest::of(&receiver);
    let all = |arrived: &Harvest<'_>| ids.iter().all(|id| arrived.journeys.contains_key(id));
    arrived.until("what came meanwhile has arrived", all).await?;
    pod.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_near_the_memory_limit_is_renewed_before_the_kernel_kills_it() -> Result<()> {
    const ROOM: u64 = 40 << 20;
    let receiver = Receiver::start().await?;
    let pod = plan(&receiver).start().await?;
    let usual = pod.until("its memory is known", |state| state.collector.running && state.collector.memory_bytes > 0).await?;
    pod.end().await?;

    let limit = format!("--memory-limit-bytes={}", (usual.collector.memory_bytes + ROOM) / 9 * 10);
    receiver.answer(Manner::Hang);
    let pod = plan(&receiver).supervisor(&[&limit, "--shutdown-timeout=3s", "--drain-timeout=1s"]).start().await?;
    pod.until_up().await?;
    let is_renewed = |state: &State| state.collector.starts > 1;
    wait::quietly("it is renewed", PATIENCE, async || {
        many(&pod, 50, 8, |index| plain(index).with("n", 8).with("max_tokens", 2)).await?;
        let state = pod.telemetry().await?;
        Ok(if is_renewed(&state) { Look::Holds(()) } else { Look::NotYet(format!("{limit}: {state:?}")) })
    })
    .await?;
    let state = pod.until("it runs again", |state| state.collector.running && is_renewed(state)).await?;
    assert_eq!(state.collector.crashes, 0, "it was asked to end: {state:?}");
    assert!(state.destinations[0].failed_spans > 0, "what it held is counted as lost: {state:?}");
    let error = state.collector.last_error.unwrap_or_default();
    assert!(error.contains("bytes of memory"), "{error}");
    serves(&pod).await?;
    pod.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_nobody_can_use_leaves_the_collector_alone() -> Result<()> {
    let receiver = Receiver::start().await?;
    let pod = plan(&receiver).supervisor(&["--settle-time=1s"]).start().await?;
    let mut arrived = Harvest::of(&receiver);
    pod.until_up().await?;
    arrives(&pod, &mut arrived).await?;
    pod.mount_configuration("receivers: [")?;
    let state = pod.until("it is refused", |state| state.collector.refused.is_some()).await?;
    assert!(state.collector.running);
    assert_eq!(state.collector.starts, 1, "nobody stopped it");
    arrives(&pod, &mut arrived).await?;

    pod.mount_configuration(
        "receivers: {no_such_receiver: {}}\nservice: {pipelines: {traces: {receivers: [no_such_receiver], exporters: []}}}\n",
    )?;
    let state = pod.until("the one before is back", |state| {
        state.collector.running && state.collector.refused.as_ref().is_some_and(|reason| reason.contains("no_such_receiver"))
    });
    let state = state.await?;
    assert_eq!(state.collector.starts, 3, "the wrong one and the good one");
    arrives(&pod, &mut arrived).await?;
    serves(&pod).await?;
    pod.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_pod_waits_for_a_late_destination_and_loses_nothing() -> Result<()> {
    let receiver = Receiver::start().await?;
    let pod = plan(&receiver).start().await?;
    pod.until("the start-up trace is through", |state| state.destinations[0].sent_spans > 1).await?;
    receiver.answer(Manner::TakeAfter(Duration::from_millis(300)));
    let ids: Vec<String> = many(&pod, 300, 8, plain).await?.into_iter().map(|answer| answer.request_id).collect();
    // At once: the last journeys are still in the engine, others in the collector, others on their way.
    pod.end().await?;
    let mut arrived = Harvest::of(&receiver);
    arrived.gather()?;
    let lost = ids.iter().filter(|id| !arrived.journeys.contains_key(*id)).count();
    assert_eq!(lost, 0, "of {} journeys", ids.len());
    Ok(())
}

/// `end` fails where the supervisor does not end orderly, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_does_not_stop_holds_up_the_end_for_a_bounded_time() -> Result<()> {
    let receiver = Receiver::start().await?;
    receiver.answer(Manner::Hang);
    let pod = plan(&receiver).supervisor(&["--shutdown-timeout=4s"]).start().await?;
    many(&pod, 50, 8, plain).await?;
    pod.until("something waits", |state| state.destinations[0].queue_size > 0).await?;
    signal_collector(&pod, Signal::SIGSTOP)?;
    pod.end().await
}
