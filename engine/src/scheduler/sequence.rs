//! One sequence: its tokens, how far its KV reaches, and the journey events that are its own.

use std::sync::Arc;

use sojourn_contract::journey::{FinishStatus, Phase, PreemptReason, ScheduleKind};
use sojourn_journey::log::CoreLog;
use sojourn_journey::record::{CoreEvent, CoreRecord, Progress, Stamp};

use super::request::{Request, StopMatcher};
use super::sampling::{Choice, Sampler};
use super::step::Chooser;
use crate::backend::SequenceId;
use crate::metrics::timer::RequestTimer;
use crate::recorder::Recorder;

/// Names a request from its admission to its last sequence's end.
pub type RequestId = u64;

/// Who goes first: lower is more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Urgency {
    /// The request's priority under the priority policy, else 0.
    pub priority: i32,
    /// Order of arrival, and of the sequences of one request.
    pub arrival: SequenceId,
}

/// A sequence that the scheduler has.
pub struct Sequence {
    pub(super) request: RequestId,
    /// `x-request-id`.
    pub(super) request_id: Arc<str>,
    pub(super) index: u32,
    pub(super) urgency: Urgency,
    /// Prompt and output.
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_len: usize,
    pub(super) max_tokens: usize,
    pub(super) min_tokens: usize,
    pub(super) stop_token_ids: Vec<u32>,
    pub(super) stop_matcher: Option<Box<dyn StopMatcher>>,
    /// Chooses its tokens; `None` while a step has it on loan.
    pub(super) sampler: Option<Sampler>,
    /// KV blocks that it holds.
    pub(super) blocks: Vec<u32>,
    /// Tokens from the front whose KV is valid.
    pub(super) computed: usize,
    /// Tokens from the front whose KV a fresh computation would give bit by bit; at most `computed`.
    pub(super) exact: usize,
    /// Most tokens whose KV ever was valid.
    pub(super) high_water: usize,
    /// Prompt tokens whose KV is a copy of another sequence's.
    pub(super) cached: usize,
    /// Another sequence's KV was looked for.
    pub(super) looked_for_prefix: bool,
    /// A step failed that it was in; it runs alone until all of its tokens are computed. A piece of its prompt says nothing: what
    /// failed may be the last one.
    pub(super) suspect: bool,
    pub(super) num_preemptions: u32,
    pub(super) was_scheduled: bool,
    /// The backend works on it right now.
    pub(super) in_flight: bool,
    /// Step of its last turn, for fairness.
    pub(super) last_turn: u64,
    recorder: Option<Arc<Recorder>>,
    timer: Option<Arc<RequestTimer>>,
    records: CoreLog,
}

/// What the journey of a sequence in the core has so far.
#[derive(Debug, Clone, PartialEq)]
pub struct SoFar {
    /// The id of its `llm_request`.
    pub span_id: u64,
    /// Its index.
    pub index: usize,
    /// Its events.
    pub records: Vec<CoreRecord>,
    /// How far it is.
    pub progress: Progress,
}

impl Sequence {
    /// The sequence of this index of a request.
    pub(super) fn new(request_id: RequestId, index: u32, urgency: Urgency, request: &mut Request) -> Self {
        let matcher = if request.stop_matchers.is_empty() { None } else { Some(request.stop_matchers.remove(0)) };
        let (choice, prompt) = request.choice(index);
        Self {
            request: request_id,
            request_id: request.request_id.clone(),
            index,
            urgency,
            tokens: prompt.to_vec(),
            prompt_len: prompt.len(),
            max_tokens: request.max_tokens as usize,
            min_tokens: request.min_tokens as usize,
            stop_token_ids: request.stop_token_ids.clone(),
            stop_matcher: matcher,
            sampler: Some(Sampler::new(
                request.sampling.clone(),
                choice,
                prompt,
                request.constraint.as_ref().map(|constraint| constraint.fresh()),
            )),
            blocks: Vec::new(),
            computed: 0,
            exact: 0,
            high_water: 0,
            cached: 0,
            looked_for_prefix: false,
            suspect: false,
            num_preemptions: 0,
            was_scheduled: false,
            in_flight: false,
            last_turn: 0,
            recorder: request.recorder.clone(),
            timer: request.timer.clone(),
            records: CoreLog::default(),
        }
    }

