//! Decides what to do next with the collector. Pure: events and the time go in, actions come out.
//!
//! There is one way to change anything: wait until the export queues are empty, stop the collector, start it with the new
//! file, go back to the last good one if it does not stay up.
//!
//! ```text
//!           start            it answers                a reason to stop            queues empty, or too long
//!  (idle) ────────> Starting ──────────> Up ──────────────────────────────> Draining ───────────────────────> Stopping
//!    ^                 │                  │ hangs, out of memory                                                 │
//!    │                 └──────────────────┴──────────────────────────────────────────────────────────────────────┤
//!    └──────────────────────────────────────── ended (also unasked) <────────────────────────────────────────────┘
//! ```

pub mod event;
mod running;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::effective::Effective;
use event::{Action, End, Event, Observation, Timing};
use running::{Cause, Run, Stage};

/// A collector that ran this long begins the back-off anew.
const STEADY: Duration = Duration::from_secs(60);

/// The state of everything that was decided so far.
pub struct Supervisor {
    timing: Timing,
    memory_limit: Option<u64>,
    wanted: Option<Result<Arc<Effective>, String>>,
    good: Option<Arc<Effective>>,
    substitute: Option<Arc<Effective>>,
    refused: Option<Refused>,
    run: Option<Run>,
    retry_at: Option<Instant>,
    failures: u32,
    starts: u64,
    crashes: u64,
    shutdown_at: Option<Instant>,
    exited: bool,
}

/// A file that did not stay up.
struct Refused {
    fingerprint: String,
    reason: String,
    until: Instant,
}

impl Supervisor {
    /// Knows nothing yet and runs nothing.
    pub fn new(timing: Timing, memory_limit: Option<u64>) -> Self {
        Self {
            timing,
            memory_limit,
            wanted: None,
            good: None,
            substitute: None,
            refused: None,
            run: None,
            retry_at: None,
            failures: 0,
            starts: 0,
            crashes: 0,
            shutdown_at: None,
            exited: false,
        }
    }

