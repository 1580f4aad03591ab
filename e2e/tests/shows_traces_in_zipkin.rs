//! A collector of the user's own: one thirteen versions older than ours, which has an exporter that ours lacks, samples by
//! the same rules and sends to a Zipkin whose page shows where a preempted request's time went. The picture of the page is
//! left in the target directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use sojourn_contract::attribute;
use sojourn_contract::journey::{LLM_CORE, LLM_REQUEST};
use sojourn_e2e::browser;
use sojourn_e2e::chat::{Answer, Chat, Question};
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::sandbox::{Progress, Sandbox};
use sojourn_e2e::wait::{self, Look};
use sojourn_e2e::zipkin::Zipkin;
use tokio::sync::oneshot;

#[tokio::test]
async fn shows_traces_in_zipkin() -> Result<()> {
    let (lab, sandbox, progress) = (Lab::open().await?, Sandbox::from_environment()?, Progress::new());
    lab.cluster.load_image(&sandbox.zipkin_collector(&progress).await?).await?;
    let zipkin = Zipkin::start(&sandbox.zipkin(&progress).await?, lab.cluster.host_address()).await?;
    let namespace = lab.namespace("zipkin").await?;
    let manifest = Manifest::smollm("smollm")
        .with("engine.maxNumSeqs", 1)
        .with("engine.schedulingPolicy", "priority")
        .with("tracing", zipkin.tracing())
        .with("tracing.sampling.rate", "0%");
    let service = namespace.apply(&manifest.yaml()).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    service.becomes("TelemetryReady", Lab::PATIENCE, |_| {}).await?;

    let (chat, _tunnel) = service.chat().await?;
    let chat = Arc::new(chat);
    let (evicted, urgent) = preempt(&chat).await?;
    let spans = spans(&zipkin, &evicted.trace_id).await?;
    let request = spans.iter().find(|span| span["name"] == LLM_REQUEST).context("the request's span is there")?;
    assert_eq!(request["tags"][attribute::KEPT_BY], "preempted", "{request}");
    assert_eq!(request["tags"][attribute::REQUEST_ID], evicted.request_id, "{request}");
    assert!(spans.iter().all(|span| span["tags"].get(attribute::SAMPLING_PRIORITY).is_none()), "{spans:?}");
    // What ended before it took the same way and would be there by now.
    assert!(zipkin.spans(&urgent.trace_id).await?.is_empty(), "a fine request is dropped at rate 0 %");

    let page = zipkin.page_of(&evicted.trace_id);
    let document = browser::document(&page).await?;
    for words in [LLM_REQUEST, LLM_CORE, "preempted", "smollm"] {
        assert!(document.contains(words), "{words} is not on the page:\n{document}");
    }
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("zipkin.png");
    browser::screenshot(&page, &picture).await?;
    namespace.delete().await
}

/// A long request and, once it decodes, an urgent one that takes its place for a while.
async fn preempt(chat: &Arc<Chat>) -> Result<(Answer, Answer)> {
    let (began, begun) = oneshot::channel();
    let long = Question::new("Tell me a long story.").with("max_tokens", 120).with("ignore_eos", true).with("priority", 10);
    let evicted = tokio::spawn({
        let (chat, mut began) = (chat.clone(), Some(began));
        let tell = move |_: &str| {
            if let Some(began) = began.take() {
                began.send(()).ok();
            }
        };
        async move { chat.ask(long.streaming(), tell).await }
    });
    begun.await.context("the long request has no first token")?;
    let urgent = chat.ask(Question::new("Say yes.").with("max_tokens", 8).with("priority", 0), |_| {}).await?;
    Ok((evicted.await??, urgent))
}

/// Waits until a trace has both spans of its journey.
async fn spans(zipkin: &Zipkin, trace_id: &str) -> Result<Vec<Value>> {
    wait::quietly("the trace is in Zipkin", Duration::from_secs(60), async || {
        let spans = zipkin.spans(trace_id).await?;
        let is_whole = [LLM_REQUEST, LLM_CORE].iter().all(|name| spans.iter().any(|span| span["name"] == *name));
        Ok(if is_whole { Look::Holds(spans) } else { Look::NotYet(format!("{} spans", spans.len())) })
    })
    .await
}
