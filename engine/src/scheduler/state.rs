//! What the scheduler knows and decides. A pure state machine: time is an argument, work is an answer, and there is no
//! client, clock or channel in it. [`State::admit`] and [`State::cancel`] come at any time, [`State::plan`] and
//! [`State::complete`] in turns around each of the backend's steps.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use sojourn_contract::journey::{FinishStatus, PreemptReason};
use sojourn_journey::record::{ApiEvent, Stamp};

use super::blocks::BlockPool;
use super::plan::Turns;
use super::prefix::Prefixes;
use super::request::{Failure, Finished, Load, Refusal, Request, Token, Update};
use super::sequence::{RequestId, Sequence, SoFar, Urgency};
use super::step::{Chosen, Step};
use crate::backend::{Caps, SequenceId, StepError, Work};

/// What bounds the scheduler; the backend's capabilities besides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Sequences in the running set at most.
    pub max_num_seqs: usize,
    /// Prompt tokens in one step at most.
    pub max_num_batched_tokens: usize,
    /// Sequences that may wait.
    pub max_queue_size: usize,
    /// Who goes first.
    pub policy: Policy,
    /// Seconds that a sequence may wait before it first runs.
    pub queue_timeout: Option<f64>,
    /// Requests that begin with the same tokens share their KV.
    pub prefix_caching: bool,
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// In order of arrival.
    Fcfs,
    /// By the request's `priority`, lower first, then in order of arrival.
    Priority,
}

/// The scheduler's state.
pub struct State {
    pub(super) limits: Limits,
    pub(super) caps: Caps,
    pub(super) pool: BlockPool,
    pub(super) sequences: HashMap<SequenceId, Sequence>,
    /// By urgency; preempted sequences among them may still hold blocks.
    pub(super) waiting: BTreeMap<Urgency, SequenceId>,
    pub(super) running: BTreeMap<Urgency, SequenceId>,
    /// Those of the waiting sequences that hold blocks.
    pub(super) holders: BTreeMap<Urgency, SequenceId>,
    /// Finished sequences whose KV is kept.
    pub(super) prefixes: Prefixes,
    /// When each sequence was queued, oldest first, with a queue deadline.
    pub(super) deadlines: VecDeque<(f64, SequenceId)>,
    /// Sequences of each request that have not ended.
    requests: HashMap<RequestId, Vec<SequenceId>>,
    pub(super) turns: Turns,
    pub(super) step: u64,
    next_sequence: SequenceId,
    next_request: RequestId,
    pub(super) released: Vec<SequenceId>,
    updates: Vec<(RequestId, Update)>,
    accepting: bool,
}

impl State {
    /// An idle scheduler.
    pub fn new(limits: Limits, caps: Caps) -> Self {
        Self {
            limits,
            caps,
            pool: BlockPool::new(caps.kv_blocks, caps.kv_block_tokens),
            sequences: HashMap::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            holders: BTreeMap::new(),
            prefixes: Prefixes::default(),
            deadlines: VecDeque::new(),
            requests: HashMap::new(),
            turns: Turns::default(),
            step: 0,
            next_sequence: 0,
            next_request: 0,
            released: Vec::new(),
            updates: Vec::new(),
            accepting: true,
        }
    }

    /// How much there is to do.
    pub fn load(&self) -> Load {
        Load { waiting: self.waiting.len(), running: self.running.len() }
    }

    /// Tokens that can be held, and tokens that running and preempted sequences hold, as whole blocks. What is only kept for
    /// later requests counts as free.
    pub fn kv_usage(&self) -> (usize, usize) {
        let held = self.pool.total() - self.pool.free() - self.prefixes.blocks();
        (self.pool.tokens(self.pool.total()), self.pool.tokens(held))
    }

