//! The ConfigMap with the collector's configuration.

use k8s_openapi::api::core::v1::ConfigMap;
use sojourn_contract::path;

use super::{child_metadata, collector};
use crate::names;
use crate::reconcile::service::{Service, Tracing};

pub(super) fn render(service: &Service, tracing: &Tracing) -> ConfigMap {
    ConfigMap {
        metadata: child_metadata(service, names::collector_config(&service.name)),
        data: Some([(path::COLLECTOR_CONFIG_FILE.to_owned(), collector::configuration(tracing))].into()),
        ..ConfigMap::default()
    }
}
