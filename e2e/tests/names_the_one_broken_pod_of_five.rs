//! Four pods of five that export do not make telemetry ready: the one that cannot is named for as long as it cannot, and
//! saying so costs the API server nothing.

use anyhow::{Context, Result};
use kube::ResourceExt;
use serde_json::json;
use sojourn_contract::attribute;
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::operator;
use sojourn_e2e::receiver::{Harvest, Receiver};
use sojourn_e2e::wait::{self, Look};

const REPLICAS: usize = 5;
/// Rounds of asking the sidecars, and more reconciles than these, in which nothing may be written.
const ROUNDS: f64 = 4.0;

#[tokio::test]
async fn names_the_one_broken_pod_of_five() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("one-of-five").await?;
    let receiver = Receiver::start_on(lab.cluster.host_address()).await?;
    receiver.shun_next();
    let manifest = Manifest::smollm("smollm")
        .with("replicas", REPLICAS)
        .with("resources.requests", json!({"cpu": "50m", "memory": "256Mi"}))
        .with("engine", json!({"maxNumSeqs": 1, "maxModelLen": 512}))
        .with("tracing.collector.resources", json!({"requests": {"cpu": "20m"}}))
        .with("tracing.destinations", json!([{"name": "own", "endpoint": receiver.url}]));
    let service = namespace.apply(&manifest.yaml()).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    let mut arrived = Harvest::of(&receiver);
    let exporting = |arrived: &Harvest<'_>| {
        let pods = arrived.others.iter().filter_map(|span| span.resource.text(attribute::K8S_POD_NAME));
        pods.collect::<std::collections::BTreeSet<_>>().len()
    };
    arrived.until("all other pods export", |arrived| exporting(arrived) == REPLICAS - 1).await?;

    let reported = service.reports("TelemetryReady", "DestinationUnreachable", Lab::PATIENCE).await?;
    let shunned = receiver.shunned().context("nobody has connected")?.to_string();
    let pods = service.pods().await?;
    let address = |pod: &&k8s_openapi::api::core::v1::Pod| pod.status.as_ref()?.pod_ip.clone();
    let broken = pods.iter().find(|pod| address(pod).as_ref() == Some(&shunned)).context("nobody's address is shunned")?;
    assert_eq!(reported.status, "False");
    for pod in &pods {
        assert_eq!(reported.message.contains(&pod.name_any()), pod.name_any() == broken.name_any(), "{}", reported.message);
    }

    let (versions, writes) =
        (operator::versions(&lab.client, &namespace.name).await?, operator::write_requests(&lab.client).await?);
    assert!(writes > 0.0, "the API server counts what was written so far");
    let begun = operator::reconciles(&lab.client).await?;
    wait::quietly("the operator has looked again and again", Lab::PATIENCE, async || {
        let more = operator::reconciles(&lab.client).await? - begun;
        Ok(if more >= ROUNDS { Look::Holds(()) } else { Look::NotYet(format!("{more} reconciles")) })
    })
    .await?;
    assert_eq!(operator::versions(&lab.client, &namespace.name).await?, versions, "nothing was written");
    assert_eq!(operator::write_requests(&lab.client).await?, writes, "nothing was asked to be written");
    assert_eq!(service.condition("TelemetryReady").await?, reported);
    assert_eq!(exporting(arrived.gather()?), REPLICAS - 1, "the broken one is broken still");
    namespace.delete().await
}
