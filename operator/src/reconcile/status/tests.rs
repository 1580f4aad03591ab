use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sojourn_contract::sidecar::{Collector, Destination, State};

use super::*;
use crate::cli;
use crate::reconcile::render::{Children, render};
use crate::reconcile::validate::validate;
use crate::settings::Settings;
use crate::telemetry::Answer;

/// A service, its children, and a cluster that the test fills.
struct Case {
    object: InferenceService,
    service: Service,
    children: Children,
    world: World,
}

fn service(spec: &str) -> Case {
    service_of("uri: pvc://models/m.gguf", spec)
}

fn service_of(model: &str, spec: &str) -> Case {
    let text = format!(
        "apiVersion: sojourn.dev/v1alpha1\nkind: InferenceService\nmetadata: {{name: chat, namespace: web, uid: u, generation: 3}}\n\
         spec: {{model: {{{model}}}, tracing: {{destinations: [{{name: tempo, endpoint: 'http://t:4317'}}]}}, {spec}}}\n"
    );
    let settings = Settings::default();
    let object = cli::parse(&text).unwrap().remove(0);
    let service = validate(&object, &settings).unwrap();
    let children = render(&service, &settings).unwrap();
    let world = World { deployment: Some(Arc::new(children.deployment.clone())), ..World::default() };
    Case { object, service, children, world }
}

impl Case {
    fn status(&self) -> InferenceServiceStatus {
        self.status_at(1000)
    }

    fn status_at(&self, second: i64) -> InferenceServiceStatus {
        let understood = Some((&self.service, self.children.revision.as_str()));
        let seen = Seen { object: &self.object, understood, problem: None, world: &self.world };
        compute(&seen, Timestamp::from_second(second).unwrap())
    }

    fn condition(&self, type_: &str) -> (String, String, String) {
        let status = self.status();
        let condition = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    }

    /// Adds a pod of the service's revision.
    fn with_pod(mut self, name: &str, status: Value) -> Self {
        let revision = self.children.revision.clone();
        self.world.pods.push(Arc::new(pod(name, &revision, status)));
        self
    }

    fn with_pod_of(mut self, revision: &str, name: &str, status: Value) -> Self {
        self.world.pods.push(Arc::new(pod(name, revision, status)));
        self
    }

    fn with_deployment_condition(mut self, condition: Value) -> Self {
        let mut deployment: Deployment = self.children.deployment.clone();
        deployment.status = Some(serde_json::from_value(json!({"conditions": [condition]})).unwrap());
        self.world.deployment = Some(Arc::new(deployment));
        self
    }

    fn with_answer(mut self, pod: &str, previous: Option<State>, latest: Result<State, String>) -> Self {
        self.world.answers.insert(pod.into(), Answer { previous, latest: Some(latest) });
        self
    }
}

fn pod(name: &str, revision: &str, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "web", "labels": {"sojourn.dev/revision": revision}},
        "spec": {"containers": []},
        "status": status,
    }))
    .unwrap()
}

fn ready() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

fn engine(state: Value, last_state: Value) -> Value {
    json!({"phase": "Running", "containerStatuses": [{
        "name": "main", "image": "engine:dev", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last_state,
    }]})
}

fn unscheduled(message: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]})
}

/// Asserts Ready's reason and a part of its message.
fn check(case: &Case, reason: &str, part: &str) {
    let (status, found, message) = case.condition(READY);
    assert_eq!((status.as_str(), found.as_str()), (if reason == "Serving" { "True" } else { "False" }, reason), "{message}");
    assert!(message.contains(part), "{message}");
}

#[test]
fn a_service_is_ready_when_every_replica_serves_its_revision() {
    let one = service("replicas: 2").with_pod("a", ready());
    check(&one, "Loading", "");
    check(&one.with_pod("b", ready()), "Serving", "every replica");
}

#[test]
fn pods_of_an_older_revision_do_not_count() {
    let case = service("replicas: 1").with_pod_of("older", "a", ready());
    check(&case, "Loading", "an older revision goes on serving");
    assert_eq!(case.status().ready_replicas, 1);
}

#[test]
fn a_collector_that_breaks_does_not_unready_the_service() {
    let case = service("replicas: 1").with_pod("a", ready()).with_answer("a", None, Err("connection refused".into()));
    check(&case, "Serving", "");
    assert_eq!(case.condition(TELEMETRY_READY).1, "Unknown");
}

#[test]
fn a_suspended_service_says_so() {
    check(&service("suspend: true"), "Suspended", "spec.suspend");
    check(&service("replicas: 0"), "Suspended", "spec.replicas is 0");
}