    /// Its prompt.
    pub(super) fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt_len]
    }

    /// The KV of so many tokens from the front is a copy of another sequence's.
    pub(super) fn adopted(&mut self, tokens: usize) {
        (self.computed, self.exact, self.cached) = (tokens, tokens, tokens);
        self.high_water = self.high_water.max(tokens);
        if let Some(timer) = &self.timer {
            timer.prefix_hit(tokens as u64);
        }
    }

    /// A step computed the KV of `tokens` more tokens, from `start`.
    pub(super) fn advanced(&mut self, start: usize, tokens: usize) {
        self.computed = start + tokens;
        self.high_water = self.high_water.max(self.computed);
        self.exact = if tokens > 1 && self.exact >= start { self.computed } else { self.exact.min(start) };
        self.suspect &= self.pending() > 0;
    }

    /// Only the KV of so many tokens from the front is left.
    pub(super) fn cut(&mut self, tokens: usize) {
        self.computed = self.computed.min(tokens);
        self.exact = self.exact.min(tokens);
    }

    /// Tokens generated.
    pub(super) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }

    /// Tokens whose KV is still to be computed; the sequence decodes when it is one.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Tokens that may not be chosen next: stops, before `min_tokens`.
    fn banned(&self) -> &[u32] {
        if self.generated() < self.min_tokens { &self.stop_token_ids } else { &[] }
    }

    /// What chooses the token behind `end` tokens, if that is where the next one comes.
    pub(super) fn lend_chooser(&mut self, end: usize) -> Option<Chooser> {
        if end < self.tokens.len() || self.max_tokens == 0 {
            return None;
        }
        let banned = self.banned().to_vec();
        self.sampler.take().map(|sampler| Chooser { sampler, banned })
    }

    /// How the sequence ends with the token that was just added, if it does.
    pub(super) fn ends_with(&mut self, choice: &Choice) -> Option<FinishStatus> {
        let token = choice.id;
        let may_stop = self.generated() > self.min_tokens;
        let text_stops = self.stop_matcher.as_mut().is_some_and(|matcher| matcher.push(token, may_stop));
        match () {
            () if choice.is_last => Some(FinishStatus::Stopped),
            () if may_stop && (self.stop_token_ids.contains(&token) || text_stops) => Some(FinishStatus::Stopped),
            () if self.generated() >= self.max_tokens => Some(FinishStatus::Length),
            () => None,
        }
    }

    // === the journey and its measurement ===

    pub(super) fn record_queued(&mut self, at: Stamp, step: u64) {
        self.record(at, step, CoreEvent::Queued);
    }

    pub(super) fn record_scheduled(&mut self, at: Stamp, step: u64) {
        let resume = std::mem::replace(&mut self.was_scheduled, true);
        let (kind, cached, recomputed) = match resume {
            false => (ScheduleKind::First, 0, 0),
            true => (ScheduleKind::Resume, self.computed, self.high_water - self.computed),
        };
        self.record(
            at,
            step,
            CoreEvent::Scheduled { kind, cached_tokens: count(cached), recomputed_tokens: count(recomputed) },
        );
    }

    /// A token was chosen.
    pub(super) fn record_token(&mut self, at: Stamp, step: u64) {
        if let Some(timer) = &self.timer {
            timer.token(self.index, at.monotonic);
        }
        if self.generated() == 1 {
            self.record(at, step, CoreEvent::FirstToken);
        }
    }

    pub(super) fn record_preempted(&mut self, at: Stamp, step: u64, reason: PreemptReason) {
        self.num_preemptions += 1;
        self.record(at, step, CoreEvent::Preempted(reason));
    }

    /// Records the end and hands the events over.
    pub(super) fn record_finished(&mut self, at: Stamp, step: u64, status: FinishStatus) {
        self.record(at, step, CoreEvent::Finished(status));
        if let Some(recorder) = self.recorder.take() {
            recorder.core(self.index as usize, std::mem::take(&mut self.records).into_records());
        }
    }

    /// The journey so far; `None` with tracing off, and when it has been handed over.
    pub(super) fn so_far(&self, now: Stamp, step: u64) -> Option<SoFar> {
        let span_id = self.recorder.as_ref()?.span_id();
        let (records, progress) = (self.records.so_far(now), self.progress(step));
        Some(SoFar { span_id, index: self.index as usize, records, progress })
    }

    fn record(&mut self, at: Stamp, step: u64, event: CoreEvent) {
        let progress = self.progress(step);
        if let Some(timer) = &self.timer {
            timer.core(self.index, at.monotonic, &event, &progress);
        }
        if self.recorder.is_some() {
            self.records.push(CoreRecord { at, event, progress });
        }
    }

    fn progress(&self, step: u64) -> Progress {
        let phase = match (self.was_scheduled, self.generated()) {
            (false, _) => Phase::Waiting,
            (true, 0) => Phase::Prefill,
            (true, _) => Phase::Decode,
        };
        Progress {
            phase,
            prefill_done: count(self.high_water.min(self.prompt_len)),
            prefill_total: count(self.prompt_len),
            decode_done: count(self.generated()),
            decode_max: count(self.max_tokens),
            step,
            num_preemptions: self.num_preemptions,
        }
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
