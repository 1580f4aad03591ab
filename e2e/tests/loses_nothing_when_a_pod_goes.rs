//! A pod that is deleted in the middle of its work takes no journey with it, also where the destination answers late: what
//! was answered is there, and so is what the drain had to cut off. `SOJOURN_ROUNDS` pods go, one after another.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use sojourn_contract::attribute;
use sojourn_contract::journey::{AbortReason, LLM_CORE, LLM_REQUEST, Outcome};
use sojourn_e2e::chat::Question;
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::receiver::{Harvest, Manner, Receiver};
use sojourn_e2e::service::Service;
use sojourn_journey::check::check;
use sojourn_journey::trace::{Span, Trace};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const ROUNDS: u32 = 3;
/// How late the destination answers each export.
const LATE: Duration = Duration::from_millis(300);
/// Tokens of the streams that run when the pod is deleted, begun in this order: the last ones end while it goes on serving,
/// others while it drains, and the first have more to say than the drain waits for.
const STREAMS: [u32; 8] = [1900, 1900, 120, 96, 72, 60, 50, 40];

#[tokio::test]
async fn loses_nothing_when_a_pod_goes() -> Result<()> {
    let rounds = match std::env::var("SOJOURN_ROUNDS") {
        Ok(text) => text.parse().with_context(|| format!("SOJOURN_ROUNDS is '{text}', not a number"))?,
        Err(_) => ROUNDS,
    };
    let lab = Lab::open().await?;
    let namespace = lab.namespace("loses-nothing").await?;
    let late = Receiver::start_on(lab.cluster.host_address()).await?;
    late.answer(Manner::TakeAfter(LATE));
    let manifest = Manifest::smollm("smollm")
        .with("tracing.destinations", json!([{"name": "late", "endpoint": late.url}]))
        .with("tracing.sampling.rate", "100%")
        .with("engine.maxNumSeqs", STREAMS.len())
        .with("drain.timeout", "5s");
    let service = namespace.apply(&manifest.yaml()).await?;
    let mut arrived = Harvest::of(&late);
    let mut pod = None;
    for round in 1..=rounds {
        let next = service.next_pod(pod.as_ref(), Lab::PATIENCE).await?;
        delete_in_the_middle(&service, &next, round, &mut arrived).await.with_context(|| format!("round {round}"))?;
        pod = Some(next);
    }
    namespace.delete().await
}

/// Deletes a pod while it answers, and looks at what came of each request.
async fn delete_in_the_middle(service: &Service, pod: &Pod, round: u32, arrived: &mut Harvest<'_>) -> Result<()> {
    let (chat, _tunnel) = service.chat_with(pod).await?;
    let chat = std::sync::Arc::new(chat);
    let (began, mut beginnings) = mpsc::channel::<()>(1);
    let mut streams = JoinSet::new();
    for (index, tokens) in STREAMS.into_iter().enumerate() {
        let (chat, began, id) = (chat.clone(), began.clone(), format!("round-{round}-stream-{index}"));
        let question = Question::new(&format!("Tell me story number {index}."))
            .with("max_tokens", tokens)
            .with("ignore_eos", true)
            .streaming()
            .identified(&id);
        streams.spawn(async move {
            let mut began = Some(began);
            let answer = chat.ask(question, |_| drop(began.take())).await;
            (id, answer)
        });
    }
    drop(began);
    // Ends when each stream has let go of its end, with its first token.
    ensure!(beginnings.recv().await.is_none());
    ensure!(streams.try_join_next().is_none(), "a stream ended before the pod was deleted");
    service.delete_pod(pod).await?;
    let ended = streams.join_all().await;
    service.pod_is_gone(pod, Lab::PATIENCE).await?;

    // Nobody is left who could send anything: what is not here by now is lost.
    arrived.gather()?;
    let (mut finished, mut cut) = (0, 0);
    for (id, answer) in &ended {
        let answer = answer.as_ref().map_err(|error| anyhow::anyhow!("{id} has no end: {error:#}"))?;
        let expected = match answer.error {
            None => (Some(Outcome::Ok.as_str()), None),
            Some(_) => (Some(Outcome::Error.as_str()), Some(AbortReason::Shutdown.as_str())),
        };
        let request = whole(arrived, id)?;
        let told = (request.attributes.text(attribute::OUTCOME), request.attributes.text(attribute::ABORT_REASON));
        ensure!(told == expected, "{id} is told as {told:?}: {answer:?}");
        *if answer.error.is_none() { &mut finished } else { &mut cut } += 1;
    }
    ensure!(finished > 0 && cut > 0, "{finished} streams were answered while the pod went and {cut} cut off: {ended:?}");
    Ok(())
}

/// The request's span of a journey that is there whole: both spans, once, and legal.
fn whole<'a>(arrived: &'a Harvest<'_>, id: &str) -> Result<&'a Span> {
    let spans = arrived.journeys.get(id).with_context(|| format!("{id} is lost"))?;
    for name in [LLM_REQUEST, LLM_CORE] {
        let count = spans.iter().filter(|span| span.name == name).count();
        ensure!(count == 1, "{id} has {count} spans {name}");
    }
    let report = check(&Trace { spans: spans.clone() });
    ensure!(report.is_legal(), "{id}: {report}");
    spans.iter().find(|span| span.name == LLM_REQUEST).context("it was counted")
}
