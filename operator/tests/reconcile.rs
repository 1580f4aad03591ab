//! The whole reconcile against an API server in memory: what it writes, in which order, and when it writes nothing.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

mod api_server;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::controller::Action;
use kube::runtime::watcher;
use serde_json::{Value, json};
use sojourn_operator::cli;
use sojourn_operator::context::Context;
use sojourn_operator::crd::InferenceService;
use sojourn_operator::metrics::Metrics;
use sojourn_operator::reconcile::reconcile;
use sojourn_operator::settings::Settings;
use sojourn_operator::stores::{Writers, stores};
use sojourn_operator::telemetry::Answers;

use api_server::ApiServer;

const CONFIG_MAP: &str = "/api/v1/namespaces/web/configmaps/chat-collector";
const SERVICE: &str = "/api/v1/namespaces/web/services/chat";
const BUDGET: &str = "/apis/policy/v1/namespaces/web/poddisruptionbudgets/chat";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/web/deployments/chat";
const STATUS: &str = "/apis/sojourn.dev/v1alpha1/namespaces/web/inferenceservices/chat/status";

/// An operator on an API server, with watches that the test moves on.
struct World {
    server: Arc<ApiServer>,
    context: Arc<Context>,
    watches: Writers,
    object: InferenceService,
}

fn world(spec: &str) -> World {
    let text = format!(
        "apiVersion: sojourn.dev/v1alpha1\nkind: InferenceService\nmetadata: {{name: chat, namespace: web, uid: own, generation: 1}}\n\
         spec: {{model: {{uri: pvc://models/m.gguf}}{spec}}}\n"
    );
    let server = ApiServer::empty();
    let (readers, watches) = stores();
    let answers = Arc::new(Answers::default());
    let context = Context::new(server.client(), Settings::default(), readers, answers, Arc::new(Metrics::default()));
    World { server, context: Arc::new(context), watches, object: cli::parse(&text).unwrap().remove(0) }
}

impl World {
    /// Reconciles once and answers the requests that it took.
    async fn reconcile(&self) -> Vec<String> {
        let action = reconcile(Arc::new(self.object.clone()), self.context.clone()).await.unwrap();
        let conflict = self.server.get(STATUS).is_some_and(|object| ready(&object)["reason"] == "NameConflict");
        assert_eq!(action == Action::await_change(), !conflict);
        self.server.take_requests()
    }

    /// Lets the watches see what the API server holds.
    fn see(&mut self) {
        let server = &self.server;
        deliver(&mut self.watches.config_maps, server.get(CONFIG_MAP));
        deliver(&mut self.watches.kubernetes_services, server.get(SERVICE));
        deliver(&mut self.watches.disruption_budgets, server.get(BUDGET));
        deliver(&mut self.watches.deployments, server.get(DEPLOYMENT));
        if let Some(object) = server.get(STATUS) {
            self.object.status = serde_json::from_value(object["status"].clone()).unwrap();
        }
    }

    /// Changes the Deployment behind the operator's back.
    fn change_deployment(&mut self, change: impl FnOnce(&mut Deployment)) {
        let mut deployment: Deployment = serde_json::from_value(self.server.get(DEPLOYMENT).unwrap()).unwrap();
        change(&mut deployment);
        self.server.put(DEPLOYMENT, serde_json::to_value(&deployment).unwrap());
        self.see();
    }
}

fn deliver<K>(watch: &mut kube::runtime::reflector::store::Writer<K>, object: Option<Value>)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + 'static,
{
    if let Some(object) = object {
        watch.apply_watcher_event(&watcher::Event::Apply(serde_json::from_value(object).unwrap()));
    }
}

fn ready(object: &Value) -> Value {
    object["status"]["conditions"][0].clone()
}

fn writes(requests: &[String]) -> Vec<&str> {
    requests.iter().map(String::as_str).filter(|request| !request.starts_with("GET ")).collect()
}

#[tokio::test]
async fn a_new_service_gets_its_children_the_configuration_before_the_pods() {
    let world = world(", tracing: {destinations: [{name: tempo, endpoint: 'http://tempo:4317'}]}");
    let requests = world.reconcile().await;
    let patches: Vec<&str> = writes(&requests).into_iter().filter_map(|request| request.strip_prefix("PATCH ")).collect();
    assert_eq!(patches, [CONFIG_MAP, SERVICE, BUDGET, DEPLOYMENT, STATUS]);
    let owner = &world.server.get(DEPLOYMENT).unwrap()["metadata"]["ownerReferences"][0];
    assert_eq!((owner["uid"].as_str(), owner["controller"].as_bool()), (Some("own"), Some(true)));
    assert_eq!(writes(&requests).len(), patches.len(), "a new service is no news: {requests:?}");
}

