//! A collector that cannot run costs no request: the pod is Ready and serves, and the status says what is broken.

use anyhow::Result;
use sojourn_e2e::chat::Question;
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::sandbox::COLLECTOR_IMAGE;

#[tokio::test]
async fn serves_while_the_collector_is_broken() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("collector-broken").await?;
    let manifest = Manifest::smollm("smollm")
        .with("tracing.collector.image", COLLECTOR_IMAGE)
        .with("tracing.collector.command", vec!["/no-such-collector"]);
    let service = namespace.apply(&manifest.yaml()).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    service.reports("TelemetryReady", "CollectorDown", Lab::PATIENCE).await?;

    let (chat, _tunnel) = service.chat().await?;
    for _ in 0..3 {
        assert_eq!(chat.ask(Question::new("Say yes.").with("max_tokens", 4), |_| {}).await?.status, 200);
    }
    assert!(service.pod_is_ready().await?);
    let restarts: i32 = service.containers().await?.containers.iter().map(|(_, restarts, _)| restarts).sum();
    assert_eq!(restarts, 0);
    namespace.delete().await
}
