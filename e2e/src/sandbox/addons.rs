//! What runs in every sandbox: cluster DNS, and Jaeger as `jaeger.observability`. Applied by kubectl, so that applying
//! twice is applying once.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{
    binaries::{Binaries, digest},
    command::{output_with_input, program},
    settings::Settings,
};

/// The container that holds a pod's network.
pub const PAUSE_IMAGE: &str = "localhost/sojourn/pause:1.34.4";
/// Cluster DNS.
pub const COREDNS_IMAGE: &str = "localhost/sojourn/coredns:1.14.2";
/// The trace backend.
pub const JAEGER_IMAGE: &str = "localhost/sojourn/jaeger:1.76.0";
/// The collector that sidecars run.
pub const COLLECTOR_IMAGE: &str = "localhost/sojourn/otelcol:0.161.0";
/// A shell and the usual programs, for tests.
pub const BUSYBOX_IMAGE: &str = "localhost/sojourn/busybox:1";

/// Port of Jaeger's query API and pages.
pub const JAEGER_QUERY_PORT: u16 = 16686;
/// The Deployments that must be available, as namespace and name.
pub(super) const DEPLOYMENTS: [(&str, &str); 2] = [("kube-system", "coredns"), ("observability", "jaeger")];

const MANIFESTS: [&str; 2] = [include_str!("../../addons/coredns.yaml"), include_str!("../../addons/jaeger.yaml")];

/// The configuration that the sandbox's Jaeger runs with, for one that runs elsewhere. It listens on 0.0.0.0.
pub fn jaeger_configuration() -> Result<String> {
    let objects = serde_yaml::Deserializer::from_str(MANIFESTS[1]).map(serde_yaml::Value::deserialize);
    let objects: Vec<serde_yaml::Value> = objects.collect::<Result<_, _>>().context("addons/jaeger.yaml is no YAML")?;
    let text = objects.iter().find_map(|object| object["data"]["jaeger.yaml"].as_str());
    text.map(str::to_owned).context("addons/jaeger.yaml has no configuration of Jaeger's")
}

/// Applies all of it.
pub(super) async fn apply(settings: &Settings, binaries: &Binaries) -> Result<()> {
    let mut kubectl = program(binaries.kubernetes.join("kubectl"));
    kubectl.arg("--kubeconfig").arg(settings.kubeconfig()).args([
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=sandbox",
        "--filename=-",
    ]);
    output_with_input(&mut kubectl, &manifests(settings)).await.context("cannot apply the add-ons")?;
    Ok(())
}

fn manifests(settings: &Settings) -> String {
    // In the pods' annotations: a changed configuration has to restart what reads it.
    let digest = digest(MANIFESTS.map(str::as_bytes));
    MANIFESTS
        .join("---\n")
        .replace("${COREDNS_IMAGE}", COREDNS_IMAGE)
        .replace("${JAEGER_IMAGE}", JAEGER_IMAGE)
        .replace("${DIGEST}", &digest)
        .replace("${DNS_SERVICE}", &settings.dns_service().to_string())
        .replace("${JAEGER_SERVICE}", &settings.jaeger_service().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jaeger_can_be_configured_elsewhere_as_it_is_in_the_sandbox() {
        let text = jaeger_configuration().unwrap();
        assert!(text.contains(&format!("0.0.0.0:{JAEGER_QUERY_PORT}")), "{text}");
    }
}
