//! What a scenario finds: the sandbox cluster with the operator installed in it.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;

use crate::jaeger::Jaeger;
use crate::namespace::Namespace;
use crate::sandbox::{Cluster, Progress, Sandbox};

/// The cluster, the backend, and who talks to them.
pub struct Lab {
    /// Talks to the cluster as its administrator.
    pub client: Client,
    /// Where traces arrive.
    pub jaeger: Jaeger,
    /// The sandbox.
    pub cluster: Cluster,
}

impl Lab {
    /// How long anything may take that has to start first.
    pub const PATIENCE: Duration = Duration::from_secs(180);

    /// The sandbox that `make up` made, with the operator in it.
    pub async fn open() -> Result<Self> {
        let cluster =
            Sandbox::from_environment()?.connect(&Progress::new()).await.context("no sandbox to test on; run `make up`")?;
        Ok(Self::on(cluster))
    }

    /// A cluster that is at hand already.
    pub fn on(cluster: Cluster) -> Self {
        Self { client: cluster.client(), jaeger: Jaeger::new(&cluster.jaeger_url()), cluster }
    }

    /// An empty namespace of a scenario's own, with the claim `models`; what an earlier run left there is removed first.
    pub async fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(&self.client, name).await?.delete().await?;
        let namespace = Namespace::create(&self.client, name).await?;
        self.cluster.provide_models(name).await?;
        Ok(namespace)
    }
}
