//! The sandbox: a real Kubernetes of one node on this machine, from pinned modules, without Docker and without the network.
//!
//! ```text
//! up ── prerequisites ── binaries ── images ── node ── link ── load images ── add-ons ── Cluster
//!        (Debian)         (Go, cached)  (cached)  (namespaces)
//! ```
//! Every step looks at what is there before it does anything, so `up` after `up` takes seconds and `up` after a kill goes on.
//! What takes minutes is kept in the cache; the cluster's own state is thrown away by `down`, and by `up` when it finds a
//! cluster without a living node. Root's rights are needed, systemd is not.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context, Result};

mod addons;
mod base_image;
mod binaries;
mod cluster;
mod command;
mod containerd;
mod host;
mod images;
mod models;
pub mod node;
mod own_images;
pub mod pki;
mod prerequisites;
mod progress;
mod settings;
mod wait;
mod zipkin;

pub use addons::{
    BUSYBOX_IMAGE, COLLECTOR_IMAGE, COREDNS_IMAGE, JAEGER_IMAGE, JAEGER_QUERY_PORT, PAUSE_IMAGE, jaeger_configuration,
};
pub use binaries::Binaries;
pub use cluster::Cluster;
pub use images::Image;
pub use models::CLAIM as MODELS_CLAIM;
pub use own_images::{Own, build_own};
pub use progress::{Progress, Step};
pub use settings::{Range, Settings};
pub use zipkin::ZIPKIN_COLLECTOR_IMAGE;

/// What `down` removes of the state directory: all but the lock and the settings that a person may have written.
const STATE_OF_A_CLUSTER: [&str; 12] = [
    "components.json",
    "etc",
    "kubeconfig",
    "log",
    "node.lock",
    "plan.json",
    "plan.unfinished",
    "root",
    "run",
    "tmp",
    "var",
    "settings.unfinished",
];

/// One sandbox of this machine, running or not.
#[derive(Debug, Clone)]
pub struct Sandbox {
    settings: Settings,
}

/// What is there of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Number of the node's first process on the host; `None` when there is no node.
    pub node: Option<i32>,
    /// The node's programs.
    pub components: Vec<node::Report>,
}

impl Status {
    /// Whether there is a node and all of its programs run.
    pub fn is_whole(&self) -> bool {
        self.node.is_some() && !self.components.is_empty() && self.components.iter().all(|report| report.ended.is_none())
    }
}

impl Sandbox {
    /// The sandbox with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The machine's usual sandbox, with the settings of its state directory if it has any.
    pub fn from_environment() -> Result<Self> {
        let usual = Settings::from_environment()?;
        Ok(Self::new(Settings::read(&usual.state)?.unwrap_or(usual)))
    }

