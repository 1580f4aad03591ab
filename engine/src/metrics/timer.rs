//! Measures one request, from its first byte to its end. The API layer and the scheduler share it; each event costs a lock
//! that nobody else wants.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sojourn_contract::journey::{AbortReason, FinishStatus};
use sojourn_journey::record::{CoreEvent, Progress};

use super::parts::Parts;
use super::requests::{Ended, Requests};
use super::scheduler::SchedulerMetrics;
use crate::operation::Operation;

/// One request's measurement. It counts the request once: when the answer has left and the core has no sequence of it.
pub struct RequestTimer {
    requests: Requests,
    scheduler: SchedulerMetrics,
    operation: Operation,
    model: String,
    state: Mutex<State>,
}

struct State {
    parts: Parts,
    /// By sequence.
    tokens: Vec<Tokens>,
    prompt_tokens: u64,
    /// No sequence was aborted or failed.
    finished: bool,
    reason: Option<AbortReason>,
    counted: bool,
}

/// When a sequence's tokens came, in seconds.
#[derive(Clone, Copy)]
struct Tokens {
    first: f64,
    last: f64,
    count: u64,
}

impl RequestTimer {
    pub(super) fn new(
        requests: Requests,
        scheduler: SchedulerMetrics,
        operation: Operation,
        model: String,
        arrived: f64,
    ) -> Self {
        let state = State {
            parts: Parts::new(arrived),
            tokens: Vec::new(),
            prompt_tokens: 0,
            finished: true,
            reason: None,
            counted: false,
        };
        Self { requests, scheduler, operation, model, state: Mutex::new(state) }
    }

    /// Takes an event of the sequence with this index, at `now` on the engine's monotonic clock.
    pub fn core(&self, index: u32, now: f64, event: &CoreEvent, progress: &Progress) {
        self.scheduler.count(event, progress);
        let mut state = self.lock();
        state.prompt_tokens = u64::from(progress.prefill_total);
        if let CoreEvent::Finished(FinishStatus::Aborted | FinishStatus::Error) = event {
            state.finished = false;
        }
        let had_none = state.parts.time_to_first_token().is_none();
        state.parts.core(index as usize, now, event);
        if let Some(seconds) = state.parts.time_to_first_token().filter(|_| had_none) {
            self.scheduler.first_token(seconds);
        }
        self.count_if_complete(state);
    }

    /// So many tokens of the prompt came from an earlier request.
    pub fn prefix_hit(&self, tokens: u64) {
        self.scheduler.prefix_hit(tokens);
    }

    /// A token of a sequence was chosen.
    pub fn token(&self, index: u32, now: f64) {
        let mut state = self.lock();
        let index = index as usize;
        let fresh = Tokens { first: now, last: now, count: 0 };
        if state.tokens.len() <= index {
            state.tokens.resize(index + 1, fresh);
        }
        let tokens = &mut state.tokens[index];
        if tokens.count == 0 {
            *tokens = fresh;
        }
        let gap = now - tokens.last;
        tokens.last = now;
        tokens.count += 1;
        let later = tokens.count > 1;
        drop(state);
        self.scheduler.token(later.then_some(gap));
    }

    /// The request departed, or was aborted for this reason.
    pub fn ended(&self, now: f64, reason: Option<AbortReason>) {
        let mut state = self.lock();
        state.parts.end(now);
        state.reason = reason;
        self.count_if_complete(state);
    }

    fn count_if_complete(&self, mut state: MutexGuard<'_, State>) {
        if state.counted || !state.parts.is_complete() {
            return;
        }
        state.counted = true;
        self.requests.count(&Ended {
            operation: self.operation,
            model: &self.model,
            reason: state.reason,
            parts: &state.parts,
            finished: state.parts.was_in_core() && state.finished,
            prompt_tokens: state.prompt_tokens,
            output_tokens: state.tokens.iter().map(|tokens| tokens.count).sum(),
            time_per_output_token: time_per_output_token(&state.tokens),
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mean over all tokens after the first of their sequence.
fn time_per_output_token(sequences: &[Tokens]) -> Option<f64> {
    let later: u64 = sequences.iter().map(|tokens| tokens.count.saturating_sub(1)).sum();
    let seconds: f64 = sequences.iter().map(|tokens| tokens.last - tokens.first).sum();
    (later > 0).then(|| seconds / later as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_per_output_token_is_the_mean_over_all_later_tokens() {
        assert_eq!(time_per_output_token(&[]), None);
        assert_eq!(time_per_output_token(&[Tokens { first: 1.0, last: 1.0, count: 1 }]), None);
        let sequences = [Tokens { first: 1.0, last: 3.0, count: 5 }, Tokens { first: 2.0, last: 3.0, count: 3 }];
        assert_eq!(time_per_output_token(&sequences), Some(0.5));
    }
}
