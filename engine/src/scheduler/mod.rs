//! The scheduler: what it decides is in [`state`] and [`plan`], pure; its loop is here, on a thread of its own, and so is the
//! handle that the API layer has.
//!
//! ```text
//! submit ─▶ State::admit ─┐                   ┌─▶ updates ─▶ Output
//! drop   ─▶ State::cancel ┴▶ plan ─▶ Step::run ─▶ complete
//! ```
//! The state is behind a mutex that is held for microseconds and never across a step, nor while tokens are chosen, so that a request is queued,
//! refused or cancelled at the moment it asks.

pub mod blocks;
mod failure;
mod observe;
pub mod output;
pub mod plan;
pub mod prefix;
pub mod request;
pub mod sampling;
pub mod sequence;
pub mod stall;
pub mod state;
pub mod step;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;

use crate::backend::{Backend, StepError};
use crate::clock::Clock;
use crate::metrics::steps::Steps;
use output::{Output, Reader};
use request::{Load, Refusal, Request};
use sequence::{RequestId, SoFar};
use stall::{InStep, Stall, Watch};
use state::{Limits, State};
use step::Step;

/// Panics in a row, without a step between them that succeeded, after which the backend is given up.
const MOST_PANICS: u32 = 3;
/// How often the watch thread looks at the step and at the queue's deadlines.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// Size of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvBlocks {
    /// Tokens in a block.
    pub tokens: u32,
    /// Blocks that there are.
    pub count: u32,
}

/// Takes requests. A clone is another handle to the same scheduler.
#[derive(Clone)]
pub struct Scheduler(Arc<Shared>);

/// What handle and loop share.
struct Shared {
    clock: Clock,
    /// Seconds after which a step counts as stalled.
    stall_timeout: f64,
    steps: Steps,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    state: State,
    readers: HashMap<RequestId, Reader>,
    in_step: Option<InStep>,
    stopped: bool,
}

impl Inner {
    /// Passes on what happened.
    fn deliver(&mut self) {
        for (request, update) in self.state.take_updates() {
            if let Some(reader) = self.readers.get_mut(&request) {
                reader.tell(update);
            }
        }
        self.readers.retain(|request, _| self.state.has(*request));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, request: RequestId) {
        let mut inner = self.lock();
        inner.readers.remove(&request);
        inner.state.cancel(self.clock.now(), request);
        inner.deliver();
        self.changed.notify_all();
    }
}

impl Scheduler {
    /// Starts the loop over a backend, on a thread of its own, and a second thread that watches its steps. `on_failure` is
    /// called once, from the loop's thread, if the backend is beyond recovery: every request has ended with an error by then,
    /// and later ones are refused. A step longer than `stall_timeout` is reported while it lasts.
    pub fn start(
        limits: Limits,
        mut backend: Box<dyn Backend>,
        clock: Clock,
        stall_timeout: Duration,
        steps: Steps,
        on_failure: impl FnOnce(String) + Send + 'static,
    ) -> std::io::Result<Self> {
        let state = State::new(limits, backend.caps());
        let inner = Mutex::new(Inner { state, readers: HashMap::new(), in_step: None, stopped: false });
        let stall_timeout = stall_timeout.as_secs_f64();
        let shared = Arc::new(Shared { clock, stall_timeout, steps, inner, changed: Condvar::new() });
        let watched = Arc::downgrade(&shared);
        std::thread::Builder::new().name("step-watch".to_owned()).spawn(move || watch(&watched, stall_timeout))?;
        let of_loop = shared.clone();
        std::thread::Builder::new().name("scheduler".to_owned()).spawn(move || {
            if let Err(error) = run(&of_loop, backend.as_mut()) {
                on_failure(error);
            }
        })?;
        Ok(Self(shared))
    }

    /// Queues a request. On success its recorder has `api.HANDOFF_TO_CORE` and each sequence is QUEUED.
    pub fn submit(&self, request: Request) -> Result<Output, Refusal> {
        let mut inner = self.0.lock();
        let whole = request.whole;
        let id = inner.state.admit(self.0.clock.now(), request)?;
        let (sender, updates) = unbounded_channel();
        inner.readers.insert(id, Reader::new(sender, whole));
        self.0.changed.notify_all();
        Ok(Output { request: id, updates, scheduler: Arc::downgrade(&self.0) })
    }

    /// Size of the KV cache.
    pub fn kv_blocks(&self) -> KvBlocks {
        let caps = self.0.lock().state.caps;
        KvBlocks { tokens: caps.kv_block_tokens, count: caps.kv_blocks }
    }

    /// How much there is to do.
    pub fn load(&self) -> Load {
        self.0.lock().state.load()
    }

