//! The operator as the API server sees it: how much it has to do, and what it writes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use sojourn_operator::crd::InferenceService;

use crate::metrics::Page;
use crate::release::{NAMESPACE, RELEASE};
use crate::tunnel::Tunnel;

/// Port of its `/metrics`.
const PORT: u16 = 8080;
/// The API server's counter of requests.
const REQUESTS: &str = "apiserver_request_total";
/// The kinds that the operator writes, each by its group and resource; Events and its lease aside.
const WRITTEN: [(&str, &str); 5] = [
    ("sojourn.dev", "inferenceservices"),
    ("", "configmaps"),
    ("", "services"),
    ("apps", "deployments"),
    ("policy", "poddisruptionbudgets"),
];
/// Verbs that write, as the API server counts them.
const WRITES: [&str; 6] = ["APPLY", "DELETE", "PATCH", "POST", "PUT", "DELETECOLLECTION"];

/// How often it has reconciled anything since its start.
pub async fn reconciles(client: &Client) -> Result<f64> {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let labels = format!("app.kubernetes.io/instance={RELEASE}");
    let pod = pods.list(&ListParams::default().labels(&labels)).await?.items.into_iter().next();
    let tunnel = Tunnel::to_pod(client, NAMESPACE, &pod.context("the operator has no pod")?.name_any(), PORT).await?;
    Ok(Page::scrape(&tunnel.url).await?.sum("sojourn_operator_reconciles_total", &[]))
}

/// How often anybody has asked the API server to write an object of a kind that the operator writes.
pub async fn write_requests(client: &Client) -> Result<f64> {
    let page = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let page = Page::read(&page);
    let count = |(group, resource): (&str, &str), verb: &str| {
        page.sum(REQUESTS, &[("group", group), ("resource", resource), ("verb", verb)])
    };
    Ok(WRITTEN.into_iter().flat_map(|kind| WRITES.map(|verb| count(kind, verb))).sum())
}

/// The version of every object in a namespace that the operator writes, Events included.
pub async fn versions(client: &Client, namespace: &str) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    macro_rules! list {
        ($($kind:ident),*) => { $(
            for object in Api::<$kind>::namespaced(client.clone(), namespace).list(&ListParams::default()).await? {
                let name = format!("{} {}", stringify!($kind), object.name_any());
                versions.insert(name, object.resource_version().unwrap_or_default());
            }
        )* };
    }
    list!(InferenceService, ConfigMap, Service, Deployment, PodDisruptionBudget, Event);
    Ok(versions)
}
