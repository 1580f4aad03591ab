//! The chart, installed as a user installs it.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::checkout;
use crate::sandbox::{Cluster, Own};

/// Namespace of the operator.
pub const NAMESPACE: &str = "sojourn-system";
/// Name of the Helm release.
pub const RELEASE: &str = "sojourn";
/// The chart.
const CHART: &str = "charts/sojourn";
/// Where the sandbox's own images are named.
const SANDBOX_VALUES: &str = "e2e/sandbox-values.yaml";

/// How Helm reaches a cluster, and what it is told.
pub struct Helm {
    /// The program.
    pub program: PathBuf,
    /// The cluster.
    pub kubeconfig: PathBuf,
    /// Values of the chart.
    pub values: PathBuf,
    /// Digest of the operator's image, where its name stays when it is built anew and the pod would not be replaced.
    pub operator_digest: Option<String>,
}

impl Helm {
    /// For the sandbox, with the images that were built there.
    pub async fn of_sandbox(cluster: &Cluster) -> Result<Self> {
        let operator_digest = cluster.image_digest(Own::Operator.image()).await?;
        let (program, kubeconfig) = (cluster.helm(), cluster.kubeconfig());
        Ok(Self { program, kubeconfig, values: checkout::path(SANDBOX_VALUES), operator_digest })
    }

    /// Installs the chart, or brings the installed release up to date, and waits until the operator runs.
    pub async fn install(&self) -> Result<()> {
        let chart = checkout::path(CHART);
        let output = Command::new(&self.program)
            .args(["upgrade", "--install", RELEASE])
            .arg(&chart)
            .args(["--namespace", NAMESPACE, "--create-namespace"])
            .args(["--wait", "--timeout", "3m", "--values"])
            .arg(&self.values)
            .args(self.operator_digest.iter().map(|digest| format!("--set-string=podAnnotations.sandbox/image={digest}")))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        if !output.status.success() {
            bail!("helm cannot install {}: {}", chart.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
