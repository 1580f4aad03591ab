//! Sampling by outcome, per request: at rate 0 % a failed request is kept and a fine one is not, also within one trace.

use anyhow::Result;
use sojourn_contract::{attribute, journey};
use sojourn_e2e::chat::{Caller, Question};
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;

#[tokio::test]
async fn keeps_errors_and_drops_the_rest_at_rate_zero() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("keeps-errors").await?;
    let manifest = Manifest::smollm("smollm")
        .with("tracing.sampling.rate", "0%")
        .with("tracing.sampling.parents", "Ignore")
        .with("tracing.sampling.keep.errors", true)
        .with("engine.extraArgs", vec!["--request-timeout", "3"]);
    let service = namespace.apply(&manifest.yaml()).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    let (chat, _tunnel) = service.chat().await?;
    let fine = || Question::new("Say yes.").with("max_tokens", 4);
    let too_long = || Question::new("Write a long story.").with("max_tokens", 1500).with("ignore_eos", true);

    let (dropped, shared) = (Caller::new(true), Caller::new(true));
    assert_eq!(chat.ask(fine().within(&dropped), |_| {}).await?.status, 200);
    assert_eq!(chat.ask(fine().within(&shared), |_| {}).await?.status, 200);
    let failed = chat.ask(too_long().within(&shared), |_| {}).await?;
    assert!(failed.status >= 500, "the request ran into its time limit: {failed:?}");

    let trace = lab.jaeger.trace(&shared.trace_id, 1).await?;
    let journeys: Vec<_> = trace.spans.iter().filter(|span| span.name == journey::LLM_REQUEST).collect();
    assert_eq!(journeys.len(), 1, "the fine request of the same trace is dropped");
    assert_eq!(journeys[0].attributes.text(attribute::OUTCOME), Some("error"));
    assert_eq!(journeys[0].attributes.text(attribute::KEPT_BY), Some("error"));
    assert_eq!(journeys[0].attributes.text(attribute::REQUEST_ID), Some(failed.request_id.as_str()));
    // What was sent before it took the same way and would be there by now.
    assert!(lab.jaeger.find(&dropped.trace_id).await?.is_none());
    namespace.delete().await
}
