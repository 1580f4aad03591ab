//! The status names what keeps a service from serving, in words that somebody can act on.

use anyhow::Result;
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::sandbox::COLLECTOR_IMAGE;

#[tokio::test]
async fn names_a_model_that_is_not_there() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("no-such-model").await?;
    let service = namespace.apply(&Manifest::smollm("lost").with("model.uri", "pvc://models/lost.gguf").yaml()).await?;
    let condition = service.reports("Ready", "ModelNotFound", Lab::PATIENCE).await?;
    assert!(condition.message.contains("lost.gguf"), "{}", condition.message);
    namespace.delete().await
}

#[tokio::test]
async fn names_the_gpu_that_no_node_has() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("no-gpu").await?;
    let service = namespace.apply(&Manifest::smollm("fast").with("gpu.count", 1).yaml()).await?;
    let condition = service.reports("Ready", "WaitingForGPU", Lab::PATIENCE).await?;
    assert!(condition.message.contains("nvidia.com/gpu"), "{}", condition.message);
    namespace.delete().await
}

#[tokio::test]
async fn names_a_collector_image_that_cannot_be_pulled() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("no-collector-image").await?;
    let image = format!("{COLLECTOR_IMAGE}-lost");
    let manifest = Manifest::smollm("mute")
        .with("tracing.collector.image", image.as_str())
        .with("tracing.collector.command", vec!["/otelcol"]);
    let service = namespace.apply(&manifest.yaml()).await?;
    let condition = service.reports("Ready", "ImagePullFailed", Lab::PATIENCE).await?;
    assert!(condition.message.contains(&image), "{}", condition.message);
    namespace.delete().await
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_refused_by_name() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("wrong-field").await?;
    let error = namespace.apply(&Manifest::smollm("odd").with("replica", 2).yaml()).await.err().expect("refused");
    assert!(format!("{error:#}").contains("replica"), "{error:#}");
    let error = namespace.apply(&Manifest::smollm("odd").with("gpu.count", 2).yaml()).await.err().expect("refused");
    assert!(format!("{error:#}").contains("replicas"), "{error:#}");
    namespace.delete().await
}
