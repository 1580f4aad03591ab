//! Names and labels of everything that belongs to a service: derived here once, so that selectors and labels cannot drift.

use std::collections::BTreeMap;

use sojourn_contract::{flag, label};

/// Who writes, in managed fields, events and leases.
pub const FIELD_MANAGER: &str = "sojourn-operator";
/// Selects what the operator manages, for watches.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=sojourn-operator";
/// Annotation of a child: digest of the object as it was applied, so that an unchanged one is not written again.
pub const APPLIED_DIGEST: &str = "sojourn.dev/applied";
/// The resource that stands for a GPU unless the spec names another.
pub const GPU_RESOURCE: &str = "nvidia.com/gpu";
/// Uid and gid of every process in a pod.
pub const UID: i64 = 65532;

/// Flags of the engine that follow from fields of the spec.
pub const OWNED_FLAGS: [&str; 18] = [
    flag::ENABLE_JOURNEY_TRACING,
    flag::OTLP_TRACES_ENDPOINT,
    flag::JOURNEY_DETAIL,
    flag::JOURNEY_BAGGAGE,
    flag::SERVED_MODEL_NAME,
    flag::HOST,
    flag::PORT,
    flag::HF_TOKEN,
    flag::DOWNLOAD_DIR,
    flag::DEVICE,
    flag::MAX_MODEL_LEN,
    flag::MAX_NUM_SEQS,
    flag::KV_CACHE_TOKENS,
    flag::MAX_QUEUE_SIZE,
    flag::SCHEDULING_POLICY,
    flag::DRAIN_TIMEOUT,
    flag::STARTUP_TIMEOUT,
    flag::CHAT_TEMPLATE,
];

/// The volume that the model is on, or lands on.
pub const MODEL_VOLUME: &str = "model";

/// Name of the ConfigMap with the collector's configuration.
pub fn collector_config(service: &str) -> String {
    format!("{service}-collector")
}

/// Name of the Secret with destinations' credentials, unless the spec names another.
pub fn credentials_secret(service: &str) -> String {
    format!("{service}-telemetry")
}

/// Base URL of the service's OpenAI API inside the cluster.
pub fn url(service: &str, namespace: &str) -> String {
    format!("http://{service}.{namespace}.svc:{}/v1", sojourn_contract::port::HTTP)
}

/// Labels that select a service's pods.
pub fn selector(service: &str) -> BTreeMap<String, String> {
    [(label::APP_NAME, label::APP_NAME_VALUE), (label::APP_INSTANCE, service)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Labels of every object of a service.
pub fn labels(service: &str) -> BTreeMap<String, String> {
    let mut labels = selector(service);
    labels.insert(label::APP_MANAGED_BY.into(), label::MANAGED_BY_VALUE.into());
    labels
}

/// The selector as text, for `/scale`.
pub fn selector_text(service: &str) -> String {
    selector(service).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_selector_selects_what_we_label() {
        let (key, value) = MANAGED_SELECTOR.split_once('=').unwrap();
        assert_eq!(labels("chat").get(key).map(String::as_str), Some(value));
    }
}
