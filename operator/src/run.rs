//! The process: `/readyz` first, then the definition, the lease, the watches, the controller. It ends on a signal, or when
//! the lease is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::admin::{self, Readiness};
use crate::context::Context;
use crate::controller::{self, Scope};
use crate::installed;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::stores::stores;
use crate::telemetry::{self, Answers};

/// Flags of `sojourn-operator run`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What holds for every service.
    #[command(flatten)]
    pub settings: Settings,
    /// Watches only this namespace; repeat it for several. Default: all of them.
    #[arg(long = "watch-namespace", env = "SOJOURN_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Namespace of the lease. Default: the one that the kubeconfig or the pod names.
    #[arg(long, env = "SOJOURN_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Who holds the lease. Default: the host's name.
    #[arg(long, env = "HOSTNAME", default_value = "sojourn-operator", hide_env = true)]
    pub identity: String,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "SOJOURN_ADDRESS", default_value = "0.0.0.0:8080")]
    pub address: SocketAddr,
    /// Seconds between two rounds of asking the sidecars.
    #[arg(long, env = "SOJOURN_TELEMETRY_INTERVAL", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub telemetry_interval: u64,
    /// Reconciles at a time.
    #[arg(long, env = "SOJOURN_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
}

/// Runs until a signal or the loss of the lease.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let readiness = Readiness::default();
    let listener = TcpListener::bind(options.address).await.with_context(|| format!("cannot listen on {}", options.address))?;
    let serving = axum::serve(listener, admin::router(readiness.clone(), metrics.clone()));
    let working = work(options, readiness, metrics);
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    tokio::select! {
        served = async { serving.await } => served.context("cannot serve /readyz"),
        worked = working => worked,
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn work(options: Options, readiness: Readiness, metrics: Arc<Metrics>) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("cannot find a cluster: set KUBECONFIG, or run in a pod")?;
    readiness.await_for("the CustomResourceDefinition");
    installed::wait_for_definition(client.clone(), &readiness).await;
    readiness.await_for("the lease, which another operator holds");
    let namespace = options.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let mut leadership = Leadership::acquire(client.clone(), &namespace, &options.identity).await?;
    tracing::info!(namespace, identity = options.identity, "holds the lease");
    readiness.await_for("the first list of each kind");
    let mut controllers = JoinSet::new();
    let begun: Vec<_> = scopes(&options.watch_namespaces)
        .into_iter()
        .map(|scope| begin(scope, &client, &options, &metrics, &mut controllers))
        .collect();
    let until_ready = async {
        for listed in begun {
            listed.await.context("a watch ended before its first list")?;
        }
        readiness.ready();
        tracing::info!("reconciling");
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        failed = until_ready => failed,
        () = leadership.lost() => bail!("the lease is lost; another operator has taken over"),
        ended = controllers.join_next() => match ended {
            Some(Err(error)) => Err(error).context("a controller failed"),
            _ => bail!("a controller ended"),
        },
    }
}

fn scopes(namespaces: &[String]) -> Vec<Scope> {
    match namespaces {
        [] => vec![Scope::Cluster],
        some => some.iter().cloned().map(Scope::Namespace).collect(),
    }
}

/// Starts everything that works for one scope, and says when its first lists are there.
fn begin(
    scope: Scope,
    client: &Client,
    options: &Options,
    metrics: &Arc<Metrics>,
    controllers: &mut JoinSet<()>,
) -> oneshot::Receiver<()> {
    let (stores, writers) = stores();
    let answers = Arc::new(Answers::default());
    let (requests, queue) = controller::queue();
    let mut watches = controller::watch(&scope, client, writers, &requests);
    let context = Context::new(client.clone(), options.settings.clone(), stores.clone(), answers.clone(), metrics.clone());
    let (interval, concurrency) = (Duration::from_secs(options.telemetry_interval), options.concurrency);
    let (listed, first_lists) = oneshot::channel();
    controllers.spawn(async move {
        // Awaited here alone: a store wakes only the last of those that wait for it.
        if stores.ready().await.is_err() || listed.send(()).is_err() {
            return;
        }
        tokio::select! {
            () = telemetry::ask_in_rounds(stores, answers, interval, requests) => {}
            () = controller::run(Arc::new(context), queue, concurrency) => {}
            _ = watches.join_next() => {}
        }
    });
    first_lists
}
