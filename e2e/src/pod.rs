//! A pod without a cluster: the real engine with the scripted model, and the real supervisor in front of the real collector,
//! as the operator renders them for an InferenceService, on ports of loopback.
//!
//! What the kubelet and the container would do is done here: command lines and environments are taken from the rendered
//! template, its references filled in; the ConfigMap and the Secret lie in volumes whose `..data` is swapped. What a pod has for
//! itself and a process does not is replaced: the ports, the paths of the volumes, and the memory limit of the control group.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sojourn_contract::sidecar::{Destination, State};
use sojourn_contract::{flag, metric, path};
use sojourn_journey::trace::Trace;
use tempfile::TempDir;
use tokio::process::Command;

use crate::chat::Chat;
use crate::local::{Local, engine_program};
use crate::manifest::Manifest;
use crate::metrics::Page;
use crate::wait::{self, Look};

mod condition;
mod ports;
mod rendered;
mod sidecar;
mod volume;

use condition::Judge;
use ports::Ports;
use rendered::Rendered;
use sidecar::Sidecar;
use volume::Volume;

/// Longest wait for anything; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(90);
/// Longest wait for an answer of the supervisor, as long as the operator's.
const ANSWER: Duration = Duration::from_secs(3);
/// The model that stands where the rendered one would.
const MODEL: &str = "scripted:batch=8,block=16,blocks=65536,length=1000";
/// Variable with the collector's program; `sandbox collector` prints it.
const COLLECTOR: &str = "SOJOURN_OTELCOL";

/// A pod that is not started yet.
pub struct Plan {
    manifest: Manifest,
    model: String,
    engine_flags: Vec<String>,
    sidecar_flags: Vec<String>,
    secret: BTreeMap<String, String>,
}

/// A pod that runs; it ends with it.
pub struct Pod {
    /// The engine's URL.
    pub url: String,
    /// A client of its API.
    pub chat: Chat,
    engine: Local,
    sidecar: Sidecar,
    manifest: Manifest,
    secret: BTreeMap<String, String>,
    ports: Ports,
    judge: Judge,
    config: Volume,
    credentials: Volume,
    _directory: TempDir,
}

impl Plan {
    /// The pod of this InferenceService.
    pub fn of(manifest: Manifest) -> Self {
        let (engine_flags, sidecar_flags, secret) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { manifest, model: MODEL.to_owned(), engine_flags, sidecar_flags, secret }
    }

