//! What to do with a collector that runs. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::effective::Effective;
use crate::metrics::{Numbers, Sample};
use crate::supervise::Supervisor;
use crate::supervise::event::{Action, Observation};

/// Share of the memory limit, percent, at which the collector is renewed once its queues are empty.
const MEMORY_HIGH: u64 = 90;
/// Share at which it is renewed at once: at the limit itself the kernel ends the whole container, the supervisor with it.
const MEMORY_CRITICAL: u64 = 95;

/// The collector that runs.
pub(super) struct Run {
    pub(super) file: Arc<Effective>,
    pub(super) started: Instant,
    pub(super) answered: Option<Instant>,
    pub(super) last_answer: Instant,
    pub(super) memory: u64,
    pub(super) stage: Stage,
}

pub(super) enum Stage {
    Starting,
    Up,
    Draining(Drain),
    Stopping { cause: Cause, kill_at: Option<Instant> },
}

pub(super) struct Drain {
    cause: Cause,
    since: Instant,
    until: Instant,
    is_over: bool,
    queues: BTreeMap<String, Queue>,
}

/// What a drain has seen of an exporter's queue.
struct Queue {
    last: Numbers,
    acknowledged: u32,
    is_drained: bool,
}

/// Why a collector is stopped, for people; the kind decides what comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    Change,
    Memory(String),
    Hang(String),
    Shutdown,
}

impl Run {
    pub(super) fn new(file: Arc<Effective>, now: Instant) -> Self {
        Self { file, started: now, answered: None, last_answer: now, memory: 0, stage: Stage::Starting }
    }

    pub(super) fn observed(&mut self, observation: &Observation, now: Instant) {
        self.memory = observation.memory;
        let Some(metrics) = &observation.metrics else { return };
        self.last_answer = now;
        if observation.accepts && matches!(self.stage, Stage::Starting) {
            self.answered = Some(now);
        }
        if let Stage::Draining(drain) = &mut self.stage {
            drain.observed(metrics, observation.taken);
        }
    }
}

impl Supervisor {
    pub(super) fn running(&mut self, run: &mut Run, now: Instant) -> Vec<Action> {
        match &mut run.stage {
            Stage::Starting if run.answered.is_some() => {
                run.stage = Stage::Up;
                let mut actions = vec![Action::Probe { started: run.started }];
                actions.extend(self.up(run, now));
                actions
            }
            Stage::Starting => self.starting(run, now).into_iter().collect(),
            Stage::Up => self.up(run, now).into_iter().collect(),
            Stage::Draining(_) => self.draining(run, now).into_iter().collect(),
            Stage::Stopping { kill_at, .. } => kill_at.take_if(|at| now >= *at).map(|_| Action::Kill).into_iter().collect(),
        }
    }

    /// A collector that does not answer yet has nothing to wait for.
    fn starting(&self, run: &mut Run, now: Instant) -> Option<Action> {
        if self.shutdown_at.is_some() {
            return Some(self.stop(run, Cause::Shutdown, now));
        }
        if self.is_to_change(run, now) {
            return Some(self.stop(run, Cause::Change, now));
        }
        let waited = now.saturating_duration_since(run.started);
        (waited >= self.timing.start)
            .then(|| self.stop(run, Cause::Hang(format!("the collector did not answer within {waited:.0?} of its start")), now))
    }

    fn up(&mut self, run: &mut Run, now: Instant) -> Option<Action> {
        if run.answered.is_some_and(|at| now.saturating_duration_since(at) >= self.timing.settle) {
            self.settled(&run.file);
        }
        if let Some(cause) = self.emergency(run, now) {
            return Some(self.stop(run, cause, now));
        }
        let cause = if self.shutdown_at.is_some() {
            Cause::Shutdown
        } else if self.is_to_change(run, now) {
            Cause::Change
        } else if self.exceeds(run, MEMORY_HIGH) {
            Cause::Memory(self.memory_text(run))
        } else {
            return None;
        };
        let until = self.drain_until(&cause, now);
        let drain = Drain { cause, since: now, until, is_over: false, queues: BTreeMap::new() };
        run.stage = Stage::Draining(drain);
        None
    }

