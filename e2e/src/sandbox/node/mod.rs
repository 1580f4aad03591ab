//! The node: one set of Linux namespaces (network, mounts, processes, host name) in which the cluster's programs run.
//!
//! ```text
//! up ── `node begin` ── unshare ── `node first` (process 1 of the namespaces) ── etcd, containerd, kube-apiserver
//!  │                                 │ holds node.lock for life                 └─ then kube-controller-manager,
//!  └─ link to the host ─────────────▶│ writes components.json                      kube-scheduler, kubelet, kube-proxy
//! ```
//! This module is the host's side: is it alive, start it, kill it, what does it say of itself.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    command::{last_lines, output, program},
    settings::{Settings, write_whole},
};

mod components;
mod configuration;
pub mod first_process;
pub mod layout;
mod plan;
mod root;

pub(super) use plan::Plan;

/// How long a node may take to record itself, or to die.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A process of the host that cannot be mistaken for a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number on the host.
    pub pid: i32,
    /// When it started, clock ticks since the machine's start.
    pub started: u64,
}

impl Record {
    /// The process that has this number now; `None` if none runs.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain anything; the state is the first word behind it, the start the twentieth.
        let mut words = stat.rsplit_once(") ")?.1.split(' ');
        let state = words.next()?;
        let started = words.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, started })
    }

    fn runs(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

/// What the node says of one of its programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the component.
    pub name: String,
    /// How it ended, if it did.
    pub ended: Option<String>,
}

/// The living node's first process; `None` when there is no node.
pub fn living(settings: &Settings) -> Result<Option<Record>> {
    let deadline = Instant::now() + PATIENCE;
    while is_held(&settings.state.join("node.lock"))? {
        if let Some(record) = record(settings).filter(Record::runs) {
            return Ok(Some(record));
        }
        // It has the lock and is about to write its record.
        ensure!(
            Instant::now() < deadline,
            "a process holds {} and does not say which",
            settings.state.join("node.lock").display()
        );
        std::thread::sleep(POLL);
    }
    Ok(None)
}

/// What the node's programs say of themselves; empty when the node has not come that far.
pub fn reports(settings: &Settings) -> Vec<Report> {
    let text = fs::read_to_string(settings.state.join("components.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Fails, with the end of the log, when the node or one of its programs has ended.
pub fn check(settings: &Settings) -> Result<()> {
    if let Some((report, how)) = reports(settings).iter().find_map(|report| Some((report, report.ended.as_ref()?))) {
        let log = settings.log(&report.name);
        bail!("{} ended with {how}; the end of {}:\n{}", report.name, log.display(), tail(&log));
    }
    if living(settings)?.is_none() {
        let log = settings.log("node");
        bail!("the node has ended; the end of {}:\n{}", log.display(), tail(&log));
    }
    Ok(())
}

/// Writes a new cluster's files and starts its node; returns when the first process has recorded itself.
pub(super) async fn start(plan: &Plan) -> Result<Record> {
    write_files(plan)?;
    let settings = &plan.settings;
    let mut begin = program(own_program()?);
    output(begin.args(["node", "begin"]).arg(&settings.state)).await?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(record) = record(settings).filter(Record::runs) {
            return Ok(record);
        }
        tokio::time::sleep(POLL).await;
    }
    let log = settings.log("node");
    bail!("the node did not start; the end of {}:\n{}", log.display(), tail(&log))
}

/// Kills the node, if there is one, and waits until every process of it is gone.
pub(super) async fn stop(settings: &Settings) -> Result<()> {
    let mut doomed = first_processes(&settings.state)?;
    doomed.extend(living(settings)?.or_else(|| record(settings)));
    let deadline = Instant::now() + PATIENCE;
    while let Some(record) = doomed.iter().find(|record| record.runs()) {
        match kill(Pid::from_raw(record.pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context("cannot end the node's first process"),
        }
        ensure!(Instant::now() < deadline, "the node's first process, {}, does not die", record.pid);
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// First processes by their command lines: one whose state directory was deleted under it has no record any more.
fn first_processes(state: &Path) -> Result<Vec<Record>> {
    let tail = format!("\0node\0first\0{}\0", state.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        // A process that has ended meanwhile is none.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.ends_with(tail.as_bytes()) {
            found.extend(Record::of(pid));
        }
    }
    Ok(found)
}

fn write_files(plan: &Plan) -> Result<()> {
    let settings = &plan.settings;
    let credentials = configuration::credentials(settings)?;
    for (name, content) in plan.files.iter().chain(&credentials.files) {
        write_whole(&settings.state.join("etc").join(name), content)?;
    }
    write_whole(&settings.kubeconfig(), &credentials.administrator)?;
    fs::create_dir_all(settings.state.join("log"))?;
    plan.write()
}

/// The `sandbox` program, also when a test or another program of this crate asks.
fn own_program() -> Result<PathBuf> {
    let current = std::env::current_exe().context("cannot find out which program this is")?;
    if current.file_name().is_some_and(|name| name == "sandbox") {
        return Ok(current);
    }
    current
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("sandbox"))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("there is no `sandbox` beside {}: build it with `cargo build`", current.display()))
}

fn record(settings: &Settings) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(settings.state.join("node.lock")).ok()?).ok()
}

fn is_held(lock: &Path) -> Result<bool> {
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", lock.display())),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot look at {}", lock.display())),
    }
}

fn tail(log: &Path) -> String {
    last_lines(&fs::read_to_string(log).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_is_recognised_and_another_is_not() {
        let me = Record::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.runs());
        assert!(!Record { started: me.started + 1, ..me }.runs());
        assert_eq!(Record::of(i32::MAX), None);
    }
}
