//! The scheduler: what it decides is in [`state`] and [`plan`], pure; its loop is here, on a thread of its own, and so is the
//! handle that the API layer has.
//!
//! ```text
//! submit ─▶ State::admit ─┐                       ┌─▶ updates ─▶ Output
//! drop   ─▶ State::cancel ┴▶ plan ─▶ Backend::step ─▶ complete
//! ```
//! The state is behind a mutex that is held for microseconds and never across a backend's step, so that a request is queued,
//! refused or cancelled at the moment it asks.

pub mod blocks;
pub mod output;
pub mod plan;
pub mod request;
pub mod sampling;
pub mod sequence;
pub mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::backend::{Backend, StepError};
use crate::clock::Clock;
use output::Output;
use request::{Load, Refusal, Request, Update};
use sequence::{RequestId, SoFar};
use state::{Limits, State};

/// Takes requests. A clone is another handle to the same scheduler.
#[derive(Clone)]
pub struct Scheduler(Arc<Shared>);

/// What handle and loop share.
struct Shared {
    clock: Clock,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    state: State,
    readers: HashMap<RequestId, UnboundedSender<Update>>,
    stopped: bool,
}

impl Inner {
    /// Passes on what happened. A reader that is gone needs nothing.
    fn deliver(&mut self) {
        for (request, update) in self.state.take_updates() {
            if let Some(reader) = self.readers.get(&request) {
                drop(reader.send(update));
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
    /// Starts the loop over a backend, on a thread of its own. `on_failure` is called once, from that thread, if the backend
    /// panicked: every request has ended with an error by then, and later ones are refused.
    pub fn start(
        limits: Limits,
        mut backend: Box<dyn Backend>,
        clock: Clock,
        on_failure: impl FnOnce(String) + Send + 'static,
    ) -> std::io::Result<Self> {
        let state = State::new(limits, backend.caps());
        let inner = Mutex::new(Inner { state, readers: HashMap::new(), stopped: false });
        let shared = Arc::new(Shared { clock, inner, changed: Condvar::new() });
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
        let id = inner.state.admit(self.0.clock.now(), request)?;
        let (reader, updates) = unbounded_channel();
        inner.readers.insert(id, reader);
        self.0.changed.notify_all();
        Ok(Output { request: id, updates, scheduler: Arc::downgrade(&self.0) })
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

/// Plans, steps and completes until it is stopped; an error means that the backend panicked.
fn run(shared: &Shared, backend: &mut dyn Backend) -> Result<(), String> {
    let mut inner = shared.lock();
    while !inner.stopped {
        for sequence in inner.state.take_released() {
            backend.release(sequence);
        }
        let step = inner.state.plan(shared.clock.now());
        inner.deliver();
        let Some(step) = step else {
            inner = shared.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(inner);
        let answer = catch_unwind(AssertUnwindSafe(|| backend.step(&step.work)));
        inner = shared.lock();
        match answer {
            Ok(answer) => inner.state.complete(shared.clock.now(), &step, answer),
            Err(panic) => {
                let error = format!("the backend panicked: {}", panic_message(panic.as_ref()));
                inner.state.complete(shared.clock.now(), &step, Err(StepError::Failed(error.clone())));
                inner.state.close();
                inner.state.fail_all(shared.clock.now(), &error);
                inner.deliver();
                return Err(error);
            }
        }
        inner.deliver();
    }
    Ok(())
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
