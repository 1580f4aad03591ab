//! The Service in front of the pods: the OpenAI API and `/metrics` on one port.

use k8s_openapi::api::core::v1::{Service as KubernetesService, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sojourn_contract::port;

use super::child_metadata;
use crate::names;
use crate::reconcile::service::Service;

/// Name of the port in Service and pod.
pub(super) const HTTP: &str = "http";

pub(super) fn render(service: &Service) -> KubernetesService {
    KubernetesService {
        metadata: child_metadata(service, service.name.clone()),
        spec: Some(ServiceSpec {
            selector: Some(names::selector(&service.name)),
            ports: Some(vec![ServicePort {
                name: Some(HTTP.into()),
                app_protocol: Some("http".into()),
                port: i32::from(port::HTTP),
                target_port: Some(IntOrString::String(HTTP.into())),
                protocol: Some("TCP".into()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