    fn draining(&self, run: &mut Run, now: Instant) -> Option<Action> {
        let emergency = self.emergency(run, now);
        let is_to_change = self.is_to_change(run, now);
        let Stage::Draining(drain) = &mut run.stage else { return None };
        if self.shutdown_at.is_some() && drain.cause != Cause::Shutdown {
            drain.until = drain.until.min(self.drain_until(&Cause::Shutdown, now));
            drain.cause = Cause::Shutdown;
        }
        if drain.cause == Cause::Change && !is_to_change {
            run.stage = Stage::Up;
            return None;
        }
        let is_over = drain.is_over || now >= drain.until;
        let cause = emergency.or_else(|| is_over.then(|| drain.cause.clone()))?;
        Some(self.stop(run, cause, now))
    }

    /// A reason to stop the collector without waiting for anything.
    fn emergency(&self, run: &Run, now: Instant) -> Option<Cause> {
        let silent = now.saturating_duration_since(run.last_answer);
        if silent >= self.timing.hang {
            return Some(Cause::Hang(format!("the collector did not answer for {silent:.0?}")));
        }
        self.exceeds(run, MEMORY_CRITICAL).then(|| Cause::Memory(self.memory_text(run)))
    }

    fn exceeds(&self, run: &Run, percent: u64) -> bool {
        self.memory_limit.is_some_and(|limit| run.memory >= limit / 100 * percent)
    }

    fn memory_text(&self, run: &Run) -> String {
        format!("the collector used {} of {} bytes of memory", run.memory, self.memory_limit.unwrap_or_default())
    }

    fn drain_until(&self, cause: &Cause, now: Instant) -> Instant {
        match (cause, self.shutdown_at) {
            (Cause::Shutdown, Some(at)) => at - self.timing.shutdown / 3,
            _ => now + self.timing.drain,
        }
    }

    fn stop(&self, run: &mut Run, cause: Cause, now: Instant) -> Action {
        let latest = self.shutdown_at.unwrap_or(now + self.timing.stop);
        let reason = match &cause {
            Cause::Change => "a new configuration".to_owned(),
            Cause::Shutdown => "the end of the pod".to_owned(),
            Cause::Memory(text) | Cause::Hang(text) => text.clone(),
        };
        let is_fault = matches!(cause, Cause::Memory(_) | Cause::Hang(_));
        run.stage = Stage::Stopping { cause, kill_at: Some(latest.min(now + self.timing.stop)) };
        Action::Terminate { reason, is_fault }
    }
}

impl Drain {
    /// Takes in a look that began after the drain did.
    fn observed(&mut self, metrics: &Sample, taken: Instant) {
        if taken < self.since {
            return;
        }
        for (exporter, numbers) in metrics {
            self.queues.entry(exporter.clone()).or_insert_with(|| Queue::new(numbers)).observed(numbers);
        }
        self.is_over = metrics.keys().all(|exporter| self.queues[exporter].is_drained);
    }
}

impl Queue {
    fn new(numbers: &Numbers) -> Self {
        Self { last: *numbers, acknowledged: 0, is_drained: false }
    }

    /// One empty moment is enough: it shows that the destination takes spans, so that what comes later leaves in the
    /// collector's own orderly stop. Under steady load a queue that batches is never empty; then a small one that was
    /// acknowledged twice without a failure is as good.
    fn observed(&mut self, numbers: &Numbers) {
        let fails = numbers.send_failed > self.last.send_failed;
        let flows = numbers.sent > self.last.sent;
        self.acknowledged = if fails { 0 } else { self.acknowledged + u32::from(flows) };
        let is_small = numbers.queue_size < numbers.queue_capacity / 10;
        self.is_drained |= numbers.queue_size == 0 || (is_small && self.acknowledged >= 2);
        self.last = *numbers;
    }
}
