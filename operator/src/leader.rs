//! The lease: one operator at a time writes. Losing it ends the process, which is simpler than any way to stop half-way.

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;

const LEASE: &str = "sojourn-operator";

/// A lease that is held until it is lost or dropped.
pub struct Leadership {
    holds: watch::Receiver<bool>,
}

/// Why there is no leadership.
#[derive(Debug, thiserror::Error)]
#[error("cannot hold lease {LEASE} in namespace {namespace}")]
pub struct LeaseError {
    namespace: String,
    #[source]
    source: Option<LeaseManagerError>,
}

impl Leadership {
    /// Waits until nobody else holds the lease.
    pub async fn acquire(client: Client, namespace: &str, identity: &str) -> Result<Self, LeaseError> {
        let error = |source| LeaseError { namespace: namespace.to_owned(), source };
        let manager = LeaseManagerBuilder::new(client, LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .build()
            .await
            .map_err(|source| error(Some(source)))?;
        let (mut holds, _task) = manager.watch().await;
        holds.wait_for(|holds| *holds).await.map_err(|_| error(None))?;
        Ok(Self { holds })
    }

    /// Comes back when the lease is lost.
    pub async fn lost(&mut self) {
        if self.holds.wait_for(|holds| !*holds).await.is_err() {
            tracing::error!("the task that renews the lease has ended");
        }
    }
}
