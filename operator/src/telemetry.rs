//! Asks the sidecars how they fare: at most [`PODS_A_ROUND`] pods of a service a round, all in turn, by pod IP. The answers
//! are remembered here; what they mean is decided by `reconcile::status`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::UnboundedSender;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use sojourn_contract::sidecar::State;
use sojourn_contract::{label, path, port};

use crate::crd::InferenceService;
use crate::stores::Stores;

/// Pods of one service that are asked in one round.
const PODS_A_ROUND: usize = 8;
/// Questions under way at a time.
const CONCURRENCY: usize = 32;
const TIMEOUT: Duration = Duration::from_secs(3);
const LARGEST_ANSWER: usize = 256 * 1024;

/// What a sidecar said, and what it said the time before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// What it said before; counters mean something by their difference.
    pub previous: Option<State>,
    /// What it said last, or why it could not be asked.
    pub latest: Option<Result<State, String>>,
}

/// Namespace and name of a service.
type ServiceKey = (String, String);
/// A pod's name and what its sidecar said.
type Said = (String, Result<State, String>);

/// What the sidecars of all services said last, by service and pod.
#[derive(Debug, Default)]
pub struct Answers(Mutex<HashMap<ServiceKey, BTreeMap<String, Answer>>>);

impl Answers {
    /// The answers of a service's pods, by the pod's name.
    pub fn of(&self, service: &str, namespace: &str) -> BTreeMap<String, Answer> {
        self.lock().get(&(namespace.to_owned(), service.to_owned())).cloned().unwrap_or_default()
    }

    /// Takes a round's answers and forgets the pods that are gone.
    pub fn remember(&self, service: &str, namespace: &str, living: &[String], round: Vec<Said>) {
        let mut all = self.lock();
        let answers = all.entry((namespace.to_owned(), service.to_owned())).or_default();
        answers.retain(|pod, _| living.contains(pod));
        for (pod, result) in round {
            let answer = answers.entry(pod).or_default();
            if let Some(Ok(before)) = answer.latest.replace(result) {
                answer.previous = Some(before);
            }
        }
    }

    /// Forgets the services that are gone.
    pub fn retain(&self, living: &[ServiceKey]) {
        self.lock().retain(|service, _| living.contains(service));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ServiceKey, BTreeMap<String, Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks in rounds, for ever, and requests a reconcile of each service that was asked.
pub async fn ask_in_rounds(
    stores: Stores,
    answers: Arc<Answers>,
    interval: Duration,
    requests: UnboundedSender<ObjectRef<InferenceService>>,
) {
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    for round in 0_usize.. {
        ask_all(&stores, &answers, &client, round, &requests).await;
        tokio::time::sleep(with_jitter(interval, round)).await;
    }
}

/// Up to a tenth more, so that operators and services do not fall into step.
fn with_jitter(interval: Duration, round: usize) -> Duration {
    const STEPS: u32 = 7;
    let step = (round as u32).wrapping_mul(3) % STEPS;
    interval + interval / 10 * step / STEPS
}

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

async fn ask_all(
    stores: &Stores,
    answers: &Answers,
    client: &HttpClient,
    round: usize,
    requests: &UnboundedSender<ObjectRef<InferenceService>>,
) {
    let services: Vec<Arc<InferenceService>> = stores.services.state();
    let keys: Vec<ServiceKey> = services.iter().map(|service| key(service)).collect();
    answers.retain(&keys);
    let mut questions = Vec::new();
    for (namespace, name) in keys {
        for (pod, address) in turn(running_sidecars(&stores.pods_of(&name, &namespace)), round) {
            questions.push(question(client.clone(), (namespace.clone(), name.clone()), pod, address));
        }
    }
    let results: Vec<_> = futures::stream::iter(questions).buffer_unordered(CONCURRENCY).collect().await;
    let mut by_service: HashMap<ServiceKey, Vec<Said>> = HashMap::new();
    for (service, said) in results {
        by_service.entry(service).or_default().push(said);
    }
    for service in services {
        let (namespace, name) = key(&service);
        let living: Vec<String> = stores.pods_of(&name, &namespace).iter().map(|pod| pod.name_any()).collect();
        let round = by_service.remove(&(namespace.clone(), name.clone())).unwrap_or_default();
        answers.remember(&name, &namespace, &living, round);
        if requests.unbounded_send(ObjectRef::from_obj(service.as_ref())).is_err() {
            return; // The controller has ended.
        }
    }
}

fn key(service: &InferenceService) -> ServiceKey {
    (service.namespace().unwrap_or_default(), service.name_any())
}

/// Name and address of each pod whose sidecar runs.
fn running_sidecars(pods: &[Arc<Pod>]) -> Vec<(String, String)> {
    pods.iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| {
            let status = pod.status.as_ref()?;
            let sidecar = status.init_container_statuses.iter().flatten().find(|c| c.name == label::COLLECTOR_CONTAINER)?;
            sidecar.state.as_ref()?.running.as_ref()?;
            let ip = status.pod_ip.as_ref()?;
            let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
            Some((pod.name_any(), format!("http://{host}:{}{}", port::SIDECAR, path::TELEMETRY)))
        })
        .collect()
}

/// The part of a long list whose turn it is.
fn turn<T>(mut all: Vec<T>, round: usize) -> Vec<T> {
    if all.len() > PODS_A_ROUND {
        let start = (round * PODS_A_ROUND) % all.len();
        all.rotate_left(start);
        all.truncate(PODS_A_ROUND);
    }
    all
}

async fn question(client: HttpClient, service: ServiceKey, pod: String, address: String) -> (ServiceKey, Said) {
    let answer = ask(&client, &address).await;
    (service, (pod, answer))
}

async fn ask(client: &HttpClient, address: &str) -> Result<State, String> {
    let uri = address.parse::<hyper::Uri>().map_err(|error| error.to_string())?;
    let answer = async {
        let response = client.get(uri).await.map_err(|error| chain(&error))?;
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| format!("its answer is not understood: {error}"))
    };
    tokio::time::timeout(TIMEOUT, answer).await.unwrap_or_else(|_| Err(format!("no answer within {}s", TIMEOUT.as_secs())))
}

