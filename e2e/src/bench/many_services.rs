//! Very many services at once: how long the operator takes to write the children of all, what memory it needs for them, and
//! that it then leaves the API server alone.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use sojourn_operator::crd::InferenceService;
use tokio::task::JoinSet;

use super::report::{Section, Table, Unit, Verdict};
use super::{Part, Plan, say};
use crate::lab::Lab;
use crate::manifest::Manifest;
use crate::namespace::Namespace;
use crate::statistics::Spread;
use crate::wait::{self, Look};
use crate::{operator, process};

const NAMESPACE: &str = "many-services";
const PROGRAM: &str = "sojourn-operator";
/// Clients that apply at the same time.
const CLIENTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(600);
/// How long nobody may write anything before the operator counts as done.
const CALM: Duration = Duration::from_secs(10);
/// How long the operator is then watched.
const REST: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    services: usize,
    applied: Duration,
    written: Duration,
    reported: Duration,
    /// Most memory of the operator since its start, in MiB.
    peak_mib: f64,
    writes_at_rest: f64,
}

/// Measures it.
pub async fn measure(plan: &Plan) -> Result<Section> {
    let lab = Lab::open().await?;
    let namespace = Arc::new(lab.namespace(NAMESPACE).await?);
    say(&format!("many services: applying {}", plan.services));
    let begun = Instant::now();
    let applying = tokio::spawn(apply_all(namespace.clone(), plan.services));
    let written = children_are_written(&lab.client, plan.services, begun).await;
    let applied = applying.await??;
    let written = written?;
    say("many services: all children are written; waiting for each service's status");
    let reported = statuses_are_written(&lab.client, begun).await?;
    say("many services: watching the operator at rest");
    let writes_at_rest = writes_at_rest(&lab.client).await?;
    let pid = process::running(PROGRAM)?.into_iter().next().with_context(|| format!("no {PROGRAM} runs"))?;
    let peak_mib = process::peak_resident_kib(pid)? / 1024.0;
    say("many services: deleting them");
    let section = section(&Seen { services: plan.services, applied, written, reported, peak_mib, writes_at_rest });
    Arc::into_inner(namespace).context("nobody applies any more")?.delete().await?;
    Ok(section)
}

/// Services that have all children but no pods.
async fn apply_all(namespace: Arc<Namespace>, services: usize) -> Result<Duration> {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let namespace = namespace.clone();
        clients.spawn(async move {
            for number in (client..services).step_by(CLIENTS) {
                let manifest = Manifest::smollm(&format!("service-{number:04}")).with("replicas", 0);
                namespace.apply(&manifest.yaml()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(begun.elapsed())
}

async fn children_are_written(client: &Client, services: usize, begun: Instant) -> Result<Duration> {
    // Each namespace has a ConfigMap with the cluster's certificates.
    let expected = [services, services, services + 1];
    wait::quietly("all children are written", PATIENCE, || async {
        let now = [count::<Deployment>(client).await?, count::<Service>(client).await?, count::<ConfigMap>(client).await?];
        Ok(if now == expected { Look::Holds(begun.elapsed()) } else { Look::NotYet(format!("{now:?} of {expected:?}")) })
    })
    .await
}

async fn statuses_are_written(client: &Client, begun: Instant) -> Result<Duration> {
    let services: Api<InferenceService> = Api::namespaced(client.clone(), NAMESPACE);
    wait::quietly("each service has its status", PATIENCE, || async {
        let all = services.list(&ListParams::default()).await?.items;
        let without = all.iter().filter(|service| service.status.is_none()).count();
        Ok(if without == 0 { Look::Holds(begun.elapsed()) } else { Look::NotYet(format!("{without} have none")) })
    })
    .await
}

/// How many objects of a kind there are, without reading them.
async fn count<K>(client: &Client) -> Result<usize>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let first = api.list_metadata(&ListParams::default().limit(1)).await?;
    let more = first.metadata.remaining_item_count.unwrap_or_default();
    Ok(first.items.len() + usize::try_from(more).unwrap_or_default())
}

/// Writes of the operator's kinds while nothing changes.
async fn writes_at_rest(client: &Client) -> Result<f64> {
    let mut last = (operator::write_requests(client).await?, Instant::now());
    wait::quietly("the operator is at rest", PATIENCE, async || {
        let now = operator::write_requests(client).await?;
        if now != last.0 {
            last = (now, Instant::now());
        }
        Ok(if last.1.elapsed() > CALM { Look::Holds(()) } else { Look::NotYet(format!("{now} writes")) })
    })
    .await?;
    let before = operator::write_requests(client).await?;
    tokio::time::sleep(REST).await;
    Ok(operator::write_requests(client).await? - before)
}

fn section(seen: &Seen) -> Section {
    let once = |value: f64| Spread::of(&[value]);
    let seconds = |duration: Duration| once(duration.as_secs_f64());
    let mut table = Table::new(&["from the first apply until", "time"]);
    table.rows = [
        (format!("all are applied, by {CLIENTS} clients at once"), seen.applied),
        ("all children are written".to_owned(), seen.written),
        ("each service has its status".to_owned(), seen.reported),
    ]
    .map(|(what, duration)| vec![what, Unit::Seconds.spread(seconds(duration))])
    .into();
    let shared = "The API server, etcd and the clients share the operator's cores.";
    Section {
        title: Part::ManyServices.title(),
        how: format!(
            "{} services with `replicas: 0`, so that each has its ConfigMap, Service and Deployment, and no pods. The memory is\n\
             the most that the operator's process held in RAM since its start. At rest: {} s in which nobody changes anything,\n\
             after {} s without a write.",
            seen.services,
            REST.as_secs(),
            CALM.as_secs()
        ),
        tables: vec![table],
        verdicts: vec![
            Verdict::below("all children written within 60 s", seconds(seen.written), 60.0, Unit::Seconds, shared),
            Verdict::below(
                "the operator's memory below 100 MiB",
                once(seen.peak_mib),
                100.0,
                Unit::Whole(" MiB"),
                "Its watches' stores.",
            ),
            Verdict::below(
                "no writes at rest",
                once(seen.writes_at_rest),
                1.0,
                Unit::Whole(""),
                "`kubectl get events` may say why.",
            ),
        ],
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_becomes_rows_and_verdicts() {
        let seen = Seen {
            services: 1_000,
            applied: Duration::from_secs(20),
            written: Duration::from_secs(61),
            reported: Duration::from_secs(70),
            peak_mib: 64.0,
            writes_at_rest: 0.0,
        };
        let section = section(&seen);
        assert_eq!(section.tables[0].rows[1], ["all children are written", "61.00 s"]);
        let met: Vec<Option<bool>> = section.verdicts.iter().map(Verdict::is_met).collect();
        assert_eq!(met, [Some(false), Some(true), Some(true)]);
    }
}