#[test]
fn a_pending_pod_says_what_it_waits_for() {
    let gpu = "gpu: {count: 1}";
    let no_gpu = unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.");
    check(&service(gpu).with_pod("a", no_gpu), "WaitingForGPU", "nvidia.com/gpu");
    let claim = unscheduled("0/3 nodes are available: 3 cannot allocate all claims.");
    check(&service(gpu).with_pod("a", claim), "WaitingForGPU", "ResourceClaim");
    let cpu = unscheduled("0/3 nodes are available: 3 Insufficient cpu.");
    check(&service("").with_pod("a", cpu), "Unschedulable", "Insufficient cpu");
    let claim = unscheduled("0/1 nodes are available: persistentvolumeclaim \"models\" not found.");
    check(&service("").with_pod("a", claim.clone()), "ModelNotFound", "PersistentVolumeClaim models");
    let cache = service_of("uri: 'hf://org/repo', cache: {claimName: models}", "");
    check(&cache.with_pod("a", claim), "Unschedulable", "leave spec.model.cache.claimName out");
}

#[test]
fn a_model_that_outgrows_its_cache_is_no_endless_loading() {
    let evicted = json!({
        "phase": "Failed",
        "reason": "Evicted",
        "message": "Usage of EmptyDir volume \"model\" exceeds the limit \"1Gi\". ",
    });
    let case = service_of("uri: 'hf://org/repo', cache: {sizeLimit: 1Gi}", "")
        .with_pod("a", evicted)
        .with_pod("b", engine(json!({"running": {}}), json!({})));
    check(&case, "ModelLoadFailed", "larger than spec.model.cache.sizeLimit");
    check(&case.with_pod("c", ready()), "Serving", "every replica serves");
}

#[test]
fn a_model_that_is_downloaded_is_named_while_it_comes() {
    let case = service_of("uri: 'hf://org/repo@v1'", "").with_pod("a", engine(json!({"running": {}}), json!({})));
    check(&case, "Loading", "downloads and loads hf://org/repo@v1");
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_also_the_sidecars() {
    let status = json!({"phase": "Pending", "initContainerStatuses": [{
        "name": "collector", "image": "otelcol:nope", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}},
    }]});
    check(&service("").with_pod("a", status), "ImagePullFailed", "image otelcol:nope of container collector");
}

#[test]
fn a_missing_secret_is_told_in_the_kubelets_words() {
    let waiting = json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"keys\" not found"}});
    check(&service("").with_pod("a", engine(waiting, json!({}))), "InvalidConfiguration", "secret \"keys\" not found");
}

#[test]
fn an_engine_says_itself_why_it_ended() {
    let cases = [
        ("ModelNotFound", "ModelNotFound"),
        ("ModelLoadFailed", "ModelLoadFailed"),
        ("OutOfMemory", "OutOfMemory"),
        ("InvalidConfiguration", "InvalidConfiguration"),
        ("DeviceUnavailable", "DeviceUnavailable"),
        ("UnsupportedDevice", "UnsupportedDevice"),
        ("UnsupportedCpu", "UnsupportedDevice"),
        ("AddressInUse", "Crashing"),
        ("Internal", "Crashing"),
    ];
    for (word, reason) in cases {
        let line = format!("{{\"reason\":\"{word}\",\"message\":\"because of that\"}}\n");
        let end = json!({"terminated": {"exitCode": 66, "message": line}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        check(&service("").with_pod("a", engine(waiting, end.clone())), reason, "pod a: because of that");
        // Between two crashes it runs; the reason does not come and go.
        check(&service("").with_pod("a", engine(json!({"running": {}}), end)), reason, "because of that");
    }
}

#[test]
fn an_engine_without_last_words_crashes_or_was_killed_for_memory() {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    check(&service("").with_pod("a", engine(waiting.clone(), killed)), "OutOfMemory", "spec.resources.limits.memory");
    let died = json!({"terminated": {"exitCode": 101, "reason": "Error"}});
    check(&service("").with_pod("a", engine(waiting, died)), "Crashing", "exit code 101");
}

#[test]
fn an_engine_that_finds_no_driver_says_what_to_check() {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let unloadable = json!({"terminated": {"exitCode": 127, "reason": "Error"}});
    let on_gpu = |end: &Value| service("gpu: {count: 1}").with_pod("a", engine(waiting.clone(), end.clone()));
    check(&on_gpu(&unloadable), "DeviceUnavailable", "spec.gpu.runtimeClassName");
    let hook = "OCI runtime create failed: nvidia-container-cli: initialization error: nvml error: driver not loaded";
    let refused = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": hook}});
    check(&on_gpu(&refused), "DeviceUnavailable", "driver not loaded");
    // The same ends without a GPU, and others with one, have nothing to do with a driver.
    check(&service("").with_pod("a", engine(waiting.clone(), unloadable)), "Crashing", "exit code 127");
    let other = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: no such file"}});
    check(&on_gpu(&other), "Crashing", "exit code 128");
}

#[test]
fn loading_turns_into_stalled_when_the_rollout_is_late() {
    let case = service("").with_pod("a", engine(json!({"running": {}}), json!({})));
    check(&case, "Loading", "loads the model");
    let late = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
    check(&case.with_deployment_condition(late), "StartupStalled", "spec.startup.timeout");
}

#[test]
fn pods_that_the_api_server_refuses_are_told_apart() {
    let failure =
        |message: &str| json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message});
    let quota = failure("pods \"chat-1\" is forbidden: exceeded quota: small, requested: memory=1Gi");
    check(&service("").with_deployment_condition(quota), "QuotaExceeded", "exceeded quota: small");
    let security = failure("pods \"chat-1\" is forbidden: violates PodSecurity \"restricted:latest\": hostPath volumes");
    check(&service("").with_deployment_condition(security), "InvalidConfiguration", "violates PodSecurity");
}

