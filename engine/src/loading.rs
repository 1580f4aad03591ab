//! Loads the model on a thread of its own and says how far it is. mistral.rs has no progress callback, so what the process
//! has read and mapped since the beginning is held against the files' size.

use std::path::Path;
use std::time::{Duration, Instant};

use sojourn_contract::attribute;
use sojourn_contract::journey::StartupStage;
use sojourn_journey::startup::Stage;
use sojourn_journey::trace::{Attributes, Value};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::http::Startup;
use crate::model::{self, Model, ModelError, Source, Wishes};

const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOG_EVERY: Duration = Duration::from_secs(5);

/// A loaded model, or why there is none, and the stages that were gone through.
pub struct Loading {
    /// The outcome.
    pub model: Result<Model, ModelError>,
    /// For the start-up trace.
    pub stages: Vec<Stage>,
}

/// Loads and warms up a model; `progress` hears how far it is. Blocks for as long as that takes.
pub fn load(source: &Source, wishes: &Wishes, clock: Clock, stall: Duration, progress: &watch::Sender<Startup>) -> Loading {
    let mut stages = Vec::new();
    let model = load_stages(source, wishes, clock, stall, progress, &mut stages);
    Loading { model, stages }
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
    let from = clock.now();
    let mut model = std::thread::scope(|scope| {
        let loading = scope.spawn(|| model::load(source, wishes));
        watch_until(|| loading.is_finished(), total, stall, progress);
        loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    model.text.try_template()?;
    let bytes = i64::try_from(total).unwrap_or(i64::MAX);
    let attributes: Attributes = [(attribute::STARTUP_BYTES, Value::Int(bytes))].into_iter().collect();
    stages.push(Stage { stage: StartupStage::Load, from, to: clock.now(), attributes });

    progress.send_modify(|now| now.waiting_for = "the model's first step".to_owned());
    let from = clock.now();
    model::warm_up(model.backend.as_mut())?;
    stages.push(Stage { stage: StartupStage::WarmUp, from, to: clock.now(), attributes: Attributes::default() });
    Ok(model)
}

/// Publishes the progress until `finished`; nothing moved for `stall` counts as stalled.
fn watch_until(finished: impl Fn() -> bool, total: u64, stall: Duration, progress: &watch::Sender<Startup>) {
    let before = bytes_seen();
    let (mut moved, mut logged) = (Instant::now(), Instant::now());
    let mut last = 0;
    while !finished() {
        let done = bytes_seen().saturating_sub(before).min(total);
        if done != last {
            (last, moved) = (done, Instant::now());
        }
        progress.send_modify(|now| {
            now.done_bytes = done;
            now.total_bytes = Some(total);
            now.stalled = moved.elapsed() > stall;
        });
        if logged.elapsed() > LOG_EVERY {
            logged = Instant::now();
            tracing::info!("loading the model: {} of {} MB", done >> 20, total >> 20);
        }
        std::thread::sleep(LOOK_EVERY);
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

    #[test]
    fn a_model_goes_through_its_stages() {
        let progress =
            watch::Sender::new(Startup { waiting_for: "load".into(), done_bytes: 0, total_bytes: None, stalled: false });
        let source = Source::Scripted(Script::default());
        let loading = load(&source, &Wishes::default(), Clock::start(), Duration::from_secs(60), &progress);
        assert!(loading.model.is_ok());
        let stages: Vec<_> = loading.stages.iter().map(|stage| stage.stage).collect();
        assert_eq!(stages, [StartupStage::Load, StartupStage::WarmUp]);
        assert_eq!(progress.borrow().waiting_for, "the model's first step");
    }
}
