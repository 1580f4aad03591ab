//! The container `main`: the engine, its flags, its mounts, its probes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction,
    HostPathVolumeSource, KeyToPath, Lifecycle, LifecycleHandler, PersistentVolumeClaimVolumeSource, Probe,
    ResourceRequirements, SecretKeySelector, SleepAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sojourn_contract::{env, flag, label, path, port};

use super::pod::{PRE_STOP_SECONDS, restricted};
use super::resource_attributes;
use super::service::HTTP;
use crate::names::MODEL_VOLUME;
use crate::reconcile::service::{Accelerator, ModelVolume, Service};

const HOME_VOLUME: &str = "home";
const TMP_VOLUME: &str = "tmp";
const CHAT_TEMPLATE_VOLUME: &str = "chat-template";
/// HOME in the engine's container, with every cache below it.
const HOME: &str = "/home/sojourn";
const CHAT_TEMPLATE_DIR: &str = "/etc/sojourn/chat-template";
const CHAT_TEMPLATE_FILE: &str = "template.jinja";

pub(super) fn container(service: &Service) -> Container {
    Container {
        name: label::ENGINE_CONTAINER.into(),
        image: Some(service.image.clone()),
        args: Some(arguments(service)),
        env: Some(environment(service)),
        ports: Some(vec![ContainerPort {
            name: Some(HTTP.into()),
            container_port: i32::from(port::HTTP),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        // The server answers before the model is loaded: liveness means alive and progressing, so no startup probe is needed.
        liveness_probe: Some(Probe { period_seconds: Some(10), failure_threshold: Some(6), ..probe(path::HEALTH) }),
        readiness_probe: Some(Probe { period_seconds: Some(2), failure_threshold: Some(3), ..probe(path::READY) }),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: PRE_STOP_SECONDS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(resources(service)),
        security_context: Some(restricted()),
        volume_mounts: Some(mounts(service)),
        ..Container::default()
    }
}

/// The engine's volumes: the model, and what it may write into.
pub(super) fn volumes(service: &Service) -> Vec<Volume> {
    let mut model = Volume { name: MODEL_VOLUME.into(), ..Volume::default() };
    match &service.model.volume {
        ModelVolume::Claim(claim_name) | ModelVolume::SharedCache(claim_name) => {
            let claim = PersistentVolumeClaimVolumeSource { claim_name: claim_name.clone(), read_only: None };
            model.persistent_volume_claim = Some(claim);
        }
        ModelVolume::NodeDirectory(directory) => {
            model.host_path = Some(HostPathVolumeSource { path: directory.clone(), type_: Some("Directory".into()) });
        }
        ModelVolume::OwnCache { size_limit } => {
            model.empty_dir = Some(EmptyDirVolumeSource { size_limit: size_limit.clone(), ..EmptyDirVolumeSource::default() });
        }
    }
    let empty =
        |name: &str| Volume { name: name.into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
    let mut volumes = vec![model, empty(HOME_VOLUME), empty(TMP_VOLUME)];
    volumes.extend(service.model.chat_template.as_ref().map(|template| Volume {
        name: CHAT_TEMPLATE_VOLUME.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: template.name.clone(),
            items: Some(vec![KeyToPath { key: template.key.clone(), path: CHAT_TEMPLATE_FILE.into(), ..KeyToPath::default() }]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }));
    volumes
}

fn mounts(service: &Service) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let model = match service.model.volume {
        ModelVolume::Claim(_) | ModelVolume::NodeDirectory(_) => mount(MODEL_VOLUME, path::MODELS, true),
        ModelVolume::SharedCache(_) | ModelVolume::OwnCache { .. } => mount(MODEL_VOLUME, path::MODEL_CACHE, false),
    };
    let mut mounts = vec![model, mount(HOME_VOLUME, HOME, false), mount(TMP_VOLUME, "/tmp", false)];
    if service.model.chat_template.is_some() {
        mounts.push(mount(CHAT_TEMPLATE_VOLUME, CHAT_TEMPLATE_DIR, true));
    }
    mounts
}

fn arguments(service: &Service) -> Vec<String> {
    let engine = &service.engine;
    let device = match service.accelerator {
        Accelerator::Cpu => "cpu",
        Accelerator::Cuda { .. } => "cuda",
    };
    let with = |flag: &str, value: String| Some(format!("--{flag}={value}"));
    let number = |flag: &str, value: Option<i32>| value.map(|value| format!("--{flag}={value}"));
    let cache = match service.model.volume {
        ModelVolume::Claim(_) | ModelVolume::NodeDirectory(_) => None,
        ModelVolume::SharedCache(_) | ModelVolume::OwnCache { .. } => Some(path::MODEL_CACHE.to_owned()),
    };
    let chat_template = service.model.chat_template.as_ref().map(|_| format!("{CHAT_TEMPLATE_DIR}/{CHAT_TEMPLATE_FILE}"));
    let mut arguments = vec!["serve".to_owned(), service.model.location.clone()];
    let flags = [
        with(flag::SERVED_MODEL_NAME, service.model.served_name.clone()),
        with(flag::HOST, "0.0.0.0".into()),
        with(flag::PORT, port::HTTP.to_string()),
        with(flag::DEVICE, device.into()),
        cache.and_then(|directory| with(flag::DOWNLOAD_DIR, directory)),
        with(flag::STARTUP_TIMEOUT, service.startup_seconds.to_string()),
        with(flag::DRAIN_TIMEOUT, service.drain_seconds.to_string()),
        number(flag::MAX_NUM_SEQS, engine.max_num_seqs),
        number(flag::MAX_MODEL_LEN, engine.max_model_len),
        number(flag::KV_CACHE_TOKENS, engine.kv_cache_tokens),
        number(flag::MAX_QUEUE_SIZE, engine.max_queue_size),
        engine.scheduling_policy.and_then(|policy| with(flag::SCHEDULING_POLICY, policy.as_str().into())),
        chat_template.and_then(|path| with(flag::CHAT_TEMPLATE, path)),
    ];
    arguments.extend(flags.into_iter().flatten());
    if let Some(tracing) = &service.tracing {
        let baggage = (!tracing.baggage.is_empty()).then(|| tracing.baggage.join(","));
        arguments.push(format!("--{}", flag::ENABLE_JOURNEY_TRACING));
        arguments.extend(with(flag::OTLP_TRACES_ENDPOINT, format!("http://127.0.0.1:{}", port::OTLP_GRPC)));
        arguments.extend(with(flag::JOURNEY_DETAIL, tracing.detail.as_str().into()));
        arguments.extend(baggage.and_then(|members| with(flag::JOURNEY_BAGGAGE, members)));
    }
    arguments.extend(engine.extra_args.iter().cloned());
    arguments
}

fn environment(service: &Service) -> Vec<EnvVar> {
    let mut environment = resource_attributes::environment(&service.name, label::ENGINE_CONTAINER, &service.image);
    environment.push(resource_attributes::value("HOME", HOME.into()));
    let credentials = service.model.credentials_secret.as_ref();
    environment.extend(credentials.map(|secret| from_secret(env::HF_TOKEN, secret, env::HF_TOKEN)));
    environment.extend(service.api_key.as_ref().map(|secret| from_secret(env::API_KEY, &secret.name, &secret.key)));
    environment
}

/// Not optional: a missing Secret keeps the pod from starting, it never opens the server.
fn from_secret(variable: &str, secret: &str, key: &str) -> EnvVar {
    let selector = SecretKeySelector { name: secret.into(), key: key.into(), optional: None };
    EnvVar {
        name: variable.into(),
        value: None,
        value_from: Some(EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() }),
    }
}

fn resources(service: &Service) -> ResourceRequirements {
    let mut resources = service.resources.clone();
    if let Accelerator::Cuda { resource, .. } = &service.accelerator {
        let limits: &mut BTreeMap<_, _> = resources.limits.get_or_insert_default();
        limits.insert(resource.clone(), Quantity("1".into()));
    }
    resources
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(HTTP.into()),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}