    /// Nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.sequences.is_empty()
    }

    /// A request has sequences that have not ended.
    pub fn has(&self, request: RequestId) -> bool {
        self.requests.contains_key(&request)
    }

    /// Refuses every later request.
    pub fn close(&mut self) {
        self.accepting = false;
    }

    /// Queues a request, or says why not.
    pub fn admit(&mut self, now: Stamp, mut request: Request) -> Result<RequestId, Refusal> {
        self.check(&request)?;
        let id = self.next_request;
        self.next_request += 1;
        if let Some(recorder) = &request.recorder {
            recorder.handed_off(request.sequences() as usize);
            recorder.api(now, ApiEvent::HandoffToCore);
        }
        for index in 0..request.sequences() {
            let sequence_id = self.next_sequence;
            self.next_sequence += 1;
            let priority = if self.limits.policy == Policy::Priority { request.priority } else { 0 };
            let urgency = Urgency { priority, arrival: sequence_id };
            let mut sequence = Sequence::new(id, index, urgency, &mut request);
            sequence.record_queued(now, self.step);
            self.sequences.insert(sequence_id, sequence);
            self.waiting.insert(urgency, sequence_id);
            if self.limits.queue_timeout.is_some() {
                self.deadlines.push_back((now.monotonic, sequence_id));
            }
            self.requests.entry(id).or_default().push(sequence_id);
        }
        Ok(id)
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        if !self.accepting {
            return Err(Refusal::ShuttingDown);
        }
        let longest = request.prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
        let needed = longest + request.max_tokens as usize;
        if self.pool.needed(needed) > self.pool.total() {
            return Err(Refusal::NeverFits { needed, available: self.pool.tokens(self.pool.total()) });
        }
        let (sequences, most) = (request.sequences() as usize, self.limits.max_queue_size + self.limits.max_num_seqs);
        if sequences > most {
            return Err(Refusal::TooManySequences { sequences, most });
        }
        let seats = self.limits.max_num_seqs.saturating_sub(self.running.len());
        if self.waiting.len() + sequences > self.limits.max_queue_size + seats {
            return Err(Refusal::QueueFull { waiting: self.waiting.len() });
        }
        Ok(())
    }

    /// Ends what is left of a request: its client is gone.
    pub fn cancel(&mut self, now: Stamp, request: RequestId) {
        for sequence in self.requests.get(&request).cloned().unwrap_or_default() {
            self.finish(now, sequence, FinishStatus::Aborted, None);
        }
    }

    /// Ends everything.
    pub fn cancel_all(&mut self, now: Stamp) {
        let mut requests: Vec<RequestId> = self.requests.keys().copied().collect();
        requests.sort_unstable();
        for request in requests {
            self.cancel(now, request);
        }
    }

    /// Sequences that have not ended, in order of arrival.
    pub(super) fn live_sequences(&self) -> Vec<SequenceId> {
        let mut all: Vec<SequenceId> = self.requests.values().flatten().copied().collect();
        all.sort_unstable();
        all
    }

    /// Requests of a step, by `x-request-id`.
    pub fn requests_of(&self, step: &Step) -> Vec<Arc<str>> {
        let sequences = step.work.iter().filter_map(|work| self.sequences.get(&work.sequence));
        sequences.map(|sequence| sequence.request_id.clone()).collect()
    }

    /// Takes the answer to the step that [`State::plan`] gave, and what the step had on loan.
    pub fn complete(&mut self, now: Stamp, step: &mut Step, answer: Result<Vec<Chosen>, StepError>) {
        for (work, chooser) in step.work.iter().zip(&mut step.choosers) {
            if let Some(sequence) = self.sequences.get_mut(&work.sequence) {
                sequence.in_flight = false;
                sequence.sampler = sequence.sampler.take().or(chooser.take().map(|chooser| chooser.sampler));
            }
        }
        match answer {
            Ok(chosen) => {
                for (work, chosen) in step.work.iter().zip(chosen) {
                    self.advance(now, work, chosen);
                }
            }
            Err(error) => self.step_failed(now, step, &error),
        }
        self.bury(step);
    }

    fn advance(&mut self, now: Stamp, work: &Work, chosen: Chosen) {
        if !self.is_live(work.sequence) {
            return;
        }
        let step = self.step;
        let Some(sequence) = self.sequences.get_mut(&work.sequence) else { return };
        sequence.advanced(work.start as usize, work.tokens.len());
        if sequence.pending() > 0 {
            return;
        }
        let choice = match chosen {
            None => return self.finish(now, work.sequence, FinishStatus::Length, None),
            Some(Ok(choice)) => choice,
            Some(Err(error)) => {
                return self.finish(now, work.sequence, FinishStatus::Error, Some(Failure::Generation(error)));
            }
        };
        sequence.tokens.push(choice.id);
        sequence.record_token(now, step);
        let end = sequence.ends_with(&choice);
        let stop = end == Some(FinishStatus::Stopped) && sequence.stop_token_ids.contains(&choice.id);
        let token = Token { sequence: sequence.index, id: choice.id, stop, logprobs: choice.logprobs };
        self.updates.push((sequence.request, Update::Token(token)));
        if let Some(status) = end {
            self.finish(now, work.sequence, status, None);
        }
    }

    pub(super) fn is_live(&self, sequence: SequenceId) -> bool {
        self.sequences.get(&sequence).is_some_and(|s| self.requests.get(&s.request).is_some_and(|of| of.contains(&sequence)))
    }

    /// Ends a sequence that is live; one that the backend works on keeps its blocks until that step is complete.
    pub(super) fn finish(&mut self, now: Stamp, id: SequenceId, status: FinishStatus, failure: Option<Failure>) {
        if !self.is_live(id) {
            return;
        }
        let step = self.step;
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        sequence.record_finished(now, step, status);
        let cached_tokens = u32::try_from(sequence.cached).unwrap_or(u32::MAX);
        let finished = Finished { sequence: sequence.index, status, cached_tokens, failure };
        self.updates.push((sequence.request, Update::Finished(finished)));
        self.waiting.remove(&sequence.urgency);
        self.running.remove(&sequence.urgency);
        self.holders.remove(&sequence.urgency);
        let (request, in_flight) = (sequence.request, sequence.in_flight);
        if let Some(of_request) = self.requests.get_mut(&request) {
            of_request.retain(|other| *other != id);
            if of_request.is_empty() {
                self.requests.remove(&request);
            }
        }
        if !in_flight {
            self.remove(id);
        }
    }

    /// Removes what ended while the backend worked on it.
    fn bury(&mut self, step: &Step) {
        for work in &step.work {
            if !self.is_live(work.sequence) {
                self.remove(work.sequence);
            }
        }
    }

    fn remove(&mut self, id: SequenceId) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        if !self.keep_prefix(id, &sequence.tokens[..sequence.exact], &mut sequence.blocks) {
            self.pool.take_all_back(&mut sequence.blocks);
            self.released.push(id);
        }
    }

    /// Moves a running sequence back to the waiting ones; it keeps its blocks while nobody needs them.
    pub(super) fn preempt(&mut self, now: Stamp, id: SequenceId, reason: PreemptReason) {
        let step = self.step;
        if let Some(sequence) = self.sequences.get_mut(&id) {
            self.running.remove(&sequence.urgency);
            self.waiting.insert(sequence.urgency, id);
            if !sequence.blocks.is_empty() {
                self.holders.insert(sequence.urgency, id);
            }
            sequence.record_preempted(now, step, reason);
        }
    }

    /// The journeys of the sequences that have not ended, so far.
    pub fn journeys_so_far(&self, now: Stamp) -> Vec<SoFar> {
        self.sequences.values().filter_map(|sequence| sequence.so_far(now, self.step)).collect()
    }

    /// What happened since the last call, in order.
    pub fn take_updates(&mut self) -> Vec<(RequestId, Update)> {
        std::mem::take(&mut self.updates)
    }

    /// Sequences that the backend may forget, since the last call.
    pub fn take_released(&mut self) -> Vec<SequenceId> {
        std::mem::take(&mut self.released)
    }
}
