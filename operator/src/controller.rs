//! Watches, and one queue of services to reconcile. Every watch writes into its store before it requests a reconcile, so a
//! reconcile never reads less than what caused it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, store::Writer};
use kube::runtime::{WatchStreamExt, applier, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::crd::InferenceService;
use crate::names;
use crate::reconcile::{error_policy, reconcile};
use crate::stores::{Writers, owner_of};

/// Requests for the same service within this time become one reconcile: each of its children answers a write with an event.
const DEBOUNCE: Duration = Duration::from_millis(200);

type Request = ObjectRef<InferenceService>;

/// Which namespaces are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Cluster,
    /// One.
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// Ends of the queue of services to reconcile.
pub fn queue() -> (UnboundedSender<Request>, UnboundedReceiver<Request>) {
    unbounded()
}

/// Starts the watches of a scope: each fills its store and requests reconciles.
pub fn watch(scope: &Scope, client: &Client, writers: Writers, requests: &UnboundedSender<Request>) -> JoinSet<()> {
    let Writers { services, config_maps, kubernetes_services, disruption_budgets, deployments, pods } = writers;
    let managed = watcher::Config::default().labels(names::MANAGED_SELECTOR);
    let mut watches = JoinSet::new();
    let own = reflect(scope.api(client), watcher::Config::default(), services);
    watches.spawn(forward(own, |service| Some(ObjectRef::from_obj(&service)), requests.clone()));
    let children = reflect(scope.api(client), managed.clone(), config_maps);
    watches.spawn(forward(children, |child| owner(&child), requests.clone()));
    let children = reflect(scope.api(client), managed.clone(), kubernetes_services);
    watches.spawn(forward(children, |child| owner(&child), requests.clone()));
    let children = reflect(scope.api(client), managed.clone(), disruption_budgets);
    watches.spawn(forward(children, |child| owner(&child), requests.clone()));
    let children = reflect(scope.api(client), managed.clone(), deployments);
    watches.spawn(forward(children, |child| owner(&child), requests.clone()));
    let pods = reflect(scope.api(client), managed, pods);
    watches.spawn(forward(pods, |pod| owner_of(&pod), requests.clone()));
    watches
}

/// Reconciles what the queue asks for until it ends.
pub async fn run(context: Arc<Context>, queue: UnboundedReceiver<Request>, concurrency: u16) {
    let store = context.stores.services.clone();
    let config = controller::Config::default().concurrency(concurrency).debounce(DEBOUNCE);
    applier(reconcile_boxed, error_policy, context, store, queue.map(Ok::<_, std::convert::Infallible>), config)
        .for_each(|result| async move {
            match result {
                Ok((service, _)) => tracing::debug!(%service, "reconciled"),
                // Deleted between the request and its turn; what it owned goes by garbage collection.
                Err(controller::Error::ObjectNotFound(service)) => tracing::debug!(%service, "gone"),
                Err(controller::Error::ReconcilerFailed(..)) => {} // The error policy has said it.
                Err(error) => tracing::error!(%error, "the queue of reconciles fails"),
            }
        })
        .await;
}

/// The applier wants a future that may be moved.
fn reconcile_boxed(
    object: Arc<InferenceService>,
    context: Arc<Context>,
) -> futures::future::BoxFuture<'static, Result<Action, crate::reconcile::Error>> {
    Box::pin(reconcile(object, context))
}

fn reflect<K>(
    api: Api<K>,
    config: watcher::Config,
    writer: Writer<K>,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    watcher(api, config)
        .default_backoff()
        .modify(|object: &mut K| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects()
}

async fn forward<K>(
    objects: impl Stream<Item = Result<K, watcher::Error>> + Send,
    request: impl Fn(K) -> Option<Request> + Send,
    requests: UnboundedSender<Request>,
) where
    K: Resource<DynamicType = ()>,
{
    let mut objects = std::pin::pin!(objects);
    loop {
        match objects.try_next().await {
            Ok(Some(object)) => {
                let Some(request) = request(object) else { continue };
                if requests.unbounded_send(request).is_err() {
                    return; // The controller has ended.
                }
            }
            Ok(None) => return,
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "a watch is interrupted and begins again"),
        }
    }
}

/// The service that owns a child.
fn owner<K: Resource<DynamicType = ()>>(child: &K) -> Option<Request> {
    let namespace = child.namespace();
    child.owner_references().iter().find_map(|owner| ObjectRef::from_owner_ref(namespace.as_deref(), owner, ()))
}
