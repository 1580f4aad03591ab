//! Whether the CustomResourceDefinition in the cluster is the one that this operator was built with, or a newer one.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, CustomResourceExt, ResourceExt};

use crate::admin::Readiness;
use crate::crd::{InferenceService, SCHEMA_NUMBER, SCHEMA_NUMBER_ANNOTATION};

const RETRY: Duration = Duration::from_secs(3);

/// Waits for the definition, and says on `readiness` what it waits for.
pub async fn wait_for_definition(client: Client, readiness: &Readiness) {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let name = InferenceService::crd_name();
    loop {
        let awaited = match api.get_opt(name).await {
            Ok(Some(found)) => match missing(&found) {
                None => return,
                Some(awaited) => awaited,
            },
            Ok(None) => format!("CustomResourceDefinition {name}: install the chart, or crds/inferenceservices.yaml"),
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                tracing::warn!("may not read CustomResourceDefinition {name}; its version is taken on trust");
                return;
            }
            Err(error) => format!("the API server: {error}"),
        };
        tracing::info!(%awaited, "waiting");
        readiness.await_for(&awaited);
        tokio::time::sleep(RETRY).await;
    }
}

/// What the definition in the cluster lacks.
fn missing(found: &CustomResourceDefinition) -> Option<String> {
    let number = found.annotations().get(SCHEMA_NUMBER_ANNOTATION).and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
    if number < SCHEMA_NUMBER {
        let name = found.name_any();
        return Some(format!(
            "a newer CustomResourceDefinition {name}: schema {number} is installed, {SCHEMA_NUMBER} is needed"
        ));
    }
    let conditions = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let established = conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True");
    (!established).then(|| "the API server to serve the CustomResourceDefinition".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_definition_is_not_enough() {
        let mut found = crate::crd::definition();
        assert!(missing(&found).is_some_and(|awaited| awaited.contains("to serve")));
        found.annotations_mut().insert(SCHEMA_NUMBER_ANNOTATION.into(), "0".into());
        assert!(missing(&found).is_some_and(|awaited| awaited.contains("a newer CustomResourceDefinition")));
    }
}
