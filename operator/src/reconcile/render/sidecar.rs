//! The collector beside the engine: an ordinary init container brings the supervisor, a native sidecar runs it in front of
//! the collector's own command. It has no probes, so a collector that breaks neither restarts nor unreadies the engine.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, ResourceRequirements, SecretVolumeSource, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sojourn_contract::{label, path, port, sidecar};

use super::pod::{FLUSH_SECONDS, restricted};
use super::resource_attributes;
use crate::names;
use crate::reconcile::service::{Service, Tracing};
use crate::settings::Settings;

const SUPERVISOR_VOLUME: &str = "supervisor";
const CONFIG_VOLUME: &str = "collector-config";
const CREDENTIALS_VOLUME: &str = "telemetry-credentials";
const RUN_VOLUME: &str = "collector-run";
/// Of the memory limit, what Go's collector of garbage aims to stay below.
const GO_MEMORY_SHARE: f64 = 0.8;

/// The init container that copies the supervisor to where the sidecar finds it.
pub(super) fn supervisor(settings: &Settings) -> Container {
    let small = |cpu: &str| [("cpu", cpu), ("memory", "32Mi")].map(|(name, amount)| (name.to_owned(), Quantity(amount.into())));
    Container {
        name: label::SUPERVISOR_CONTAINER.into(),
        image: Some(settings.sidecar_image.clone()),
        command: Some(vec![format!("/{}", path::SUPERVISOR_BINARY), sidecar::INSTALL.into(), path::SUPERVISOR_DIR.into()]),
        resources: Some(ResourceRequirements {
            requests: Some(small("10m").into()),
            limits: Some(small("1").into()),
            claims: None,
        }),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![mount(SUPERVISOR_VOLUME, path::SUPERVISOR_DIR, false)]),
        ..Container::default()
    }
}

/// The native sidecar: the supervisor in front of the collector's own command.
pub(super) fn collector(service: &Service, tracing: &Tracing) -> Container {
    let supervisor = format!("{}/{}", path::SUPERVISOR_DIR, path::SUPERVISOR_BINARY);
    let shutdown = format!("--{}={}s", sidecar::SHUTDOWN_TIMEOUT, FLUSH_SECONDS - 1);
    let mut command = vec![supervisor, sidecar::RUN.to_owned(), shutdown, "--".to_owned()];
    command.extend(tracing.collector.command.iter().cloned());
    let mut environment = resource_attributes::environment(&service.name, label::COLLECTOR_CONTAINER, &tracing.collector.image);
    let go_memory = (tracing.collector.memory_limit as f64 * GO_MEMORY_SHARE) as u64;
    environment.push(resource_attributes::value("GOMEMLIMIT", go_memory.to_string()));
    Container {
        name: label::COLLECTOR_CONTAINER.into(),
        image: Some(tracing.collector.image.clone()),
        command: Some(command),
        restart_policy: Some("Always".into()),
        env: Some(environment),
        ports: Some(vec![ContainerPort {
            name: Some("telemetry".into()),
            container_port: i32::from(port::SIDECAR),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        resources: Some(tracing.collector.resources.clone()),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![
            mount(SUPERVISOR_VOLUME, path::SUPERVISOR_DIR, true),
            mount(CONFIG_VOLUME, path::COLLECTOR_CONFIG_DIR, true),
            mount(CREDENTIALS_VOLUME, path::TELEMETRY_CREDENTIALS_DIR, true),
            mount(RUN_VOLUME, path::SIDECAR_RUN_DIR, false),
        ]),
        ..Container::default()
    }
}

/// The sidecar's volumes. The Secret is always mounted and optional, so a key that is added later arrives without a restart.
pub(super) fn volumes(service: &Service, tracing: &Tracing) -> Vec<Volume> {
    let empty_dir =
        |name: &str, source: EmptyDirVolumeSource| Volume { name: name.into(), empty_dir: Some(source), ..Volume::default() };
    let in_memory = EmptyDirVolumeSource {
        medium: Some("Memory".into()),
        size_limit: Some(Quantity("8Mi".into())),
        ..EmptyDirVolumeSource::default()
    };
    vec![
        empty_dir(SUPERVISOR_VOLUME, EmptyDirVolumeSource::default()),
        Volume {
            name: CONFIG_VOLUME.into(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::collector_config(&service.name),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: CREDENTIALS_VOLUME.into(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(tracing.credentials_secret.clone()),
                optional: Some(true),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        empty_dir(RUN_VOLUME, in_memory),
    ]
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path.into(), read_only: read_only.then_some(true), ..VolumeMount::default() }
}
