//! A running sandbox, as tests and the demo use it.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};
use kube::{Api, Client, config::Kubeconfig};

use super::{
    addons::{DEPLOYMENTS, JAEGER_QUERY_PORT},
    binaries::Binaries,
    command::{output, program},
    containerd,
    images::Image,
    models,
    progress::Progress,
    settings::Settings,
    wait::until,
};

/// How long any one part of the cluster may take to become ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running sandbox cluster.
#[derive(Clone)]
pub struct Cluster {
    settings: Settings,
    binaries: Binaries,
    client: Client,
}

impl Cluster {
    pub(super) async fn connect(settings: &Settings, binaries: Binaries) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(settings.kubeconfig()).context("cannot read the sandbox's kubeconfig")?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        let client = Client::try_from(config).context("cannot make a client for the sandbox")?;
        Ok(Self { settings: settings.clone(), binaries, client })
    }

    /// The administrator's kubeconfig; it works from the host as it is.
    pub fn kubeconfig(&self) -> PathBuf {
        self.settings.kubeconfig()
    }

    /// A client with the administrator's rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Name of the one node.
    pub fn node_name(&self) -> &str {
        &self.settings.name
    }

    /// This machine's address on its link to the node: pods reach there what listens on it.
    pub fn host_address(&self) -> IpAddr {
        self.settings.host_address().into()
    }

    /// Jaeger's query API and pages, reachable from the host.
    pub fn jaeger_url(&self) -> String {
        format!("http://{}:{JAEGER_QUERY_PORT}", self.settings.jaeger_service())
    }

    /// The program `kubectl` of the cluster's own version.
    pub fn kubectl(&self) -> PathBuf {
        self.binaries.kubernetes.join("kubectl")
    }

    /// The program `helm`.
    pub fn helm(&self) -> PathBuf {
        self.binaries.helm.join("helm")
    }

    /// The collector that sidecars run, for tests that start it by themselves.
    pub fn collector(&self) -> PathBuf {
        self.binaries.collector.join("otelcol")
    }

    /// The program `jaeger`, likewise.
    pub fn jaeger(&self) -> PathBuf {
        self.binaries.jaeger.join("jaeger")
    }

    /// Where model files go on the host; the claim of [`Cluster::provide_models`] shows the same files.
    pub fn models(&self) -> PathBuf {
        self.settings.models()
    }

    /// Creates the read-only claim `models` in a namespace.
    pub async fn provide_models(&self, namespace: &str) -> Result<()> {
        models::provide(&self.client, namespace).await
    }

    /// Gives the node an image unless it has this very one; true when it had to.
    pub async fn load_image(&self, image: &Image) -> Result<bool> {
        let lacks = containerd::images(&self.settings).await?.get(&image.name) != Some(&image.digest);
        if lacks {
            containerd::import(&self.settings, image).await?;
        }
        Ok(lacks)
    }

    /// Digest of the node's image of this name; `None` where it has none.
    pub async fn image_digest(&self, name: &str) -> Result<Option<String>> {
        Ok(containerd::images(&self.settings).await?.remove(name))
    }

    /// Gives the node the image in an OCI archive; true when it had to.
    pub async fn load_archive(&self, archive: &Path) -> Result<bool> {
        self.load_image(&Image::read(archive).await?).await
    }

    /// Gives the node an image from the store of the machine's own buildah; true when it had to.
    pub async fn load_from_buildah(&self, name: &str) -> Result<bool> {
        let directory = tempfile::tempdir()?;
        let archive = directory.path().join("image.tar");
        let mut push = program("buildah");
        push.args(["push", name]).arg(format!("oci-archive:{}:{name}", archive.display()));
        output(&mut push).await.with_context(|| format!("{name} is neither an archive nor an image of buildah's"))?;
        self.load_archive(&archive).await
    }

    /// Gives the node those of the images that it lacks, one after another, because containerd refuses some of what is
    /// imported at the same time.
    pub async fn load_images(&self, images: &[Image], progress: &Progress) -> Result<()> {
        let there = containerd::images(&self.settings).await?;
        for image in images.iter().filter(|image| there.get(&image.name) != Some(&image.digest)) {
            let step = progress.step(format!("loading {}", image.name));
            containerd::import(&self.settings, image).await?;
            step.done();
        }
        Ok(())
    }

    pub(super) async fn api_server_ready(&self) -> Result<()> {
        until(&self.settings, "the API server", PATIENCE, async || {
            let ready = http::Request::get("/readyz").body(Vec::new())?;
            Ok(self.client.request_text(ready).await.map(drop).map_err(|error| error.to_string()))
        })
        .await
    }

    pub(super) async fn node_ready(&self) -> Result<()> {
        let nodes = Api::<Node>::all(self.client());
        until(&self.settings, "the node", PATIENCE, async || {
            Ok(match nodes.get_opt(&self.settings.name).await {
                Ok(Some(node)) => is_ready(&node),
                Ok(None) => Err("the kubelet has not registered it".into()),
                Err(error) => Err(error.to_string()),
            })
        })
        .await
    }

    pub(super) async fn add_ons_available(&self) -> Result<()> {
        for (namespace, name) in DEPLOYMENTS {
            let deployments = Api::<Deployment>::namespaced(self.client(), namespace);
            until(&self.settings, name, PATIENCE, async || {
                Ok(match deployments.get(name).await {
                    Ok(deployment) => is_available(&deployment),
                    Err(error) => Err(error.to_string()),
                })
            })
            .await?;
        }
        Ok(())
    }
}

fn is_ready(node: &Node) -> Result<(), String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => Ok(()),
        Some(ready) => Err(ready.message.clone().unwrap_or_default()),
        None => Err("it has not said anything yet".into()),
    }
}

/// Available in its present generation, with no pod of an older one left.
fn is_available(deployment: &Deployment) -> Result<(), String> {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let current = status.observed_generation >= deployment.metadata.generation;
    let ready = status.updated_replicas == Some(wanted) && status.available_replicas == Some(wanted);
    let only_those = status.replicas == Some(wanted);
    if current && ready && only_those {
        return Ok(());
    }
    Err(format!("{} of {wanted} pods are available", status.available_replicas.unwrap_or(0)))
}
