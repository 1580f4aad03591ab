//! Everything of `spec.tracing` that is hot, changed under traffic: in effect without a restart of engine or supervisor, and
//! without a journey lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::json;
use sojourn_contract::attribute;
use sojourn_contract::journey::{ENGINE_STARTUP, SIDECAR_PROBE};
use sojourn_contract::sidecar::State;
use sojourn_e2e::chat::Question;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::pod::{Plan, Pod};
use sojourn_e2e::receiver::{Harvest, Manner, Receiver, Wire};
use sojourn_journey::trace::Span;
use tokio::task::JoinHandle;

use crate::traffic::{many, plain};

/// A client that asks one question after the other.
struct Traffic {
    is_over: Arc<AtomicBool>,
    ids: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<Result<()>>,
}

impl Traffic {
    fn start(pod: &Pod) -> Self {
        let (is_over, ids) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (over, seen, chat) = (is_over.clone(), ids.clone(), pod.chat.clone());
        let task = tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let answer = chat.ask(Question::new("hello").with("max_tokens", 4), |_| {}).await?;
                anyhow::ensure!(answer.status == 200, "{answer:?}");
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(answer.request_id);
            }
            Ok(())
        });
        Self { is_over, ids, task }
    }

    async fn stop(self) -> Result<Vec<String>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn newest(arrived: &Harvest<'_>) -> Option<Span> {
    arrived.order.last().map(|id| arrived.journeys[id][0].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn destinations_attributes_and_keys_change_under_traffic_without_a_loss() -> Result<()> {
    let (first, second) = (Receiver::start().await?, Receiver::start_for(Wire::Http).await?);
    let destination =
        json!({"name": "first", "endpoint": first.url, "headers": [{"name": "authorization", "secretKey": "key"}]});
    let manifest = Manifest::smollm("smollm").with("tracing.destinations", json!([destination]));
    // Twelve milliseconds an answer: journeys are in flight all the time, and are not too many.
    let plan = Plan::of(manifest.clone()).model("scripted:batch=8,block=16,blocks=65536,length=8,step_ms=3");
    let mut pod = plan.secret("key", "old").start().await?;
    pod.until_up().await?;
    let processes = (pod.engine_pid()?, pod.supervisor_pid()?);
    let traffic = Traffic::start(&pod);
    let (mut of_first, mut of_second) = (Harvest::of(&first), Harvest::of(&second));
    of_first.until("journeys come", |arrived| arrived.journeys.len() > 10).await?;

    let manifest = manifest.with("tracing.resourceAttributes", json!({"team": "search $HOME"}));
    pod.apply(manifest.clone())?;
    pod.until_in_effect().await?;
    let is_of_team =
        |arrived: &Harvest<'_>| newest(arrived).is_some_and(|span| span.resource.text("team") == Some("search $HOME"));
    of_first.until("the new attribute is there", is_of_team).await?;

    let other = json!({"name": "second", "endpoint": second.url, "protocol": "http"});
    let manifest = manifest.with("tracing.destinations", json!([destination, other]));
    pod.apply(manifest)?;
    pod.until_in_effect().await?;
    of_second.until("the new destination has journeys", |arrived| arrived.journeys.len() > 10).await?;

    let starts = pod.telemetry().await?.collector.starts;
    pod.change_secret("key", Some("new\n"))?;
    pod.until("the new key is in effect", |state| state.collector.running && state.collector.starts > starts).await?;
    first.require("authorization", "new");
    let before = of_first.gather()?.journeys.len();
    of_first.until("journeys come with the new key", |arrived| arrived.journeys.len() > before + 10).await?;

    let ids = traffic.stop().await?;
    pod.until_exported(ids.len() as u64).await?;
    let state = pod.telemetry().await?;
    assert_eq!((state.collector.starts, state.collector.crashes), (4, 0));
    assert!(state.destinations.iter().all(|destination| destination.failed_spans == 0), "{state:?}");
    assert_eq!((pod.engine_pid()?, pod.supervisor_pid()?), processes);
    pod.end().await?;
    let lost: Vec<&String> = ids.iter().filter(|id| !of_first.journeys.contains_key(*id)).collect();
    of_first.gather()?;
    let lost: Vec<&String> = lost.into_iter().filter(|id| !of_first.journeys.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} journeys are lost", lost.len(), ids.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampling_changes_and_a_file_that_is_refused_changes_nothing() -> Result<()> {
    let receiver = Receiver::start().await?;
    let here = json!({"name": "here", "endpoint": receiver.url});
    let all = Manifest::smollm("smollm").with("tracing.destinations", json!([here]));
    let errors = all.clone().with("tracing.sampling", json!({"rate": "0%", "parents": "Ignore"}));
    let mut pod = Plan::of(all.clone()).supervisor(&["--settle-time=1s"]).start().await?;
    pod.until_up().await?;
    let processes = (pod.engine_pid()?, pod.supervisor_pid()?);
    let mut arrived = Harvest::of(&receiver);
    let mut expected = Vec::new();
    let mut requests = 0;
    for (manifest, is_kept) in [(&all, true), (&errors, false), (&all, true), (&errors, false)] {
        pod.apply(manifest.clone())?;
        pod.until_in_effect().await?;
        let (fine, failed) = pair(&pod).await?;
        requests += 2;
        // Both ways out are empty before the next change, so that each is judged by the policy that it was made under.
        pod.until_exported(requests).await?;
        expected.push(failed);
        expected.extend(is_kept.then_some(fine));
    }

    for (wrong, said) in [
        (json!({"type": "no_such_exporter", "config": {}}), "no_such_exporter"),
        (json!({"type": "file", "config": {"path": "/no/such/directory/file"}}), "no such file"),
    ] {
        let good = pod.until("the one before has settled", |state| state.collector.running).await?.collector.revision;
        pod.apply(errors.clone().with("tracing.destinations", json!([here, {"name": "odd", "exporter": wrong}])))?;
        let is_refused = |state: &State| state.collector.refused.as_ref().is_some_and(|refused| refused.contains(said));
        let state = pod.until("it is refused", |state| state.collector.running && is_refused(state)).await?;
        assert_eq!(state.collector.revision, good);
        let (status, reason, message) = pod.telemetry_ready().await?;
        assert_eq!((status.as_str(), reason.as_str()), ("False", "ConfigurationRefused"), "{message}");
        let (_, failed) = pair(&pod).await?;
        requests += 2;
        expected.push(failed);
        pod.until_exported(requests).await?;
    }
    assert_eq!((pod.engine_pid()?, pod.supervisor_pid()?), processes);
    pod.end().await?;
    expected.sort();
    assert_eq!(arrived.gather()?.journeys.keys().cloned().collect::<Vec<_>>(), expected);
    Ok(())
}

/// One request that no rule names, and one that fails: their ids.
async fn pair(pod: &Pod) -> Result<(String, String)> {
    let fine = pod.chat.ask(plain(0), |_| {}).await?;
    let failed = pod.chat.ask(Question::new("[fail]"), |_| {}).await?;
    assert_eq!((fine.status, failed.status), (200, 500));
    Ok((fine.request_id, failed.request_id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_while_one_destination_refuses_connections_loses_what_that_one_lacks_and_says_so() -> Result<()> {
    change_beside_a_dead_one(async |receiver| receiver.close().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_while_one_destination_hangs_loses_what_that_one_lacks_and_says_so() -> Result<()> {
    change_beside_a_dead_one(async |receiver| receiver.answer(Manner::Hang)).await
}

/// The bound of a minute is one of two seconds here.
async fn change_beside_a_dead_one(kill: impl AsyncFn(&Receiver)) -> Result<()> {
    const REQUESTS: usize = 200;
    let (near, dead) = (Receiver::start().await?, Receiver::start().await?);
    let manifest = Manifest::smollm("smollm")
        .with("tracing.destinations", json!([{"name": "near", "endpoint": near.url}, {"name": "dead", "endpoint": dead.url}]));
    let plan = Plan::of(manifest.clone()).supervisor(&["--drain-timeout=2s", "--shutdown-timeout=6s"]);
    let mut pod = plan.start().await?;
    let (mut of_near, mut of_dead) = (Harvest::of(&near), Harvest::of(&dead));
    for arrived in [&mut of_near, &mut of_dead] {
        let has = |arrived: &Harvest<'_>, name: &str| arrived.others.iter().any(|span| span.name == name);
        let has_both = |arrived: &Harvest<'_>| has(arrived, SIDECAR_PROBE) && has(arrived, ENGINE_STARTUP);
        arrived.until("the probe and the start-up trace have come", has_both).await?;
    }
    kill(&dead).await;
    let ids: Vec<String> = many(&pod, REQUESTS, 4, plain).await?.into_iter().map(|answer| answer.request_id).collect();
    of_near.until("the near one has all", |arrived| arrived.journeys.len() >= REQUESTS).await?;
    pod.until_exported(REQUESTS as u64).await?;
    let before = pod.until("all waits for the dead one", |state| state.destinations[1].queue_size > 0).await?;

    pod.apply(manifest.with("tracing.resourceAttributes", json!({"team": "search"})))?;
    let state = pod.until_in_effect().await?;
    let [near_now, dead_now] = &state.destinations[..] else { anyhow::bail!("{state:?}") };
    assert_eq!(near_now.failed_spans, 0);
    let spans: u64 = of_near.journeys.values().map(|spans| spans.len() as u64).sum();
    assert_eq!(dead_now.failed_spans, spans, "what is given up is said: {before:?}");

    dead.answer(Manner::Take);
    dead.close().await;
    dead.open().await?;
    let more: Vec<String> = many(&pod, 20, 4, plain).await?.into_iter().map(|answer| answer.request_id).collect();
    of_dead.until("the dead one is back", |arrived| arrived.journeys.len() >= more.len()).await?;
    pod.end().await?;
    of_near.gather()?;
    of_dead.gather()?;
    let has = |arrived: &Harvest<'_>, ids: &[String]| ids.iter().all(|id| arrived.journeys.contains_key(id));
    assert!(has(&of_near, &ids) && has(&of_near, &more), "the near one has all");
    assert!(has(&of_dead, &more), "the dead one has what came after it");
    let late = newest(&of_dead).and_then(|span| span.resource.text("team").map(str::to_owned));
    assert_eq!(late.as_deref(), Some("search"));
    assert!(of_dead.journeys.values().flatten().all(|span| span.attributes.text(attribute::KEPT_BY).is_some()));
    Ok(())
}
