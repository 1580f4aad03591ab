//! The chart, installed as a user installs it.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::sandbox::Cluster;

/// Namespace of the operator.
pub const NAMESPACE: &str = "sojourn-system";
/// Name of the Helm release.
pub const RELEASE: &str = "sojourn";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sojourn");
/// Where the sandbox's own images are named.
const VALUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sandbox-values.yaml");

/// Installs the chart with the sandbox's images, or brings the installed release up to date, and waits until it runs.
pub async fn install(cluster: &Cluster) -> Result<()> {
    let output = Command::new(cluster.helm())
        .args(["upgrade", "--install", RELEASE, CHART, "--namespace", NAMESPACE, "--create-namespace"])
        .args(["--values", VALUES, "--wait", "--timeout", "3m"])
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("cannot run {}", cluster.helm().display()))?;
    if !output.status.success() {
        bail!("helm cannot install {}: {}", Path::new(CHART).display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