    /// Another scripted model, `scripted:...`.
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.model);
        self
    }

    /// Flags of the engine, `--name=value`, that the operator does not render or that replace those.
    #[must_use]
    pub fn engine(mut self, flags: &[&str]) -> Self {
        self.engine_flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Flags of the supervisor, likewise.
    #[must_use]
    pub fn supervisor(mut self, flags: &[&str]) -> Self {
        self.sidecar_flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// A key of the credentials Secret.
    #[must_use]
    pub fn secret(mut self, key: &str, value: &str) -> Self {
        self.secret.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Starts the sidecar and the engine, and waits until the engine is ready; the collector may take longer.
    pub async fn start(self) -> Result<Pod> {
        let collector = std::env::var_os(COLLECTOR)
            .filter(|program| !program.is_empty())
            .map(PathBuf::from)
            .with_context(|| format!("set {COLLECTOR} to an OpenTelemetry Collector: `sandbox collector` prints ours"))?;
        let rendered = Rendered::of(&self.manifest)?;
        let (directory, ports) = (tempfile::tempdir()?, Ports::choose()?);
        let config = Volume::new(directory.path().join("config"))?;
        let credentials = Volume::new(directory.path().join("credentials"))?;
        credentials.mount(&self.secret)?;
        config.mount(&mounted(&rendered, &ports, &credentials)?)?;
        let run = directory.path().join("run");
        std::fs::create_dir(&run)?;

        let mut flags = vec![
            format!("--config-dir={}", config.path().display()),
            format!("--credentials-dir={}", credentials.path().display()),
            format!("--run-dir={}", run.display()),
            format!("--listen=127.0.0.1:{}", ports.sidecar),
            format!("--metrics-address=127.0.0.1:{}", ports.metrics),
            format!("--otlp-address=127.0.0.1:{}", ports.otlp_http),
        ];
        // Nothing limits this process: what the control group would say is said by the flag, if by anything.
        if !self.sidecar_flags.iter().any(|flag| flag.starts_with("--memory-limit-bytes")) {
            flags.push(format!("--memory-limit-bytes={}", rendered.memory_limit));
        }
        flags.extend(self.sidecar_flags);
        let log = directory.path().join("sidecar.log");
        let sidecar = Sidecar::start(&rendered, &flags, &collector, log)?;

        let mut command = Command::new(engine_program()?);
        let own = [
            format!("--{}=http://127.0.0.1:{}", flag::OTLP_TRACES_ENDPOINT, ports.otlp_grpc),
            format!("--{}={}", flag::ADMIN_PORT, ports.admin),
        ];
        let flags: Vec<String> = own.into_iter().chain(self.engine_flags).collect();
        command.args(rendered.engine_arguments(&self.model, &flags)?);
        command.env_clear().envs(&rendered.engine_environment);
        let log = std::fs::File::create(directory.path().join("engine.log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let engine = match Local::server(command, path::READY).await {
            Ok(engine) => engine,
            Err(error) => bail!("{error:#}\n{}", tail(&directory, "engine.log")),
        };
        let url = engine.url.clone();
        let chat = Chat::new(&url, "smollm");
        let (manifest, secret, judge) = (self.manifest, self.secret, Judge::default());
        Ok(Pod { url, chat, engine, sidecar, manifest, secret, ports, judge, config, credentials, _directory: directory })
    }
}

/// The ConfigMap's content for this pod's ports and paths.
fn mounted(rendered: &Rendered, ports: &Ports, credentials: &Volume) -> Result<BTreeMap<String, String>> {
    let text = rendered.configuration(ports, credentials.path())?;
    Ok([(path::COLLECTOR_CONFIG_FILE.to_owned(), text)].into())
}

impl Pod {
    /// What the supervisor says of itself.
    pub async fn telemetry(&self) -> Result<State> {
        let address = format!("{}{}", self.sidecar_url(), path::TELEMETRY);
        let request = reqwest::Client::new().get(&address).timeout(ANSWER);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        Ok(answer.with_context(|| format!("cannot ask {address}"))?.json().await?)
    }

    /// What the supervisor says of one destination.
    pub async fn destination(&self, name: &str) -> Result<Destination> {
        let mut destinations = self.telemetry().await?.destinations.into_iter();
        destinations.find(|known| known.name == name).with_context(|| format!("there is no destination {name}"))
    }

    /// Waits until the supervisor's state is such, and answers it.
    pub async fn until(&self, what: &str, is_such: impl Fn(&State) -> bool) -> Result<State> {
        let look = wait::quietly(what, PATIENCE, async || {
            Ok(match self.telemetry().await {
                Ok(state) if is_such(&state) => Look::Holds(state),
                Ok(state) => Look::NotYet(format!("{state:?}")),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        });
        look.await
    }

    /// Waits until the collector runs and takes spans.
    pub async fn until_up(&self) -> Result<State> {
        self.until("the collector runs", |state| state.collector.running).await
    }

    /// The engine's `/metrics`.
    pub async fn engine_metrics(&self) -> Result<Page> {
        Page::scrape(&self.url).await
    }

    /// The supervisor's `/metrics`.
    pub async fn sidecar_metrics(&self) -> Result<Page> {
        Page::scrape(&self.sidecar_url()).await
    }

    /// A journey that the engine itself remembers, whether or not it was kept, by its request's id.
    pub async fn journey(&self, request_id: &str) -> Result<Trace> {
        let address = format!("http://127.0.0.1:{}{}/{request_id}.json", self.ports.admin, path::JOURNEYS);
        let answer = reqwest::get(&address).await.and_then(reqwest::Response::error_for_status);
        let text = answer.with_context(|| format!("the engine does not know {request_id}"))?.text().await?;
        Ok(Trace::read(&text)?.into_iter().next().unwrap_or_default())
    }

    /// Waits until the sidecar has taken the journeys of so many requests, those that it refused included.
    pub async fn until_exported(&self, requests: u64) -> Result<()> {
        wait::quietly(&format!("the sidecar has {requests} journeys"), PATIENCE, async || {
            let page = self.engine_metrics().await?;
            let ended = [metric::JOURNEYS_EXPORTED, metric::JOURNEYS_DROPPED].map(|metric| page.sum(&metric.series(), &[]));
            let found = ended[0] + ended[1];
            Ok(if found >= requests as f64 { Look::Holds(()) } else { Look::NotYet(format!("it has {found}")) })
        })
        .await
    }

    /// Waits until nothing waits in the collector any more.
    pub async fn until_drained(&self) -> Result<()> {
        wait::quietly("the export queues are empty", PATIENCE, async || {
            let page = Page::scrape(&format!("http://127.0.0.1:{}", self.ports.metrics)).await?;
            let waiting = page.sum("otelcol_exporter_queue_size", &[]);
            Ok(if waiting == 0.0 { Look::Holds(()) } else { Look::NotYet(format!("{waiting} bytes wait")) })
        })
        .await
    }

    /// Applies another InferenceService: what is hot of it reaches the volume as the kubelet does it.
    pub fn apply(&mut self, manifest: Manifest) -> Result<()> {
        let files = mounted(&Rendered::of(&manifest)?, &self.ports, &self.credentials)?;
        self.manifest = manifest;
        self.config.mount(&files)
    }

    /// Waits until the newest mounted configuration is in effect.
    pub async fn until_in_effect(&self) -> Result<State> {
        let revision = self.config.revision(path::COLLECTOR_CONFIG_FILE)?;
        self.until("the new configuration is in effect", |state| {
            state.collector.running && state.collector.revision == revision && state.collector.refused.is_none()
        })
        .await
    }

    /// Mounts any text as the collector's configuration.
    pub fn mount_configuration(&self, text: &str) -> Result<()> {
        self.config.mount(&[(path::COLLECTOR_CONFIG_FILE.to_owned(), text.to_owned())].into())
    }

    /// Sets a key of the credentials Secret, or removes it.
    pub fn change_secret(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        match value {
            Some(value) => drop(self.secret.insert(key.to_owned(), value.to_owned())),
            None => drop(self.secret.remove(key)),
        }
        self.credentials.mount(&self.secret)
    }

    /// What the operator makes of it: status, reason and message of TelemetryReady, from what the sidecar says now and what
    /// it said when it was last asked.
    pub async fn telemetry_ready(&mut self) -> Result<(String, String, String)> {
        let said = self.telemetry().await.map_err(|error| format!("{error:#}"));
        self.judge.hear(said);
        self.judge.judge(&self.manifest)
    }

    /// The engine's process id.
    pub fn engine_pid(&self) -> Result<u32> {
        self.engine.pid()
    }

    /// The supervisor's process id.
    pub fn supervisor_pid(&self) -> Result<u32> {
        self.sidecar.pid()
    }

    /// The running collector's process id.
    pub fn collector_pid(&self) -> Result<u32> {
        self.sidecar.collector_pid()
    }

    /// What supervisor and collector logged so far.
    pub fn sidecar_log(&self) -> Result<String> {
        self.sidecar.log()
    }

    /// Ends it in the kubelet's order: first the engine, then the sidecar, each as it wants to end.
    pub async fn end(self) -> Result<()> {
        self.engine.terminate().await.context("the engine")?;
        self.sidecar.terminate().await.context("the sidecar")
    }

    fn sidecar_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.sidecar)
    }
}

/// The last lines of a log.
fn tail(directory: &TempDir, name: &str) -> String {
    let text = std::fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
