//! Reaches a pod's port from this machine on any cluster, through the API server, as `kubectl port-forward` does.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A local port that leads to a pod; it closes when dropped.
pub struct Tunnel {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// The pod at its end.
    pub pod: String,
    task: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnel {
    /// Leads to a port of a ready pod of a Service.
    pub async fn to_service(client: &Client, namespace: &str, service: &str, port: u16) -> Result<Self> {
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let found = services.get(service).await.with_context(|| format!("cannot read Service {namespace}/{service}"))?;
        let selector = found.spec.and_then(|spec| spec.selector).unwrap_or_default();
        let labels = selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let ready = pods.list(&ListParams::default().labels(&labels)).await?.items.into_iter().find(is_ready);
        let pod =
            ready.and_then(|pod| pod.metadata.name).with_context(|| format!("no pod of {namespace}/{service} is ready"))?;
        Self::to_pod(client, namespace, &pod, port).await
    }

    /// Leads to a port of a pod.
    pub async fn to_pod(client: &Client, namespace: &str, pod: &str, port: u16) -> Result<Self> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot open a local port")?;
        let url = format!("http://{}", listener.local_addr()?);
        let name = pod.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(forward(pods.clone(), name.clone(), port, connection));
            }
        });
        Ok(Self { url, pod: pod.to_owned(), task })
    }
}

/// Whether a pod is Ready and not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// One connection; its end is the caller's to see.
async fn forward(pods: Api<Pod>, pod: String, port: u16, mut connection: TcpStream) {
    let forwarded = match pods.portforward(&pod, &[port]).await {
        Ok(mut forwarder) => match forwarder.take_stream(port) {
            Some(mut stream) => copy_bidirectional(&mut connection, &mut stream).await.map(drop).map_err(anyhow::Error::from),
            None => Err(anyhow::anyhow!("the API server gave no stream")),
        },
        Err(error) => Err(error.into()),
    };
    if let Err(error) = forwarded {
        eprintln!("tunnel to {pod}:{port}: {error}");
    }
}