    /// The sandbox whose state is in `state`.
    pub fn with_state(state: PathBuf) -> Result<Self> {
        let usual = Settings { state: std::path::absolute(state)?, ..Settings::from_environment()? };
        Ok(Self::new(Settings::read(&usual.state)?.unwrap_or(usual)))
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Installs what the machine lacks, as far as apt can.
    pub async fn install_prerequisites(&self, progress: &Progress) -> Result<()> {
        prerequisites::ensure_installed(progress).await
    }

    /// Builds, or finds in the cache, the cluster's programs.
    pub async fn binaries(&self, progress: &Progress) -> Result<Binaries> {
        Binaries::build(&self.settings.cache, progress).await
    }

    /// Builds, or finds in the cache, everything that takes long.
    pub async fn prepare(&self, progress: &Progress) -> Result<()> {
        let binaries = self.binaries(progress).await?;
        images::of_the_cluster(&self.settings.cache, &binaries, progress).await.map(drop)
    }

    /// Fetches Zipkin's server, or finds it in the cache: a jar that Java 17 or newer runs.
    pub async fn zipkin(&self, progress: &Progress) -> Result<PathBuf> {
        zipkin::server(&self.settings.cache, progress).await
    }

    /// Builds, or finds in the cache, the image of a collector that can send to Zipkin.
    pub async fn zipkin_collector(&self, progress: &Progress) -> Result<Image> {
        zipkin::collector(&self.settings.cache, progress).await
    }

    /// Brings the sandbox up, whatever is there of it already.
    pub async fn up(&self, progress: &Progress) -> Result<Cluster> {
        install_tls_provider();
        let _lock = self.lock(progress).await?;
        self.settings.write()?;
        self.install_prerequisites(progress).await?;
        let binaries = self.binaries(progress).await?;
        let images = images::of_the_cluster(&self.settings.cache, &binaries, progress).await?;
        let node = self.living_node(&binaries, progress).await?;
        host::link::connect(&self.settings, node).await?;

        let cluster = Cluster::connect(&self.settings, binaries.clone()).await?;
        let step = progress.step("starting Kubernetes");
        let control_plane = async {
            cluster.api_server_ready().await?;
            addons::apply(&self.settings, &binaries).await
        };
        let node = async {
            containerd::ready(&self.settings).await?;
            cluster.load_images(&images, progress).await
        };
        tokio::try_join!(control_plane, node)?;
        cluster.node_ready().await?;
        step.done();
        let step = progress.step("starting DNS and Jaeger");
        cluster.add_ons_available().await?;
        node::check(&self.settings)?;
        step.done();
        Ok(cluster)
    }

    /// The running sandbox; an error when it is not up.
    pub async fn connect(&self, progress: &Progress) -> Result<Cluster> {
        install_tls_provider();
        node::check(&self.settings).context("the sandbox is not up: run `sandbox up`")?;
        Cluster::connect(&self.settings, self.binaries(progress).await?).await
    }

    /// Takes the sandbox down: afterwards the machine has no process, mount, namespace, link, route or cgroup of it.
    pub async fn down(&self, progress: &Progress) -> Result<()> {
        let _lock = self.lock(progress).await?;
        self.clear(progress).await
    }

    /// What is there of it.
    pub fn status(&self) -> Result<Status> {
        let node = node::living(&self.settings)?.map(|record| record.pid);
        let components = if node.is_some() { node::reports(&self.settings) } else { Vec::new() };
        Ok(Status { node, components })
    }

    /// The node that lives, is whole and is what it should be, or a new one in place of what is left of an old one.
    async fn living_node(&self, binaries: &Binaries, progress: &Progress) -> Result<node::Record> {
        let plan = node::Plan::new(&self.settings, binaries)?;
        if let Some(record) = node::living(&self.settings)? {
            match node::check(&self.settings) {
                Ok(()) if node::Plan::read(&self.settings.state).as_ref() == Some(&plan) => return Ok(record),
                Ok(()) => progress.say("starting anew, because the node was made from other settings or programs"),
                Err(error) => progress.say(&format!("starting anew, because {error:#}")),
            }
        }
        self.clear(progress).await?;
        node::start(&plan).await
    }

    async fn clear(&self, progress: &Progress) -> Result<()> {
        let step = node::Plan::exists(&self.settings.state).then(|| progress.step("taking down what is there of the sandbox"));
        // What there is may have been made from settings that were changed since.
        let made = node::Plan::read(&self.settings.state).map_or_else(|| self.settings.clone(), |plan| plan.settings);
        node::stop(&self.settings).await?;
        host::link::remove(&made).await?;
        host::cgroup::remove(&made.name).await?;
        for name in STATE_OF_A_CLUSTER {
            remove(&self.settings.state.join(name))?;
        }
        if let Some(step) = step {
            step.done();
        }
        Ok(())
    }

    /// One `up` or `down` of a sandbox at a time; ends with the process that holds it.
    async fn lock(&self, progress: &Progress) -> Result<File> {
        let path = self.settings.state.join("lock");
        fs::create_dir_all(&self.settings.state)?;
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if file.try_lock().is_ok() {
            return Ok(file);
        }
        let step = progress.step("waiting for another `sandbox` to finish");
        let file = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await??;
        step.done();
        Ok(file)
    }
}

/// Two providers are in the dependency tree, so rustls does not choose by itself.
pub fn install_tls_provider() {
    // An error says that there is one already.
    rustls::crypto::ring::default_provider().install_default().ok();
}

fn remove(path: &std::path::Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(what) if what.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}