#[test]
fn the_worst_pod_is_named() {
    let died = json!({"terminated": {"exitCode": 101, "reason": "Error"}});
    let case = service("replicas: 3")
        .with_pod("a", engine(json!({"running": {}}), json!({})))
        .with_pod("b", engine(json!({"running": {}}), died))
        .with_pod("c", unscheduled("Insufficient cpu"));
    check(&case, "Crashing", "pod b: ");
}

#[test]
fn the_status_says_where_what_and_which() {
    let status = service("replicas: 1").with_pod("a", ready()).status();
    assert_eq!(status.url.as_deref(), Some("http://chat.web.svc:8000/v1"));
    assert_eq!(status.selector.as_deref(), Some("app.kubernetes.io/instance=chat,app.kubernetes.io/name=sojourn-engine"));
    assert_eq!((status.replicas, status.ready_replicas, status.observed_generation), (1, 1, Some(3)));
    assert_eq!(status.sampling.as_deref(), Some("100% + errors, aborted, preempted"));
    let applied = status.applied.unwrap();
    assert_eq!(applied.engine_image, Some(Settings::default().engine_image_cpu));
    assert_eq!(applied.collector_image, Some(Settings::default().collector_image));
}

#[test]
fn an_unchanged_world_gives_an_unchanged_status() {
    let mut case = service("replicas: 1").with_pod("a", unscheduled("0/3 nodes are available"));
    let first = case.status_at(1000);
    case.object.status = Some(first.clone());
    assert_eq!(case.status_at(2000), first);
    // Details that only vary are no transition.
    case.world.pods = vec![Arc::new(pod("a", &case.children.revision, unscheduled("0/4 nodes are available")))];
    assert_eq!(case.status_at(3000), first);
    assert!(transitions(Some(&first), &case.status_at(3000)).is_empty());
}

#[test]
fn each_transition_is_an_event() {
    let mut case = service("replicas: 1").with_pod("a", unscheduled("0/3 nodes are available"));
    let first = case.status_at(1000);
    case.object.status = Some(first.clone());
    case.world.pods = vec![Arc::new(pod("a", &case.children.revision, ready()))];
    let second = case.status_at(2000);
    let events = transitions(Some(&first), &second);
    assert_eq!(events.iter().map(|event| event.reason.as_str()).collect::<Vec<_>>(), ["Serving"]);
    assert_eq!(second.conditions[0].last_transition_time.0.as_second(), 2000);
    assert_eq!(second.conditions[1].last_transition_time.0.as_second(), 1000);
}

#[test]
fn a_problem_of_the_spec_keeps_what_was_known() {
    let mut case = service("replicas: 1").with_pod("a", ready());
    case.object.status = Some(case.status());
    let problem = Problem { reason: ReadyReason::InvalidPodTemplate, message: "spec.podTemplate: unknown field x".into() };
    let seen = Seen { object: &case.object, understood: None, problem: Some(&problem), world: &case.world };
    let status = compute(&seen, Timestamp::from_second(5).unwrap());
    assert_eq!(status.conditions[0].reason, "InvalidPodTemplate");
    assert_eq!(status.revision, Some(case.children.revision.clone()));
    assert!(status.sampling.is_some());
}

// === telemetry ===

fn exporting() -> Destination {
    Destination {
        name: "tempo".into(),
        sent_spans: 10,
        queue_capacity: 1000,
        seconds_since_sent: Some(5),
        ..Destination::default()
    }
}

fn state(destination: Destination) -> State {
    State { collector: Collector { running: true, ..Collector::default() }, destinations: vec![destination] }
}

/// TelemetryReady of a service with one pod that gave these answers.
fn telemetry(previous: Option<State>, latest: Result<State, String>) -> (String, String, String) {
    service("replicas: 1").with_pod("a", ready()).with_answer("a", previous, latest).condition(TELEMETRY_READY)
}

