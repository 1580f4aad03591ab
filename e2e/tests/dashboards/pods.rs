//! Two pods of the service web/chat without a cluster: engine, supervisor and collector as processes, with what the operator
//! renders for them, and a Prometheus that scrapes them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sojourn_contract::journey::{ENGINE_STARTUP, LLM_REQUEST, SIDECAR_PROBE};
use sojourn_contract::sidecar::State;
use sojourn_contract::{env, flag, label, path};
use sojourn_e2e::checkout;
use sojourn_e2e::local::{Local, beside_this_program, free_port};
use sojourn_e2e::prometheus::Prometheus;
use sojourn_e2e::receiver::{Manner, Receiver, traces};
use sojourn_e2e::wait::{self, Look};
use sojourn_journey::trace::Trace;
use sojourn_operator::cli;
use sojourn_operator::reconcile::render::render;
use sojourn_operator::reconcile::validate::validate;
use sojourn_operator::settings::Settings;
use tempfile::TempDir;

use super::PATIENCE;
use super::traffic::Asked;

/// Sequences that run at most.
pub const RUNNING: usize = 2;
/// Sequences that wait beside those for which there is a place in the running set.
const QUEUE: usize = 2;
/// Sequences that wait at most while one runs.
pub const WAITING: usize = QUEUE + RUNNING - 1;
/// Shortest time of a step, in seconds.
pub const STEP: f64 = 0.01;
/// How long a step hangs that is told to, in seconds.
pub const HANG: f64 = 15.0;

/// Everything that runs.
pub struct Pods {
    /// The pod that has a sidecar, and little room for everything.
    pub engine: Local,
    /// A pod whose journeys nobody takes.
    pub refused: Local,
    /// Scrapes both and the sidecar.
    pub prometheus: Prometheus,
    sidecar: Sidecar,
    arrived: Receiver,
    refusing: Receiver,
    of_refused: Receiver,
    files: TempDir,
}

/// What arrived.
pub struct Traces {
    /// Of the pod with the sidecar, as its destination has them.
    pub kept: Vec<Trace>,
    /// Of the other pod, as it sent them.
    pub refused: Vec<Trace>,
}

/// A sidecar's state when nothing is on its way any more.
pub struct Telemetry(State);

impl Telemetry {
    /// A destination's numbers.
    pub fn of(&self, destination: &str) -> &sojourn_contract::sidecar::Destination {
        self.0.destinations.iter().find(|known| known.name == destination).unwrap()
    }

    /// What waits for all destinations, in bytes.
    pub fn queue_bytes(&self) -> f64 {
        self.0.destinations.iter().map(|destination| destination.queue_size as f64).sum()
    }
}

/// The supervisor with its collector; both end with it.
struct Sidecar {
    child: Child,
    listen: SocketAddr,
    otlp: SocketAddr,
    config: PathBuf,
}

impl Drop for Sidecar {
    /// Orderly: a killed supervisor would leave its collector behind.
    fn drop(&mut self) {
        let runs = self.child.try_wait().is_ok_and(|ended| ended.is_none());
        if runs && kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).is_ok() {
            self.child.wait().ok();
        }
    }
}