#[tokio::test]
async fn a_second_reconcile_of_an_unchanged_world_asks_and_writes_nothing() {
    let mut world = world("");
    world.reconcile().await;
    world.see();
    assert_eq!(world.reconcile().await, Vec::<String>::new());
}

#[tokio::test]
async fn defaults_that_the_api_server_adds_are_no_change() {
    let mut world = world("");
    world.reconcile().await;
    world.change_deployment(|deployment| {
        deployment.spec.min_ready_seconds = Some(0);
        let pod = deployment.spec.template.spec.as_mut().unwrap();
        pod.dns_policy = Some("ClusterFirst".into());
        pod.containers[0].termination_message_path = Some("/dev/termination-log".into());
    });
    assert_eq!(world.reconcile().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_somebody_else_changed_is_put_right() {
    let mut world = world("");
    world.reconcile().await;
    world.change_deployment(|deployment| {
        deployment.spec.template.spec.as_mut().unwrap().containers[0].image = Some("other".into());
    });
    assert_eq!(writes(&world.reconcile().await), [format!("PATCH {DEPLOYMENT}")]);
}

#[tokio::test]
async fn a_field_that_is_not_rendered_any_more_is_taken_back() {
    let mut world = world(", nodeSelector: {zone: a}");
    world.reconcile().await;
    world.see();
    world.object.spec.node_selector.clear();
    let requests = world.reconcile().await;
    assert!(requests.contains(&format!("PATCH {DEPLOYMENT}")), "{requests:?}");
}

#[tokio::test]
async fn a_sampling_change_writes_the_configuration_and_leaves_the_pods_alone() {
    let mut world = world("");
    world.reconcile().await;
    world.see();
    let sampling = serde_json::from_value(json!({"sampling": {"rate": "1%"}})).unwrap();
    world.object.spec.tracing = Some(sampling);
    assert_eq!(writes(&world.reconcile().await), [format!("PATCH {CONFIG_MAP}"), format!("PATCH {STATUS}")]);
}

#[tokio::test]
async fn a_name_that_belongs_to_somebody_else_is_never_taken() {
    for owner in [json!(null), json!([{"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "other", "controller": true}])]
    {
        let world = world("");
        let metadata = json!({"name": "chat", "namespace": "web", "ownerReferences": owner});
        world.server.put(SERVICE, json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata}));
        let requests = world.reconcile().await;
        let patches: Vec<&str> = writes(&requests).into_iter().filter(|request| request.starts_with("PATCH ")).collect();
        assert_eq!(patches, [format!("PATCH {STATUS}")]);
        assert!(requests.iter().any(|request| request.starts_with("POST ") && request.ends_with("/events")), "{requests:?}");
        assert_eq!(ready(&world.server.get(STATUS).unwrap())["reason"], "NameConflict");
    }
}

#[tokio::test]
async fn an_object_of_ours_without_an_owner_is_adopted() {
    let mut world = world("");
    world.reconcile().await;
    world.change_deployment(|deployment| deployment.metadata.owner_references = None);
    assert_eq!(writes(&world.reconcile().await), [format!("PATCH {DEPLOYMENT}")]);
    let owner = &world.server.get(DEPLOYMENT).unwrap()["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], "own");
}

#[tokio::test]
async fn tracing_that_is_turned_off_takes_its_configuration_away() {
    let mut world = world("");
    world.reconcile().await;
    world.see();
    world.object.spec.tracing = Some(serde_json::from_value(json!({"enabled": false})).unwrap());
    let requests = world.reconcile().await;
    assert!(requests.contains(&format!("DELETE {CONFIG_MAP}")), "{requests:?}");
}

#[tokio::test]
async fn a_spec_that_cannot_be_rendered_is_told_and_changes_nothing() {
    let world = world(", podTemplate: {spec: {hostnetwork: true}}");
    let requests = world.reconcile().await;
    assert!(!requests.contains(&format!("PATCH {DEPLOYMENT}")), "{requests:?}");
    let condition = ready(&world.server.get(STATUS).unwrap());
    assert_eq!(condition["reason"], "InvalidPodTemplate");
}

#[tokio::test]
async fn a_service_that_is_being_deleted_is_left_to_garbage_collection() {
    let mut world = world("");
    let metadata = json!({"name": "chat", "namespace": "web", "uid": "own", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    world.object.metadata = serde_json::from_value(metadata).unwrap();
    assert_eq!(world.reconcile().await, Vec::<String>::new());
}
