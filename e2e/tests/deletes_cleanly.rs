//! Deleting a service deletes all that the operator made for it, and nothing else.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use sojourn_contract::label;
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::namespace::Namespace;
use sojourn_e2e::wait::{self, Look};

#[tokio::test]
async fn deletes_cleanly() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("deletes-cleanly").await?;
    let unrelated = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("smollm-notes".into()), ..Default::default() },
        ..Default::default()
    };
    let config_maps: Api<ConfigMap> = Api::namespaced(lab.client.clone(), &namespace.name);
    config_maps.create(&PostParams::default(), &unrelated).await?;

    let service = namespace.apply(&Manifest::smollm("smollm").yaml()).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    let children = children(&namespace, "smollm").await?;
    for kind in ["ConfigMap", "Deployment", "Pod", "PodDisruptionBudget", "Service"] {
        assert!(children.iter().any(|child| child.starts_with(kind)), "no {kind} among {children:?}");
    }

    service.delete().await?;
    wait::quietly("all children are gone", Duration::from_secs(180), || async {
        let left = self::children(&namespace, "smollm").await?;
        Ok(if left.is_empty() { Look::Holds(()) } else { Look::NotYet(format!("{left:?}")) })
    })
    .await?;
    assert!(config_maps.get_opt("smollm-notes").await?.is_some(), "what is not ours stays");
    namespace.delete().await
}

async fn children(namespace: &Namespace, service: &str) -> Result<Vec<String>> {
    let (client, name) = (&namespace.client, namespace.name.as_str());
    let ours = ListParams::default().labels(&format!("{}={service}", label::APP_INSTANCE));
    let mut found = Vec::new();
    macro_rules! list {
        ($($kind:ident),*) => { $(
            let objects = Api::<$kind>::namespaced(client.clone(), name).list(&ours).await?;
            found.extend(objects.items.iter().map(|object| format!("{} {}", stringify!($kind), object.name_any())));
        )* };
    }
    list!(ConfigMap, Deployment, Pod, PodDisruptionBudget, Service);
    Ok(found)
}
