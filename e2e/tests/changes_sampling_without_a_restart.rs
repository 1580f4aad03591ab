//! A new sampling policy takes effect in a running pod; a file that the collector refuses leaves the old one working.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sojourn_e2e::chat::{Caller, Question};
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::service::Service;
use sojourn_e2e::wait::{self, Look};

#[tokio::test]
async fn changes_sampling_without_a_restart() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("changes-sampling").await?;
    let manifest = Manifest::smollm("smollm")
        .with("tracing.sampling.parents", "Ignore")
        .with("engine.extraArgs", vec!["--request-timeout", "3"]);
    let service = namespace.apply(&manifest.yaml()).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    let (chat, _tunnel) = service.chat().await?;
    let fine = || Question::new("Say yes.").with("max_tokens", 4);
    let before = service.containers().await?;

    let kept = Caller::new(true);
    chat.ask(fine().within(&kept), |_| {}).await?;
    lab.jaeger.trace(&kept.trace_id, 1).await?;

    let old = service.telemetry().await?.collector.revision;
    service.change(json!({"tracing": {"sampling": {"rate": "0%"}}})).await?;
    in_effect(&service, &old).await?;
    let (dropped, failed) = (Caller::new(true), Caller::new(true));
    chat.ask(fine().within(&dropped), |_| {}).await?;
    let long = Question::new("Write a long story.").with("max_tokens", 1500).with("ignore_eos", true);
    chat.ask(long.within(&failed), |_| {}).await?;
    lab.jaeger.trace(&failed.trace_id, 1).await?;
    assert!(lab.jaeger.find(&dropped.trace_id).await?.is_none(), "dropped under the new policy");

    service
        .change(json!({"tracing": {"destinations": [{"name": "odd", "exporter": {"type": "no_such_exporter", "config": {}}}]}}))
        .await?;
    let refused = refused(&service).await?;
    assert!(refused.contains("no_such_exporter"), "{refused}");
    assert_eq!(chat.ask(fine(), |_| {}).await?.status, 200);
    assert!(service.pod_is_ready().await?);

    assert_eq!(service.containers().await?, before, "no container restarted");
    namespace.delete().await
}

/// Waits until the sidecar runs another file than `old`.
async fn in_effect(service: &Service, old: &str) -> Result<()> {
    wait::quietly("the new policy is in effect", Duration::from_secs(120), || async {
        let collector = service.telemetry().await?.collector;
        let changed = collector.running && collector.revision != old;
        Ok(if changed { Look::Holds(()) } else { Look::NotYet(format!("{collector:?}")) })
    })
    .await
}

/// Waits until the sidecar says that it went back, and that the old collector works again.
async fn refused(service: &Service) -> Result<String> {
    wait::quietly("the wrong file is refused", Duration::from_secs(120), || async {
        let collector = service.telemetry().await?.collector;
        Ok(match &collector.refused {
            Some(reason) if collector.running => Look::Holds(reason.clone()),
            _ => Look::NotYet(format!("{collector:?}")),
        })
    })
    .await
}
