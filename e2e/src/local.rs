//! Programs of ours and of others as plain processes on loopback, without a cluster.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::jaeger::Jaeger;
use crate::sandbox::{Settings, jaeger_configuration};
use crate::wait::{self, Look};

/// Longest time that a program may take to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest time that it may take to be ready: a GPU's driver may have to compile for it first.
const READY_PATIENCE: Duration = Duration::from_secs(240);
const TEST_MODEL: &str = "SmolLM2-135M-Instruct-Q8_0.gguf";

/// A process that ends with its owner.
pub struct Local {
    /// `http://127.0.0.1:PORT` for most.
    pub url: String,
    child: Child,
}

/// A Jaeger on free ports of loopback.
pub struct LocalJaeger {
    /// Its query API.
    pub jaeger: Jaeger,
    /// Where it takes OTLP over gRPC.
    pub otlp_grpc: String,
    /// Where it takes OTLP over HTTP.
    pub otlp_http: String,
    _process: Local,
}

impl Local {
    /// Starts `sojourn-engine serve`, the one that `SOJOURN_ENGINE` names or else as it lies beside this program, and waits
    /// until it is ready.
    pub async fn engine(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(engine_program()?);
        command.arg("serve").args(arguments);
        command.envs(environment.iter().copied());
        Self::server(command, "/ready").await
    }

    /// Starts a server that takes `--host` and `--port`, and waits until it answers at `ready`.
    pub async fn server(mut command: Command, ready: &str) -> Result<Self> {
        let port = free_port()?;
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        Self::start(command, format!("http://127.0.0.1:{port}"), ready).await
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("it has ended already")
    }

    /// Ends it as Kubernetes would, and waits.
    pub async fn terminate(mut self) -> Result<()> {
        let pid = self.child.id().context("it has ended already")?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGTERM)?;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        if !status.success() {
            bail!("it ended with {status}");
        }
        Ok(())
    }

    /// Starts a server that listens at `url`, and waits until it answers at `ready`.
    pub async fn start(mut command: Command, url: String, ready: &str) -> Result<Self> {
        let what = format!("{:?}", command.as_std().get_program());
        let child = command.stdin(Stdio::null()).kill_on_drop(true).spawn().with_context(|| format!("cannot start {what}"))?;
        let mut local = Self { url, child };
        let address = format!("{}{ready}", local.url);
        loop_until_ready(&what, &address, &mut local.child).await?;
        Ok(local)
    }
}

async fn loop_until_ready(what: &str, address: &str, child: &mut Child) -> Result<()> {
    let child = tokio::sync::Mutex::new(child);
    wait::quietly(&format!("{what} is ready"), READY_PATIENCE, || async {
        if let Some(status) = child.lock().await.try_wait()? {
            bail!("{what} ended with {status}");
        }
        Ok(match reqwest::get(address).await {
            Ok(response) if response.status().is_success() => Look::Holds(()),
            Ok(response) => Look::NotYet(response.status().to_string()),
            Err(error) => Look::NotYet(error.to_string()),
        })
    })
    .await
}

impl LocalJaeger {
    /// Starts Jaeger; `directory` takes its configuration.
    pub async fn start(program: &Path, directory: &Path) -> Result<Self> {
        let (query, grpc, http, health) = (free_port()?, free_port()?, free_port()?, free_port()?);
        let of_sandbox = jaeger_configuration()?;
        let ports = [(16686, query), (16685, free_port()?), (4317, grpc), (4318, http), (13133, health)];
        let configuration = ports
            .into_iter()
            .fold(of_sandbox, |text, (usual, free)| text.replace(&format!("0.0.0.0:{usual}"), &format!("127.0.0.1:{free}")));
        let file = directory.join("jaeger.yaml");
        std::fs::write(&file, configuration).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&file).arg("--set=service.telemetry.metrics.level=none");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = Local::start(command, format!("http://127.0.0.1:{health}"), "/status").await?;
        Ok(Self {
            jaeger: Jaeger::new(&format!("http://127.0.0.1:{query}")),
            otlp_grpc: format!("http://127.0.0.1:{grpc}"),
            otlp_http: format!("http://127.0.0.1:{http}"),
            _process: process,
        })
    }
}

/// The engine: the one that `SOJOURN_ENGINE` names, or the one beside this program.
pub fn engine_program() -> Result<PathBuf> {
    match std::env::var_os("SOJOURN_ENGINE") {
        Some(path) => Ok(path.into()),
        None => beside_this_program("sojourn-engine"),
    }
}

/// A program of this workspace, compiled into the same directory as this program, or the one above as for tests.
pub fn beside_this_program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let candidates = this.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    candidates
        .into_iter()
        .find(|program| program.exists())
        .with_context(|| format!("{name} is not built; run `cargo build` first"))
}

/// The model to serve: the one that a person named, or the test model that `make model` makes.
pub fn model(named: Option<String>) -> Result<String> {
    let path = match named {
        Some(scripted) if scripted.starts_with("scripted:") => return Ok(scripted),
        Some(path) => PathBuf::from(path),
        None => Settings::from_environment()?.cache.join("models").join(TEST_MODEL),
    };
    if !path.exists() {
        bail!("there is no model at {}: `make model` makes it, and --model names another", path.display());
    }
    Ok(path.to_string_lossy().into_owned())
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