    /// The journeys of the sequences that have not ended, so far: a copy, made while no step is planned.
    pub fn journeys_so_far(&self) -> Vec<SoFar> {
        self.0.lock().state.journeys_so_far(self.0.clock.now())
    }

    /// KV tokens that can be held, and that are held.
    pub fn kv_usage(&self) -> (usize, usize) {
        self.0.lock().state.kv_usage()
    }

    /// The step that is stalled now, if one is.
    pub fn stall(&self) -> Option<Stall> {
        let inner = self.0.lock();
        Watch::stall(self.0.stall_timeout, self.0.clock.now().monotonic, inner.in_step.as_ref())
    }

    /// Refuses later requests; those that were taken go on.
    pub fn drain(&self) {
        self.0.lock().state.close();
    }

    /// Ends every request, as `aborted`.
    pub fn abort_all(&self) {
        let mut inner = self.0.lock();
        inner.state.cancel_all(self.0.clock.now());
        inner.deliver();
        self.0.changed.notify_all();
    }

    /// Ends the loop after its present step.
    pub fn stop(&self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

/// Plans, steps and completes until it is stopped; an error means that the backend is beyond recovery.
fn run(shared: &Shared, backend: &mut dyn Backend) -> Result<(), String> {
    let mut panics = 0;
    let mut inner = shared.lock();
    while !inner.stopped {
        for sequence in inner.state.take_released() {
            backend.release(sequence);
        }
        let now = shared.clock.now();
        let step = inner.state.plan(now);
        inner.deliver();
        let Some(mut step) = step else {
            inner = shared.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        inner.in_step = Some(InStep { number: step.number, began: now.monotonic, requests: inner.state.requests_of(&step) });
        let load = inner.state.weigh(&step);
        drop(inner);
        let answer = catch_unwind(AssertUnwindSafe(|| step.run(backend)));
        let ended = shared.clock.now().monotonic;
        shared.steps.stepped(&load, ended - now.monotonic, ended);
        let recovered = answer.as_ref().err().map(|panic| recover(backend, panic_message(panic.as_ref())));
        inner = shared.lock();
        inner.in_step = None;
        match (answer, recovered) {
            (Ok(Err(error @ StepError::DeviceLost(_))), _) => {
                return Err(give_up(shared, &mut inner, &mut step, error.to_string()));
            }
            (Ok(answer), _) => {
                panics = if answer.is_ok() { 0 } else { panics };
                inner.state.complete(shared.clock.now(), &mut step, answer);
            }
            (Err(_), Some(Ok(error))) if panics + 1 < MOST_PANICS => {
                panics += 1;
                inner.state.complete(shared.clock.now(), &mut step, Err(error));
                inner.state.kv_lost(shared.clock.now());
            }
            (Err(panic), _) => {
                let error = format!("the backend panicked: {}", panic_message(panic.as_ref()));
                return Err(give_up(shared, &mut inner, &mut step, error));
            }
        }
        inner.deliver();
    }
    Ok(())
}

/// Makes the backend usable again after a panic; gives the error that the step's sequences end with.
fn recover(backend: &mut dyn Backend, panic: &str) -> Result<StepError, ()> {
    tracing::error!(panic, "a step of the model panicked");
    match catch_unwind(AssertUnwindSafe(|| backend.recover())) {
        Ok(Ok(())) => Ok(StepError::Failed(format!("it panicked: {panic}"))),
        Ok(Err(error)) => {
            tracing::error!(%error, "the model cannot be made usable again");
            Err(())
        }
        Err(_) => Err(()),
    }
}

fn give_up(shared: &Shared, inner: &mut Inner, step: &mut Step, error: String) -> String {
    inner.state.close();
    inner.state.complete(shared.clock.now(), step, Err(StepError::Failed(error.clone())));
    inner.state.fail_all(shared.clock.now(), &error);
    inner.deliver();
    error
}

/// Says when a step does not come back, and ends what has waited too long behind it, until the scheduler is gone.
fn watch(shared: &Weak<Shared>, stall_timeout: f64) {
    let mut watch = Watch::new(stall_timeout);
    loop {
        std::thread::sleep(WATCH_EVERY);
        let Some(shared) = shared.upgrade() else { return };
        let mut inner = shared.lock();
        if inner.stopped {
            return;
        }
        let now = shared.clock.now();
        inner.state.expire(now);
        inner.deliver();
        let stall = watch.look(now.monotonic, inner.in_step.as_ref());
        drop(inner);
        if let Some(Stall { step, seconds, requests }) = stall {
            let batch = requests.len();
            tracing::warn!(step, seconds, batch, ?requests, "a step of the model does not come back");
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
