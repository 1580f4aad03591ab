//! The loop that joins the decisions to the collector, the mounted files, the signals and the clock.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use sojourn_contract::sidecar;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::effective::{Effective, render};
use crate::ledger::Ledger;
use crate::mount::{self, Mounted, Unreadable};
use crate::observe::{Endpoints, observe};
use crate::probe::{self, Probe};
use crate::process::{self, Process, Word};
use crate::serve::serve;
use crate::state::describe;
use crate::supervise::Supervisor;
use crate::supervise::event::{Action, End, Event, Observation, Timing};

/// Pause between two looks at the collector while nothing changes.
const CALM: Duration = Duration::from_secs(1);
/// Pause between two looks while something does.
const BUSY: Duration = Duration::from_millis(200);
/// Signals that go on to the collector; the others end the supervisor or mean nothing to it.
const FORWARDED: [(SignalKind, Signal); 4] = [
    (SignalKind::hangup(), Signal::SIGHUP),
    (SignalKind::quit(), Signal::SIGQUIT),
    (SignalKind::user_defined1(), Signal::SIGUSR1),
    (SignalKind::user_defined2(), Signal::SIGUSR2),
];

/// What to run, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The collector's command; `--config=FILE` is appended.
    pub command: Vec<String>,
    /// The mounted configuration.
    pub config_dir: PathBuf,
    /// The mounted credentials.
    pub credentials_dir: PathBuf,
    /// Where the collector's file is written.
    pub run_dir: PathBuf,
    /// Where the state is served.
    pub listen: SocketAddr,
    /// Where the collector listens.
    pub endpoints: Endpoints,
    /// Memory limit of the container, bytes.
    pub memory_limit: Option<u64>,
    /// How long things may take.
    pub timing: Timing,
}

/// Runs until a SIGTERM or SIGINT is answered; an error only where the signals cannot be received at all.
pub async fn run(options: Options) -> std::io::Result<()> {
    process::adopt_orphans();
    let (signal_sender, mut signals) = mpsc::channel(16);
    for (kind, name) in
        FORWARDED.into_iter().chain([(SignalKind::terminate(), Signal::SIGTERM), (SignalKind::interrupt(), Signal::SIGINT)])
    {
        forward(kind, name, signal_sender.clone())?;
    }
    let mut children = signal(SignalKind::child())?;
    let (word_sender, mut words) = mpsc::channel(1024);
    let (look_sender, mut looks) = mpsc::channel(1);
    let (state_sender, state) = watch::channel(sidecar::State::default());
    let server = tokio::spawn(serve(options.listen, state));

    let mut sidecar = Sidecar::new(options, word_sender);
    let mut next = tokio::time::Instant::now();
    while !sidecar.is_over {
        tokio::select! {
            Some(signal) = signals.recv() => sidecar.signalled(signal),
            Some(()) = children.recv() => sidecar.reap(),
            Some(word) = words.recv() => sidecar.hear(word),
            Some(look) = looks.recv() => sidecar.see(look),
            () = tokio::time::sleep_until(next) => {
                sidecar.tick();
                sidecar.look(&look_sender);
                next = tokio::time::Instant::now() + CALM;
            }
        }
        if sidecar.supervisor.is_busy() {
            next = next.min(tokio::time::Instant::now() + BUSY);
        }
        state_sender.send_replace(sidecar.describe());
    }
    server.abort();
    Ok(())
}

/// Sends a signal's name each time that it arrives.
fn forward(kind: SignalKind, name: Signal, sender: mpsc::Sender<Signal>) -> std::io::Result<()> {
    let mut stream = signal(kind)?;
    tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(name).await.is_ok() {} });
    Ok(())
}

/// Everything that the loop holds.
struct Sidecar {
    options: Options,
    words: mpsc::Sender<Word>,
    supervisor: Supervisor,
    ledger: Ledger,
    resource: Vec<(String, String)>,
    mounted: Option<Result<Mounted, Unreadable>>,
    process: Option<Process>,
    is_looking: bool,
    last_error: Option<String>,
    error_of_run: Option<String>,
    fault_of_run: Option<String>,
    unstartable: BTreeSet<String>,
    is_over: bool,
}

impl Sidecar {
    fn new(options: Options, words: mpsc::Sender<Word>) -> Self {
        Self {
            supervisor: Supervisor::new(options.timing.clone(), options.memory_limit),
            options,
            words,
            ledger: Ledger::default(),
            resource: probe::resource_of_environment(),
            mounted: None,
            process: None,
            is_looking: false,
            last_error: None,
            error_of_run: None,
            fault_of_run: None,
            unstartable: BTreeSet::new(),
            is_over: false,
        }
    }

    fn describe(&self) -> sidecar::State {
        describe(&self.supervisor, &self.ledger, self.last_error.as_deref(), Instant::now())
    }

    fn signalled(&mut self, signal: Signal) {
        info!(%signal, "received a signal");
        match (signal, &self.process) {
            (Signal::SIGTERM | Signal::SIGINT, _) => self.handle(Event::Shutdown),
            (other, Some(process)) => process.signal(other),
            (_, None) => {}
        }
    }

    fn reap(&mut self) {
        for (pid, ending) in process::reap() {
            let Some(process) = &mut self.process else { continue };
            if process.ended(pid, &ending) && !self.supervisor.is_stopping() {
                // What is left of a group whose leader crashed would hold the ports.
                process.signal(Signal::SIGKILL);
            }
        }
        self.notice_end();
    }

