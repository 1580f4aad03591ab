//! What a container's spans say of where they come from, by downward API: no lookup, no token, no RBAC in the pod.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector};
use sojourn_contract::{attribute, env, label};

/// Environment variable with the pod's revision; only for the attributes below.
const REVISION: &str = "POD_REVISION";

/// The environment that gives a container's spans their resource.
pub(super) fn environment(service: &str, container: &str, image: &str) -> Vec<EnvVar> {
    vec![
        from_field(env::POD_NAME, "metadata.name".into()),
        from_field(env::POD_NAMESPACE, "metadata.namespace".into()),
        from_field(env::POD_UID, "metadata.uid".into()),
        from_field(env::NODE_NAME, "spec.nodeName".into()),
        from_field(REVISION, format!("metadata.labels['{}']", label::REVISION)),
        value(env::OTEL_SERVICE_NAME, service.into()),
        value(env::OTEL_RESOURCE_ATTRIBUTES, attributes(service, container, image)),
    ]
}

/// An environment variable with a fixed value.
pub(super) fn value(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value), value_from: None }
}

/// The kubelet replaces `$(NAME)` by the variables that stand before.
fn attributes(service: &str, container: &str, image: &str) -> String {
    let reference = |variable: &str| format!("$({variable})");
    let (pod, namespace) = (reference(env::POD_NAME), reference(env::POD_NAMESPACE));
    [
        (attribute::SERVICE_NAMESPACE, namespace.clone()),
        (attribute::SERVICE_INSTANCE_ID, format!("{namespace}.{pod}.{container}")),
        (attribute::SERVICE_VERSION, version(image).to_owned()),
        (attribute::REVISION, reference(REVISION)),
        (attribute::K8S_NAMESPACE_NAME, namespace),
        (attribute::K8S_POD_NAME, pod),
        (attribute::K8S_POD_UID, reference(env::POD_UID)),
        (attribute::K8S_NODE_NAME, reference(env::NODE_NAME)),
        (attribute::K8S_CONTAINER_NAME, container.to_owned()),
        (attribute::K8S_DEPLOYMENT_NAME, service.to_owned()),
    ]
    .map(|(key, value)| format!("{key}={value}"))
    .join(",")
}

/// The tag of an image, or its digest where there is no tag.
fn version(image: &str) -> &str {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let last_segment = name.rsplit('/').next().unwrap_or(name);
    match last_segment.split_once(':') {
        Some((_, tag)) => tag,
        None if digest.is_empty() => "latest",
        None => digest,
    }
}

fn from_field(name: &str, field_path: String) -> EnvVar {
    let field_ref = Some(ObjectFieldSelector { api_version: Some("v1".into()), field_path });
    EnvVar { name: name.into(), value: None, value_from: Some(EnvVarSource { field_ref, ..EnvVarSource::default() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_tag_or_else_the_digest() {
        let cases = [
            ("ghcr.io/sojourn-dev/engine:0.1.0", "0.1.0"),
            ("localhost:5000/engine", "latest"),
            ("localhost:5000/engine:dev", "dev"),
            ("engine:1.2@sha256:abc", "1.2"),
            ("engine@sha256:abc", "sha256:abc"),
        ];
        for (image, expected) in cases {
            assert_eq!(version(image), expected, "{image}");
        }
    }
}