impl Pods {
    /// Starts everything; Prometheus has seen all of it before anything is asked.
    pub async fn start() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let (arrived, refusing, of_refused) = (Receiver::start().await?, Receiver::start().await?, Receiver::start().await?);
        refusing.answer(Manner::Refuse);
        of_refused.answer(Manner::Refuse);
        let sidecar = Sidecar::start(files.path(), &arrived.url, &refusing.url)?;
        let engine = engine("chat-a", &format!("http://{}", sidecar.otlp)).await?;
        let refused = engine_b(&of_refused.url).await?;
        let targets = [
            ("chat-a", "http", engine.url.trim_start_matches("http://").to_owned()),
            ("chat-a", "telemetry", sidecar.listen.to_string()),
            ("chat-b", "http", refused.url.trim_start_matches("http://").to_owned()),
            // A port of an engine that is none of these is left alone.
            ("chat-c", "admin", refused.url.trim_start_matches("http://").to_owned()),
        ];
        let configuration = scraping(&targets)?;
        let prometheus = Prometheus::start(&program("SOJOURN_PROMETHEUS")?, files.path(), &configuration).await?;
        let pods = Self { engine, refused, prometheus, sidecar, arrived, refusing, of_refused, files };
        pods.are_scraped().await?;
        Ok(pods)
    }

    /// Waits until each of the three is seen.
    async fn are_scraped(&self) -> Result<()> {
        for (seen, count) in [("count(sojourn_build_info)", 2.0), ("count(sojourn_collector_up == 1)", 1.0)] {
            let scraped = super::until(&self.prometheus, seen, |found| found == count).await;
            let log = || std::fs::read_to_string(self.files.path().join("sidecar.log")).unwrap_or_default();
            scraped.with_context(|| format!("the sidecar says:\n{}", log()))?;
        }
        Ok(())
    }

    /// The traces of everything that was asked.
    pub async fn traces(&self, asked: &Asked) -> Result<Traces> {
        let kept = gather(&self.arrived, asked.of_engine(), &[ENGINE_STARTUP, SIDECAR_PROBE]).await?;
        let refused = gather(&self.of_refused, asked.of_refused, &[ENGINE_STARTUP]).await?;
        Ok(Traces { kept, refused })
    }

    /// The sidecar's state once it says the same as what its destinations have seen.
    pub async fn telemetry_at_rest(&self) -> Result<Telemetry> {
        let mut last = State::default();
        wait::quietly("the sidecar has sent what it has", PATIENCE, async || {
            let state: State = reqwest::get(format!("http://{}{}", self.sidecar.listen, path::TELEMETRY)).await?.json().await?;
            let of = |name: &str| state.destinations.iter().find(|known| known.name == name);
            let empty = |name: &str| of(name).is_some_and(|destination| destination.queue_size == 0);
            let done = empty("tempo") && empty("refusing");
            let waits = of("down").is_some_and(|down| down.queue_size > 0);
            let settled = done && waits && numbers(&state) == numbers(&last);
            last = state.clone();
            Ok(if settled { Look::Holds(Telemetry(state)) } else { Look::NotYet(format!("{:?}", state.destinations)) })
        })
        .await
    }

    /// Kills the collector under its supervisor.
    pub fn kill_collector(&self) -> Result<()> {
        let supervisor = self.sidecar.child.id();
        let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"))?;
        let collector = children.split_whitespace().next().context("the supervisor has no child")?;
        Ok(kill(Pid::from_raw(collector.parse()?), Signal::SIGKILL)?)
    }

    /// Puts a configuration in place that no collector runs with.
    pub fn mount_what_the_collector_refuses(&self) -> Result<()> {
        let file = self.sidecar.config.join(path::COLLECTOR_CONFIG_FILE);
        let mut configuration: Value = serde_yaml::from_str(&std::fs::read_to_string(&file)?)?;
        configuration["exporters"]["no-such-exporter/x-01234567"] = json!({});
        let unfinished = self.sidecar.config.join("unfinished");
        std::fs::write(&unfinished, serde_yaml::to_string(&configuration)?)?;
        Ok(std::fs::rename(unfinished, file)?)
    }

    /// Ends what has to end orderly.
    pub async fn end(self) -> Result<()> {
        drop(self.sidecar);
        ensure!(!self.refusing.take()?.is_empty(), "the refusing destination was never asked");
        self.engine.terminate().await?;
        self.refused.terminate().await?;
        Ok(self.files.close()?)
    }
}

fn numbers(state: &State) -> Vec<(u64, u64, u64)> {
    state.destinations.iter().map(|of| (of.sent_spans, of.failed_spans, of.queue_size)).collect()
}