    /// Tells of an end once the collector is gone altogether.
    fn notice_end(&mut self) {
        let Some(ending) = self.process.as_mut().and_then(|process| process.ending(Instant::now())) else { return };
        let (status, is_fault) = (&ending.text, ending.is_fault);
        let how = match &self.error_of_run {
            Some(error) => format!("the collector ended with {status}: {error}"),
            None => format!("the collector ended with {status}"),
        };
        info!(how, "the collector is gone");
        // What it said while it was stopped is no news beside why it was.
        let unasked = (!self.supervisor.is_stopping()).then(|| how.clone());
        if let Some(reason) = unasked.or(self.fault_of_run.take()) {
            self.last_error = Some(reason);
        }
        self.process = None;
        let substitute = if is_fault && !self.supervisor.has_good() { self.substitute() } else { None };
        self.handle(Event::Ended(End { how, is_fault, substitute }));
    }

    /// What was mounted without the destinations that the last error names, those named before it included: one that the
    /// collector cannot start with must not take the others with it.
    fn substitute(&mut self) -> Option<Arc<Effective>> {
        let error = self.error_of_run.as_ref()?;
        let routes = &self.supervisor.running_file()?.routes;
        let named = routes.iter().filter(|route| error.contains(&route.exporter)).map(|route| route.exporter.clone());
        let before = self.unstartable.len();
        self.unstartable.extend(named);
        let mounted = self.mounted.as_ref()?.as_ref().ok().filter(|_| self.unstartable.len() > before)?;
        render(&mounted.text, &mounted.credentials, &self.unstartable).map(Arc::new).ok()
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Closed(leader) => {
                if let Some(process) = &mut self.process {
                    process.log_closed(leader);
                }
                self.notice_end();
            }
            Word::Complaint(complaint) => {
                if let Some(component) = &complaint.component {
                    self.ledger.complain(component, &complaint);
                    self.ledger.give_up(component, complaint.rejected_spans);
                    if self.supervisor.is_stopping() {
                        // Nobody asks for its metrics any more.
                        self.ledger.give_up(component, complaint.dropped_spans);
                    }
                }
                self.last_error = Some(complaint.text.clone());
                self.error_of_run = Some(complaint.text);
            }
        }
    }

    fn see(&mut self, observation: Observation) {
        self.is_looking = false;
        let is_of_this_run = self.process.is_some() && !self.supervisor.is_stopping();
        if let Some(metrics) = observation.metrics.as_ref().filter(|_| is_of_this_run) {
            self.ledger.enter(metrics, Instant::now());
        }
        self.handle(Event::Observed(observation));
    }

    fn tick(&mut self) {
        let mounted = mount::read(&self.options.config_dir, &self.options.credentials_dir);
        if self.mounted.as_ref() != Some(&mounted) {
            let file = match &mounted {
                Ok(mounted) => render(&mounted.text, &mounted.credentials, &BTreeSet::new()).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            self.unstartable.clear();
            self.ledger.forget_errors();
            self.last_error = None;
            self.mounted = Some(mounted);
            match &file {
                Ok(file) => info!(revision = file.revision, "read the mounted configuration"),
                Err(reason) => warn!(reason, "cannot use the mounted configuration"),
            }
            self.handle(Event::Mounted(file.map(Arc::new)));
        }
        self.notice_end();
        self.handle(Event::Tick);
    }

    fn look(&mut self, sender: &mpsc::Sender<Observation>) {
        if let Some(process) = self.process.as_ref().filter(|_| !self.is_looking) {
            self.is_looking = true;
            let (endpoints, group, sender) = (self.options.endpoints, process.group(), sender.clone());
            tokio::spawn(async move { sender.send(observe(endpoints, group).await).await });
        }
    }

    fn handle(&mut self, event: Event) {
        for action in self.supervisor.handle(event, Instant::now()) {
            match action {
                Action::Start(file) => self.start(&file),
                Action::Probe { started } => self.probe(started),
                Action::Terminate { reason, is_fault } => {
                    info!(reason, waiting = ?self.waiting(), "stopping the collector");
                    self.fault_of_run = is_fault.then_some(reason);
                    self.signal_collector(Signal::SIGTERM);
                }
                Action::Kill => {
                    warn!("the collector does not stop, killing it");
                    self.signal_collector(Signal::SIGKILL);
                }
                Action::Exit => self.is_over = true,
            }
        }
    }

    fn start(&mut self, file: &Effective) {
        self.error_of_run = None;
        let started = mount::write(&self.options.run_dir, &file.text)
            .and_then(|path| Process::start(&self.options.command, &path, file.scrubber.clone(), self.words.clone()));
        match started {
            Ok(process) => {
                info!(revision = file.revision, pid = process.group().as_raw(), "started the collector");
                self.process = Some(process);
                self.ledger.collector_started();
                self.handle(Event::Started);
            }
            Err(error) => {
                warn!(%error, "cannot start the collector");
                self.last_error = Some(error.to_string());
                self.handle(Event::Unstartable);
            }
        }
    }

    fn signal_collector(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// The queues that are not empty, for the log: what an orderly stop may have to give up.
    fn waiting(&self) -> Vec<(String, u64)> {
        let destinations = self.describe().destinations;
        destinations.into_iter().filter(|d| d.queue_size > 0).map(|d| (d.name, d.queue_size)).collect()
    }

    fn probe(&self, started: Instant) {
        let took = started.elapsed();
        let ids = match probe::random_ids() {
            Ok(ids) => ids,
            Err(error) => return warn!(%error, "cannot send the probe span without random ids"),
        };
        let probe = Probe { resource: self.resource.clone(), ids, started: SystemTime::now() - took, took };
        let address = self.options.endpoints.otlp;
        tokio::spawn(async move {
            match probe::send(address, &probe).await {
                Ok(()) => info!(took = ?probe.took, "the collector is up and has the probe span"),
                Err(error) => warn!(%error, "cannot send the probe span"),
            }
        });
    }
}