#[test]
fn what_the_next_hop_acknowledges_is_ready() {
    assert_eq!(telemetry(None, Ok(state(exporting()))).1, "Exporting");
    assert_eq!(telemetry(None, Ok(state(exporting()))).0, "True");
    let nothing_yet = Destination { sent_spans: 0, seconds_since_sent: None, ..exporting() };
    assert_eq!(telemetry(None, Ok(state(nothing_yet))).1, "Unknown");
}

#[test]
fn a_destination_that_does_not_take_spans_is_named_with_its_error() {
    let waiting = Destination { queue_size: 10, seconds_since_sent: Some(120), ..exporting() };
    let with_error = |error: &str| Destination { last_error: Some(error.into()), ..waiting.clone() };
    let (status, reason, message) = telemetry(None, Ok(state(with_error("dial tcp: connection refused"))));
    assert_eq!((status.as_str(), reason.as_str()), ("False", "DestinationUnreachable"));
    assert!(message.starts_with("pod a, destination tempo: dial tcp"), "{message}");
    assert_eq!(telemetry(None, Ok(state(with_error("rpc error: code = Unauthenticated")))).1, "DestinationRefused");
    assert_eq!(telemetry(None, Ok(state(with_error("responded with HTTP Status Code 401")))).1, "DestinationRefused");
    assert_eq!(telemetry(None, Ok(state(with_error("403 Forbidden: no")))).1, "DestinationRefused");
    let address = "Post \"http://10.4.0.1:4010/v1/traces\": dial tcp 10.4.0.401:400: connect: connection refused";
    assert_eq!(telemetry(None, Ok(state(with_error(address)))).1, "DestinationUnreachable", "an address is no status code");
    assert_eq!(telemetry(None, Ok(state(waiting))).1, "QueueGrowing");
    let full = Destination { queue_size: 600, ..exporting() };
    assert_eq!(telemetry(None, Ok(state(full))).1, "QueueGrowing");
}

#[test]
fn an_old_error_of_a_destination_that_takes_spans_again_is_over() {
    let recovered = Destination { last_error: Some("connection refused".into()), ..exporting() };
    assert_eq!(telemetry(None, Ok(state(recovered))).1, "Exporting");
}

#[test]
fn only_new_losses_count() {
    let lost = Destination { failed_spans: 7, ..exporting() };
    assert_eq!(telemetry(Some(state(lost.clone())), Ok(state(lost.clone()))).1, "Exporting");
    assert_eq!(telemetry(Some(state(exporting())), Ok(state(lost.clone()))).1, "Dropping");
    let refused = Destination { last_error: Some("HTTP Status Code 401".into()), ..lost };
    assert_eq!(telemetry(Some(state(exporting())), Ok(state(refused))).1, "DestinationRefused");
}

#[test]
fn a_missing_key_is_named() {
    let left_out = Destination { missing_keys: vec!["token".into()], ..Destination::default() };
    let (_, reason, message) = telemetry(None, Ok(state(left_out)));
    assert_eq!(reason, "DestinationRefused");
    assert!(message.contains("lacks token"), "{message}");
}

#[test]
fn a_collector_that_does_not_run_or_refuses_its_file_is_told() {
    let down =
        State { collector: Collector { last_error: Some("port is taken".into()), ..Collector::default() }, ..State::default() };
    let (_, reason, message) = telemetry(None, Ok(down));
    assert_eq!(reason, "CollectorDown");
    assert!(message.contains("port is taken"), "{message}");
    let mut refused = state(exporting());
    refused.collector.refused = Some("unknown exporter".into());
    assert_eq!(telemetry(None, Ok(refused)).1, "ConfigurationRefused");
}

#[test]
fn without_tracing_or_destination_there_is_nothing_to_ask() {
    let mut case = service("");
    case.service.tracing = None;
    assert_eq!(case.condition(TELEMETRY_READY).1, "Disabled");
    let mut case = service("");
    case.service.tracing.as_mut().unwrap().destinations.clear();
    let (status, reason, _) = case.condition(TELEMETRY_READY);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoDestination"));
    assert_eq!(service("").condition(TELEMETRY_READY).1, "Unknown");
}

#[test]
fn the_worst_sidecar_decides() {
    let case = service("replicas: 2").with_pod("a", ready()).with_pod("b", ready());
    let unreachable =
        Destination { sent_spans: 0, seconds_since_sent: None, last_error: Some("no such host".into()), ..exporting() };
    let case = case.with_answer("a", None, Ok(state(exporting()))).with_answer("b", None, Ok(state(unreachable)));
    let (_, reason, message) = case.condition(TELEMETRY_READY);
    assert_eq!(reason, "DestinationUnreachable");
    assert!(message.starts_with("pod b"), "{message}");
    assert_eq!(
        case.world.answers.keys().collect::<Vec<_>>(),
        BTreeMap::from([("a", ()), ("b", ())]).keys().collect::<Vec<_>>()
    );
}