/// Waits until so many journeys and each of these spans are there.
async fn gather(receiver: &Receiver, journeys: usize, also: &[&str]) -> Result<Vec<Trace>> {
    let mut gathered: Vec<Trace> = Vec::new();
    wait::quietly("the journeys have arrived", PATIENCE, async || {
        gathered.extend(receiver.take()?.iter().flat_map(traces));
        let count = |name: &str| gathered.iter().flat_map(|trace| &trace.spans).filter(|span| span.name == name).count();
        let found = count(LLM_REQUEST);
        let missing: Vec<&&str> = also.iter().filter(|name| count(name) == 0).collect();
        let whole = found == journeys && missing.is_empty();
        Ok(if whole { Look::Holds(()) } else { Look::NotYet(format!("{found} of {journeys} journeys, without {missing:?}")) })
    })
    .await?;
    Ok(gathered)
}

async fn engine(pod: &str, otlp: &str) -> Result<Local> {
    let script = format!("scripted:batch=8,block=16,blocks=12,length=120,step_ms={},hang_ms={}", STEP * 1e3, HANG * 1e3);
    let flag = |name: &str, value: &str| format!("--{name}={value}");
    let room = [
        flag(flag::MAX_NUM_SEQS, &RUNNING.to_string()),
        flag(flag::MAX_QUEUE_SIZE, &QUEUE.to_string()),
        flag(flag::KV_CACHE_TOKENS, "192"),
        flag(flag::MAX_MODEL_LEN, "192"),
        flag(flag::SCHEDULING_POLICY, "priority"),
        flag(flag::STEP_STALL_TIMEOUT, "1"),
    ];
    start(&script, pod, otlp, &room).await
}

async fn engine_b(otlp: &str) -> Result<Local> {
    start("scripted:length=8,step_ms=10", "chat-b", otlp, &[]).await
}

/// Starts an engine with the environment that the operator gives it.
async fn start(script: &str, pod: &str, otlp: &str, more: &[String]) -> Result<Local> {
    let resource = format!("service.namespace=web,service.instance.id=web.{pod}.main,k8s.pod.name={pod}");
    let environment = [
        (env::OTEL_SERVICE_NAME, "chat"),
        (env::OTEL_RESOURCE_ATTRIBUTES, resource.as_str()),
        // Each journey travels alone, so that those behind it wait in the queue.
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("RUST_LOG", "error"),
    ];
    let mut arguments = vec![script, "--served-model-name=chat", "--enable-journey-tracing", "--admin-port=0"];
    arguments.extend(["--otlp-traces-endpoint", otlp]);
    arguments.extend(more.iter().map(String::as_str));
    Local::engine(&arguments, &environment).await
}

impl Sidecar {
    fn start(files: &Path, arrived: &str, refusing: &str) -> Result<Self> {
        let [listen, metrics, grpc, http, nobody] = [(); 5].map(|()| free_port());
        let (listen, metrics, grpc, http, nobody) = (listen?, metrics?, grpc?, http?, nobody?);
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let configuration = rendered(tracing(arrived, refusing, nobody))?
            .replace("127.0.0.1:4317", &local(grpc).to_string())
            .replace("127.0.0.1:4318", &local(http).to_string())
            .replace("port: 8888", &format!("port: {metrics}"));
        let directory = |name: &str| {
            let directory = files.join(name);
            std::fs::create_dir(&directory).map(|()| directory)
        };
        let (config, credentials, run) = (directory("config")?, directory("credentials")?, directory("run")?);
        std::fs::write(config.join(path::COLLECTOR_CONFIG_FILE), configuration)?;
        let child = Command::new(beside_this_program("sojourn-sidecar")?)
            .arg("run")
            .arg(format!("--config-dir={}", config.display()))
            .arg(format!("--credentials-dir={}", credentials.display()))
            .arg(format!("--run-dir={}", run.display()))
            .args([format!("--listen={}", local(listen)), format!("--metrics-address={}", local(metrics))])
            .args([format!("--otlp-address={}", local(http)), "--settle-time=1s".into(), "--drain-timeout=1s".into()])
            // Long enough for somebody to see that the collector is down.
            .args(["--backoff=12s", "--shutdown-timeout=3s", "--"])
            .arg(program("SOJOURN_OTELCOL")?)
            .env(env::OTEL_SERVICE_NAME, "chat")
            .env(env::OTEL_RESOURCE_ATTRIBUTES, "service.namespace=web,k8s.pod.name=chat-a")
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(files.join("sidecar.log"))?)
            .spawn()
            .context("cannot start the sidecar")?;
        Ok(Self { child, listen: local(listen), otlp: local(grpc), config })
    }
}

