//! Fetches the model where it is far away, loads it on a thread of its own, and says how far it is all the while. mistral.rs
//! has no progress callback, so what the process has read and mapped since the beginning is held against the files' size.

use std::path::Path;
use std::time::{Duration, Instant};

use sojourn_contract::attribute;
use sojourn_contract::journey::StartupStage;
use sojourn_journey::startup::Stage;
use sojourn_journey::trace::{Attributes, Value};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::http::Startup;
use crate::hub::{Cached, Download, HubError, Meter};
use crate::model::{self, Model, ModelError, Source, Wishes};

const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Where the model comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The file system.
    Here(Source),
    /// The Hugging Face Hub.
    Hub(Box<Download>),
}

/// A loaded model, or why there is none, and the stages that were gone through.
pub struct Loading {
    /// The outcome.
    pub model: Result<Model, ModelError>,
    /// What was loaded: of a model that came from afar, where it lies now. None where nothing came.
    pub source: Option<Source>,
    /// For the start-up trace.
    pub stages: Vec<Stage>,
}

/// Fetches, loads and warms up a model; `progress` hears how far it is. The error says that the loader panicked.
pub async fn load(
    origin: Origin,
    wishes: Wishes,
    clock: Clock,
    stall: Duration,
    progress: watch::Sender<Startup>,
) -> Result<Loading, tokio::task::JoinError> {
    let mut stages = Vec::new();
    let source = match origin {
        Origin::Here(source) => source,
        Origin::Hub(download) => match fetch(&download, clock, stall, &progress, &mut stages).await {
            Ok(cached) => Source::File(cached.path),
            Err(error) => return Ok(Loading { model: Err(error.into()), source: None, stages }),
        },
    };
    tokio::task::spawn_blocking(move || {
        let model = load_stages(&source, &wishes, clock, stall, &progress, &mut stages);
        Loading { model, source: Some(source), stages }
    })
    .await
}

/// The stage `download`: also of one that failed, because its time has passed all the same.
async fn fetch(
    wanted: &Download,
    clock: Clock,
    stall: Duration,
    progress: &watch::Sender<Startup>,
    stages: &mut Vec<Stage>,
) -> Result<Cached, HubError> {
    let (from, meter) = (clock.now(), Meter::default());
    let cached = download(wanted, &meter, stall, progress).await;
    let mut attributes: Attributes =
        [(attribute::STARTUP_MODEL, Value::from(wanted.repository.to_string())), bytes(meter.fetched())].into_iter().collect();
    if let Ok(cached) = &cached {
        attributes.push(attribute::STARTUP_REVISION, cached.commit.clone());
    }
    stages.push(Stage { stage: StartupStage::Download, from, to: clock.now(), attributes });
    cached
}

/// Has the model in the cache, and says how far it is.
pub async fn download(
    wanted: &Download,
    meter: &Meter,
    stall: Duration,
    progress: &watch::Sender<Startup>,
) -> Result<Cached, HubError> {
    let repository = &wanted.repository;
    progress.send_modify(|now| now.waiting_for = format!("the download of {repository}"));
    let mut watch = Watch::new("downloading the model", stall, progress);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    let running = wanted.run(meter);
    tokio::pin!(running);
    let cached = loop {
        tokio::select! {
            cached = &mut running => break cached?,
            _ = ticks.tick() => {
                if watch.has_stalled(meter.done(), meter.total()) {
                    return Err(HubError::Stalled { repository: repository.clone(), patience: stall });
                }
            }
        }
    };
    let fetched_mb = meter.fetched() >> 20;
    tracing::info!(commit = cached.commit, path = %cached.path.display(), fetched_mb, "{repository} is in the cache");
    Ok(cached)
}

fn load_stages(
    source: &Source,
    wishes: &Wishes,
    clock: Clock,
    stall: Duration,
    progress: &watch::Sender<Startup>,
    stages: &mut Vec<Stage>,
) -> Result<Model, ModelError> {
    let total = model::size(source)?;
    progress.send_modify(|now| now.waiting_for = "the model's weights".to_owned());
    let from = clock.now();
    let mut model = std::thread::scope(|scope| {
        let loading = scope.spawn(|| model::load(source, wishes));
        watch_until(|| loading.is_finished(), total, stall, progress);
        loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    model.text.try_template()?;
    let attributes: Attributes = [bytes(total)].into_iter().collect();
    stages.push(Stage { stage: StartupStage::Load, from, to: clock.now(), attributes });

    progress.send_modify(|now| now.waiting_for = "the model's first step".to_owned());
    let from = clock.now();
    model::warm_up(model.backend.as_mut())?;
    stages.push(Stage { stage: StartupStage::WarmUp, from, to: clock.now(), attributes: Attributes::default() });
    Ok(model)
}

fn bytes(count: u64) -> (&'static str, Value) {
    (attribute::STARTUP_BYTES, Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// Publishes how far the loader is until it has `finished`.
fn watch_until(finished: impl Fn() -> bool, total: u64, stall: Duration, progress: &watch::Sender<Startup>) {
    let before = bytes_seen();
    let mut watch = Watch::new("loading the model", stall, progress);
    while !finished() {
        watch.has_stalled(bytes_seen().saturating_sub(before).min(total), total);
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Publishes how far a stage is, and says so in the log now and then.
struct Watch<'a> {
    doing: &'static str,
    stall: Duration,
    progress: &'a watch::Sender<Startup>,
    moved: Instant,
    logged: Instant,
    done: u64,
}

impl<'a> Watch<'a> {
    fn new(doing: &'static str, stall: Duration, progress: &'a watch::Sender<Startup>) -> Self {
        let now = Instant::now();
        Self { doing, stall, progress, moved: now, logged: now, done: 0 }
    }

    /// Whether nothing has moved for too long.
    fn has_stalled(&mut self, done: u64, total: u64) -> bool {
        if done != self.done {
            (self.done, self.moved) = (done, Instant::now());
        }
        let stalled = self.moved.elapsed() > self.stall;
        self.progress.send_modify(|now| {
            now.done_bytes = done;
            now.total_bytes = Some(total).filter(|total| *total > 0);
            now.stalled = stalled;
        });
        if self.logged.elapsed() > LOG_EVERY {
            self.logged = Instant::now();
            tracing::info!("{}: {} of {} MB", self.doing, done >> 20, total >> 20);
        }
        stalled
    }
}

/// What the process has read, or mapped and touched, whichever is more; 0 where /proc does not say.
fn bytes_seen() -> u64 {
    let field = |file: &str, name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(Path::new("/proc/self").join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    let read = field("io", "rchar:").unwrap_or(0);
    let resident = field("status", "VmRSS:").unwrap_or(0) * 1024;
    read.max(resident)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::scripted::Script;

    #[tokio::test]
    async fn a_model_goes_through_its_stages() {
        let startup = Startup { waiting_for: "load".into(), done_bytes: 0, total_bytes: None, stalled: false };
        let (progress, seen) = watch::channel(startup);
        let origin = Origin::Here(Source::Scripted(Script::default()));
        let loading = load(origin, Wishes::default(), Clock::start(), Duration::from_secs(60), progress).await.unwrap();
        assert!(loading.model.is_ok());
        let stages: Vec<_> = loading.stages.iter().map(|stage| stage.stage).collect();
        assert_eq!(stages, [StartupStage::Load, StartupStage::WarmUp]);
        assert_eq!(seen.borrow().waiting_for, "the model's first step");
    }
}