/// An error with what caused it, which hyper keeps apart.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_has_its_turn() {
        let asked: std::collections::BTreeSet<usize> = (0..5).flat_map(|round| turn((0..20).collect(), round)).collect();
        assert_eq!(asked.len(), 20);
        assert_eq!(turn((0..20).collect(), 1).len(), PODS_A_ROUND);
        assert_eq!(turn(vec![1, 2], 3), [1, 2]);
    }

    /// Serves one text at `/telemetry` and asks for it.
    async fn answer(body: &'static str) -> Result<State, String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}{}", listener.local_addr().unwrap(), path::TELEMETRY);
        let router = axum::Router::new().route(path::TELEMETRY, axum::routing::get(move || async move { body }));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = ask(&client, &address).await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn a_sidecar_is_asked_over_http() {
        let state = answer(r#"{"collector":{"running":true},"destinations":[{"name":"tempo","sentSpans":3}]}"#).await.unwrap();
        assert!(state.collector.running);
        assert_eq!((state.destinations[0].name.as_str(), state.destinations[0].sent_spans), ("tempo", 3));
        let error = answer("hello").await.unwrap_err();
        assert!(error.contains("not understood"), "{error}");
    }

    #[tokio::test]
    async fn a_sidecar_that_does_not_listen_is_an_error_with_its_cause() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/telemetry", listener.local_addr().unwrap());
        drop(listener);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let error = ask(&client, &address).await.unwrap_err();
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn an_answer_keeps_the_one_before_and_dead_pods_are_forgotten() {
        let answers = Answers::default();
        let state = |starts| State {
            collector: sojourn_contract::sidecar::Collector { starts, ..Default::default() },
            ..State::default()
        };
        answers.remember("chat", "a", &["p".into(), "q".into()], vec![("p".into(), Ok(state(1))), ("q".into(), Ok(state(1)))]);
        answers.remember("chat", "a", &["p".into()], vec![("p".into(), Err("timeout".into()))]);
        let kept = answers.of("chat", "a");
        assert_eq!(kept.len(), 1);
        assert_eq!(kept["p"].previous, Some(state(1)));
        assert_eq!(kept["p"].latest, Some(Err("timeout".into())));
    }
}