/// A destination that takes everything, one that refuses it, one that is not there, and one whose key is missing.
fn tracing(arrived: &str, refusing: &str, nobody: u16) -> Value {
    json!({
        "sampling": {"rate": "100%", "keep": {"errors": true, "aborted": true, "preempted": true, "firstTokenSlowerThan": "2s"}},
        "destinations": [
            {"name": "tempo", "endpoint": arrived},
            {"name": "refusing", "endpoint": refusing},
            {"name": "down", "endpoint": format!("http://127.0.0.1:{nobody}")},
            {"name": "keyless", "endpoint": arrived, "headers": [{"name": "authorization", "secretKey": "token"}]},
        ],
    })
}

/// The collector's file that the operator renders for a service with this `spec.tracing`.
pub fn rendered(tracing: Value) -> Result<String> {
    let service = json!({
        "apiVersion": "sojourn.dev/v1alpha1", "kind": "InferenceService", "metadata": {"name": "chat", "namespace": "web"},
        "spec": {"model": {"uri": "pvc://models/m.gguf"}, "tracing": tracing},
    });
    let service = validate(&cli::parse(&service.to_string())?.remove(0), &Settings::default())?;
    let config_map = render(&service, &Settings::default())?.config_map.context("tracing is on")?;
    config_map.data.and_then(|mut data| data.remove(path::COLLECTOR_CONFIG_FILE)).context("the ConfigMap has the file")
}

/// The configuration of docs/grafana.md, with what Kubernetes would say of these targets in the place of its discovery.
fn scraping(targets: &[(&str, &str, String)]) -> Result<Value> {
    let page = std::fs::read_to_string(checkout::path("docs/grafana.md"))?;
    let block = page.split("```yaml values\n").find(|block| block.starts_with("scrape_configs:"));
    let block = block.and_then(|block| block.split("\n```").next()).context("docs/grafana.md has a scrape configuration")?;
    let mut configuration: Value = serde_yaml::from_str(block)?;
    let meta = |name: &str| format!("__meta_kubernetes_pod_label_{}", name.replace(['.', '/', '-'], "_"));
    let targets = targets.iter().map(|(pod, port, address)| {
        let labels = json!({
            meta(label::APP_NAME): label::APP_NAME_VALUE,
            meta(label::APP_INSTANCE): "chat",
            "__meta_kubernetes_namespace": "web",
            "__meta_kubernetes_pod_name": pod,
            "__meta_kubernetes_pod_container_port_name": port,
        });
        json!({"targets": [address], "labels": labels})
    });
    let job = configuration["scrape_configs"][0].as_object_mut().context("one job")?;
    job.remove("kubernetes_sd_configs").context("Kubernetes' discovery")?;
    job.insert("static_configs".into(), targets.collect());
    job.insert("scrape_interval".into(), "500ms".into());
    job.insert("scrape_timeout".into(), "500ms".into());
    Ok(configuration)
}

/// The program that a variable of the environment names.
pub fn program(variable: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable).with_context(|| format!("{variable} is not set: `make panels` sets it"))?;
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "{variable} is {}, which is no program: `make panels` sets it", path.display());
    Ok(path)
}
