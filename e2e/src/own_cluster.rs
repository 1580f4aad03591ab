//! A cluster that the user already has, in place of the sandbox: what the demo needs there, and whether it is there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

/// Path of the cluster's kubeconfig.
const KUBECONFIG: &str = "SOJOURN_KUBECONFIG";
/// Path of a values file for the chart that names images which the cluster can pull.
const VALUES: &str = "SOJOURN_VALUES";

const NEEDS: &str = "\
The demo on a cluster of your own needs, there:
  - images that it can pull: `make images REGISTRY=...` builds and pushes them;
  - SOJOURN_VALUES: a values file for charts/sojourn that names them (e2e/sandbox-values.yaml is one);
  - a claim `models` in namespace `chat` with SmolLM2-135M-Instruct-Q8_0.gguf in it (`make model` makes the file);
  - a Service `jaeger` in namespace `observability` with ports 4317 (OTLP) and 16686 (query).
Here it needs helm on the PATH.";

/// The user's cluster.
pub struct OwnCluster {
    /// Talks to it with the user's rights.
    pub client: Client,
    /// The user's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The user's values for the chart.
    pub values: PathBuf,
}

impl OwnCluster {
    /// The cluster that `SOJOURN_KUBECONFIG` names; `None` if it names none.
    pub async fn from_environment() -> Result<Option<Self>> {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let Some(kubeconfig) = path(KUBECONFIG) else { return Ok(None) };
        let Some(values) = path(VALUES) else { bail!("{VALUES} is not set.\n{NEEDS}") };
        let client =
            connect(&kubeconfig).await.with_context(|| format!("cannot use the cluster of {}", kubeconfig.display()))?;
        Ok(Some(Self { client, kubeconfig, values }))
    }

    /// Says what is missing for the demo in `namespace`.
    pub async fn check(&self, namespace: &str) -> Result<()> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        if claims.get_opt("models").await?.is_none() {
            bail!("there is no claim `models` in namespace `{namespace}`.\n{NEEDS}");
        }
        let services: Api<Service> = Api::namespaced(self.client.clone(), "observability");
        if services.get_opt("jaeger").await?.is_none() {
            bail!("there is no Service `jaeger` in namespace `observability`.\n{NEEDS}");
        }
        Ok(())
    }
}

async fn connect(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    client.apiserver_version().await?;
    Ok(client)
}
