//! A destination that takes nothing, at a thousand journeys a second: memory is bounded, and what has no room is counted.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sojourn_contract::metric::{self, label};
use sojourn_e2e::bench::open_loop::{Answers, open_loop};
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::pod::{Plan, Pod};
use sojourn_e2e::process::resident_kib;
use sojourn_e2e::receiver::{Harvest, Manner, Receiver};

const RATE: u32 = 1_000;
const LOAD: Duration = Duration::from_secs(12);
/// Pause between two looks at the memory.
const LOOK: Duration = Duration::from_millis(100);
/// The collector's container may have this much, by default.
const LIMIT_KIB: f64 = 256.0 * 1024.0;
/// What the engine may use in all: its export queue of 64 MiB, and itself.
const ENGINE_KIB: f64 = 256.0 * 1024.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_what_has_no_room_is_counted() -> Result<()> {
    let receiver = Receiver::start().await?;
    let pod = start(&receiver).await?;
    pod.until("the start-up trace is through", |state| state.destinations[0].sent_spans > 1).await?;
    receiver.answer(Manner::Hang);
    let (answers, sidecar_kib, engine_kib) = load(&pod).await?;
    assert_eq!(answers.failed, 0, "every request is answered");
    assert!(sidecar_kib < LIMIT_KIB, "supervisor and collector used {sidecar_kib} KiB");
    assert!(engine_kib < ENGINE_KIB, "the engine used {engine_kib} KiB");

    let state = pod.until("it says what had no room", |state| state.destinations[0].failed_spans > 0).await?;
    assert_eq!((state.collector.starts, state.collector.crashes), (1, 0), "it was not renewed for its memory");
    let error = state.destinations[0].last_error.clone().unwrap_or_default();
    assert!(error.contains("queue is full") || error.contains("deadline exceeded"), "{error}");
    let here = [(label::DESTINATION, "here")];
    assert!(pod.sidecar_metrics().await?.sum(&metric::sidecar::FAILED_SPANS.series(), &here) > 0.0);
    assert!(pod.engine_metrics().await?.sum(&metric::JOURNEYS_DROPPED.series(), &[]) > 0.0);

    receiver.answer(Manner::Take);
    let requests = answers.requests() as u64;
    pod.until_exported(requests).await?;
    let page = pod.engine_metrics().await?;
    let count = |metric: metric::Metric| page.sum(&metric.series(), &[]) as u64;
    let (exported, dropped) = (count(metric::JOURNEYS_EXPORTED), count(metric::JOURNEYS_DROPPED));
    assert_eq!(exported + dropped, requests, "each journey is counted once");
    pod.until_drained().await?;
    pod.end().await?;
    let mut arrived = Harvest::of(&receiver);
    arrived.gather()?;
    assert_eq!(arrived.journeys.len() as u64, exported, "what the engine counts as exported arrives, and nothing else");
    Ok(())
}

async fn start(receiver: &Receiver) -> Result<Pod> {
    let environment = json!([
        {"name": "OTEL_BSP_MAX_QUEUE_SIZE", "value": "2048"},
        {"name": "OTEL_BSP_EXPORT_TIMEOUT", "value": "2000"},
    ]);
    let manifest = Manifest::smollm("smollm")
        .with("engine.maxNumSeqs", 64)
        .with("tracing.destinations", json!([{"name": "here", "endpoint": receiver.url}]))
        .with("podTemplate", json!({"spec": {"containers": [{"name": "main", "env": environment}]}}));
    Plan::of(manifest).model("scripted:batch=64,block=16,blocks=65536,length=8").start().await
}

/// Asks, and watches the memory of the sidecar's two processes and of the engine meanwhile; their peaks in KiB.
async fn load(pod: &Pod) -> Result<(Answers, f64, f64)> {
    let mut load = std::pin::pin!(open_loop(&pod.url, RATE, LOAD, 1));
    let (mut sidecar, mut engine) = (0.0_f64, 0.0_f64);
    loop {
        tokio::select! {
            answers = &mut load => return Ok((answers?, sidecar, engine)),
            () = tokio::time::sleep(LOOK) => {
                sidecar = sidecar.max(resident_kib(pod.supervisor_pid()?)? + resident_kib(pod.collector_pid()?)?);
                engine = engine.max(resident_kib(pod.engine_pid()?)?);
            }
        }
    }
}