    /// Takes in what happened and answers what to do, in this order.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Mounted(wanted) => self.mounted(wanted),
            Event::Started => self.starts += 1,
            Event::Unstartable => self.unstartable(now),
            Event::Observed(observation) => self.observed(&observation, now),
            Event::Ended(end) => self.ended(end, now),
            Event::Shutdown => self.shutdown_at = self.shutdown_at.or(Some(now + self.timing.shutdown)),
            Event::Tick => {}
        }
        match self.run.take() {
            None => self.idle(now).into_iter().collect(),
            Some(mut run) => {
                let actions = self.running(&mut run, now);
                self.run = Some(run);
                actions
            }
        }
    }

    /// The collector runs and accepts spans.
    pub fn is_up(&self) -> bool {
        self.run.as_ref().is_some_and(|run| matches!(run.stage, Stage::Up | Stage::Draining(_)))
    }

    /// The collector was asked to end.
    pub fn is_stopping(&self) -> bool {
        self.run.as_ref().is_some_and(|run| matches!(run.stage, Stage::Stopping { .. }))
    }

    /// Something is about to change: looks and ticks should come often.
    pub fn is_busy(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !matches!(run.stage, Stage::Up) || !self.is_good(&run.file))
    }

    /// The file in effect; before the first start the one that is wanted.
    pub fn file(&self) -> Option<&Arc<Effective>> {
        self.run.as_ref().map(|run| &run.file).or(self.target(None))
    }

    /// The file that the running collector was started with.
    pub fn running_file(&self) -> Option<&Arc<Effective>> {
        self.run.as_ref().map(|run| &run.file)
    }

    /// Resident memory at the last look, bytes.
    pub fn memory(&self) -> u64 {
        self.run.as_ref().map_or(0, |run| run.memory)
    }

    /// Some file has stayed up.
    pub fn has_good(&self) -> bool {
        self.good.is_some()
    }

    /// Starts and unasked ends so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.starts, self.crashes)
    }

    /// Why the newest mounted file is not in effect, if it is not.
    pub fn refused(&self) -> Option<&str> {
        match self.wanted.as_ref()? {
            Err(reason) => Some(reason),
            Ok(file) => self.refused.as_ref().filter(|r| r.fingerprint == file.fingerprint).map(|r| r.reason.as_str()),
        }
    }

    fn mounted(&mut self, wanted: Result<Arc<Effective>, String>) {
        let changed = match (&self.wanted, &wanted) {
            (Some(Ok(before)), Ok(after)) => before.fingerprint != after.fingerprint,
            _ => true,
        };
        if changed {
            self.start_afresh();
            self.substitute = None;
        }
        self.wanted = Some(wanted);
    }

    /// The file that should run: the wanted one, or the last good one where that was refused; with nothing good, what is left
    /// of the wanted one, or itself again.
    fn target(&self, now: Option<Instant>) -> Option<&Arc<Effective>> {
        let wanted = self.wanted.as_ref().and_then(|wanted| wanted.as_ref().ok());
        let is_refused = |file: &Arc<Effective>| {
            let expired = |refused: &Refused| now.is_some_and(|now| now >= refused.until);
            self.refused.as_ref().is_some_and(|refused| refused.fingerprint == file.fingerprint && !expired(refused))
        };
        match wanted {
            Some(file) if !is_refused(file) => Some(file),
            _ => self.good.as_ref().or(self.substitute.as_ref()).or(wanted),
        }
    }

    fn is_good(&self, file: &Effective) -> bool {
        self.good.as_ref().is_some_and(|good| good.fingerprint == file.fingerprint)
    }

    fn unstartable(&mut self, now: Instant) {
        self.run = None;
        self.back_off(Duration::ZERO, now);
    }

    /// A look that began before the collector was started saw another one.
    fn observed(&mut self, observation: &Observation, now: Instant) {
        if let Some(run) = self.run.as_mut().filter(|run| observation.taken >= run.started) {
            run.observed(observation, now);
        }
    }

    fn ended(&mut self, end: End, now: Instant) {
        let Some(run) = self.run.take() else { return };
        let cause = match &run.stage {
            Stage::Stopping { cause, .. } => Some(cause.clone()),
            _ => None,
        };
        if matches!(cause, None | Some(Cause::Hang(_))) {
            self.crashes += 1;
        }
        if self.shutdown_at.is_some() {
            return;
        }
        let reason = match cause {
            Some(Cause::Change | Cause::Shutdown) => return self.retry_at = None,
            Some(Cause::Memory(_)) => return self.back_off(now.saturating_duration_since(run.started), now),
            Some(Cause::Hang(reason)) => Some(reason),
            None => Some(end.how).filter(|_| end.is_fault),
        };
        if let Some(reason) = reason.filter(|_| !self.is_good(&run.file)) {
            self.refuse(&run.file, reason, now);
            self.substitute = end.substitute;
        }
        self.back_off(now.saturating_duration_since(run.started), now);
        if self.is_to_change(&run, now) {
            self.start_afresh();
        }
    }

    /// Remembers that the wanted file does not stay up; any other is only a stopgap.
    fn refuse(&mut self, file: &Effective, reason: String, now: Instant) {
        let is_wanted = matches!(&self.wanted, Some(Ok(wanted)) if wanted.fingerprint == file.fingerprint);
        if is_wanted {
            let until = now + self.timing.retry_refused;
            self.refused = Some(Refused { fingerprint: file.fingerprint.clone(), reason, until });
        }
    }

    /// Another file owes nothing to the failures before it.
    fn start_afresh(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// Sets the next start after an end that nobody wanted.
    fn back_off(&mut self, uptime: Duration, now: Instant) {
        self.failures = if uptime >= STEADY { 1 } else { self.failures.saturating_add(1) };
        let doublings = (self.failures - 1).min(16);
        self.retry_at = Some(now + (self.timing.backoff * 2u32.pow(doublings)).min(self.timing.backoff_max));
    }

    fn idle(&mut self, now: Instant) -> Option<Action> {
        if self.shutdown_at.is_some() {
            let first = !std::mem::replace(&mut self.exited, true);
            return first.then_some(Action::Exit);
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let file = self.target(Some(now))?.clone();
        self.retry_at = None;
        self.run = Some(Run::new(file.clone(), now));
        Some(Action::Start(file))
    }

    fn settled(&mut self, file: &Arc<Effective>) {
        if self.refused.as_ref().is_some_and(|refused| refused.fingerprint == file.fingerprint) {
            self.refused = None;
        }
        if !self.is_good(file) {
            self.good = Some(file.clone());
        }
    }

    fn is_to_change(&self, run: &Run, now: Instant) -> bool {
        self.target(Some(now)).is_some_and(|target| target.fingerprint != run.file.fingerprint)
    }
}

#[cfg(test)]
mod tests;
