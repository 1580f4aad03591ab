//! TelemetryReady: each of its reasons, brought about on purpose, read from the real sidecar and judged by the operator.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::pod::{Plan, Pod};
use sojourn_e2e::receiver::{Manner, Receiver, Wire};
use sojourn_e2e::wait::{self, Look};

use crate::traffic::{many, plain};

const PATIENCE: Duration = Duration::from_secs(60);

fn plan(destination: Value) -> Plan {
    let manifest = Manifest::smollm("smollm").with("tracing.destinations", json!([destination]));
    // What waits for a destination that never takes it is not waited for.
    Plan::of(manifest).supervisor(&["--shutdown-timeout=3s"])
}

fn to(receiver: &Receiver, wire: Wire) -> Value {
    let protocol = if wire == Wire::Grpc { "grpc" } else { "http" };
    json!({"name": "here", "endpoint": receiver.url, "protocol": protocol})
}

/// Asks as the operator does until the condition has this reason; a little traffic goes on where that is told. The message.
async fn becomes(pod: &mut Pod, status: &str, reason: &str, with_traffic: bool) -> Result<String> {
    wait::quietly(&format!("TelemetryReady is {reason}"), PATIENCE, async || {
        if with_traffic {
            many(pod, 2, 2, plain).await?;
        }
        let (found, why, message) = pod.telemetry_ready().await?;
        let is_so = (found.as_str(), why.as_str()) == (status, reason);
        Ok(if is_so { Look::Holds(message) } else { Look::NotYet(format!("{found} {why}: {message}")) })
    })
    .await
}

/// Starts a pod, waits for the reason, and ends it; what the message must say.
async fn is_so(plan: Plan, status: &str, reason: &str, with_traffic: bool, said: &str) -> Result<()> {
    let mut pod = plan.start().await?;
    let message = becomes(&mut pod, status, reason, with_traffic).await?;
    assert!(message.contains(said), "{reason}: {message}");
    assert_eq!(pod.chat.ask(plain(0), |_| {}).await?.status, 200, "the engine serves all the same");
    pod.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_true_without_traffic_and_after_the_collector_was_killed() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut pod = plan(to(&receiver, Wire::Grpc)).start().await?;
    becomes(&mut pod, "True", "Exporting", false).await?;
    many(&pod, 20, 4, plain).await?;
    pod.until_exported(20).await?;
    let before = pod.until("all was sent", |state| state.destinations[0].queue_size == 0).await?.destinations[0].sent_spans;
    kill(Pid::from_raw(pod.collector_pid()?.cast_signed()), Signal::SIGKILL)?;
    let state = pod.until("another collector has sent its probe", |state| {
        state.collector.starts == 2 && state.destinations[0].sent_spans > before
    });
    let state = state.await?;
    assert_eq!(state.destinations[0].failed_spans, 0, "its counters began anew, and nothing was lost: {state:?}");
    becomes(&mut pod, "True", "Exporting", false).await?;

    // A supervisor that cannot be asked is no verdict on the telemetry.
    let supervisor = Pid::from_raw(pod.supervisor_pid()?.cast_signed());
    kill(supervisor, Signal::SIGSTOP)?;
    let (status, reason, message) = pod.telemetry_ready().await?;
    kill(supervisor, Signal::SIGCONT)?;
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Unknown"));
    assert!(message.contains("cannot be asked"), "{message}");
    becomes(&mut pod, "True", "Exporting", false).await?;
    pod.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_says_no_is_named_as_refusing() -> Result<()> {
    let (grpc, http) = (Receiver::start().await?, Receiver::start_for(Wire::Http).await?);
    let (stranger, _) = Receiver::start_with_tls(Wire::Grpc).await?;
    grpc.require("authorization", "Bearer nobody-knows");
    http.require("authorization", "Bearer nobody-knows");
    let keyless = json!({"name": "here", "endpoint": grpc.url, "headers": [{"name": "authorization", "secretKey": "tempo"}]});
    tokio::try_join!(
        is_so(plan(to(&grpc, Wire::Grpc)), "False", "DestinationRefused", false, "Unauthenticated"),
        is_so(plan(to(&http, Wire::Http)), "False", "DestinationRefused", false, "401"),
        is_so(plan(to(&stranger, Wire::Grpc)), "False", "DestinationRefused", false, "x509"),
        is_so(plan(keyless), "False", "DestinationRefused", false, "lacks tempo"),
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_not_there_is_named_as_unreachable() -> Result<()> {
    let (closed, hanging, unavailable) = (Receiver::start().await?, Receiver::start().await?, Receiver::start().await?);
    closed.close().await;
    hanging.answer(Manner::Hang);
    unavailable.answer(Manner::Unavailable);
    let nowhere = json!({"name": "here", "endpoint": "http://no-such-host.invalid:4317"});
    tokio::try_join!(
        is_so(plan(to(&closed, Wire::Grpc)), "False", "DestinationUnreachable", false, "refused"),
        is_so(plan(to(&hanging, Wire::Grpc)), "False", "DestinationUnreachable", false, "deadline"),
        is_so(plan(to(&unavailable, Wire::Grpc)), "False", "DestinationUnreachable", false, "not now"),
        is_so(plan(nowhere), "False", "DestinationUnreachable", false, "has no address"),
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_throws_spans_away_is_named_as_dropping() -> Result<()> {
    let (partial, partial_http, exhausted) =
        (Receiver::start().await?, Receiver::start_for(Wire::Http).await?, Receiver::start().await?);
    partial.answer(Manner::TakeAllBut(3));
    partial_http.answer(Manner::TakeAllBut(3));
    exhausted.answer(Manner::Exhausted);
    tokio::try_join!(
        is_so(plan(to(&partial, Wire::Grpc)), "False", "Dropping", true, "not to our liking"),
        is_so(plan(to(&partial_http, Wire::Http)), "False", "Dropping", true, "not to our liking"),
        is_so(plan(to(&exhausted, Wire::Grpc)), "False", "Dropping", true, "no room"),
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_too_slow_is_named_by_its_queue() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut pod = plan(to(&receiver, Wire::Grpc)).start().await?;
    becomes(&mut pod, "True", "Exporting", false).await?;
    receiver.answer(Manner::TakeAfter(Duration::from_secs(4)));
    let message = wait::quietly("TelemetryReady is QueueGrowing", PATIENCE, async || {
        many(&pod, 100, 8, |index| plain(index).with("n", 8).with("max_tokens", 2)).await?;
        let (_, reason, message) = pod.telemetry_ready().await?;
        Ok(if reason == "QueueGrowing" { Look::Holds(message) } else { Look::NotYet(format!("{reason}: {message}")) })
    });
    assert!(message.await?.contains("too slowly"));
    receiver.answer(Manner::Take);
    becomes(&mut pod, "True", "Exporting", false).await?;
    pod.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_gone_is_named_and_so_is_how_it_went() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut pod = plan(to(&receiver, Wire::Grpc)).supervisor(&["--backoff=60s"]).start().await?;
    becomes(&mut pod, "True", "Exporting", false).await?;
    kill(Pid::from_raw(pod.collector_pid()?.cast_signed()), Signal::SIGKILL)?;
    let message = becomes(&mut pod, "False", "CollectorDown", false).await?;
    assert!(message.contains("pod smollm-0") && message.contains("SIGKILL"), "{message}");
    assert_eq!(pod.chat.ask(plain(0), |_| {}).await?.status, 200);
    pod.end().await
}
