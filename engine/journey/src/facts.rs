//! What is true of a request as a whole: the numbers and words that stand on every span of its journey, that sampling
//! decides by and that queries ask for. Pure.

use sojourn_contract::journey::{AbortPhase, AbortReason, Bottleneck, FinishStatus, Kind, Outcome, Parent, PreemptReason};
use sojourn_contract::{attribute, sampling};

use crate::record::{ApiEvent, CoreEvent, CoreRecord, Journey, Stamp};
use crate::timeline::{self, State};
use crate::trace::Value;

/// The facts of a request; durations in seconds, `None` for what did not happen. What the core still does after the request
/// has ended (a cancelled sequence leaves the scheduler at its next step) counts in no duration.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// A client's request, or one of ours.
    pub kind: Kind,
    /// What the caller's W3C context said.
    pub parent: Parent,
    /// Equal to the `x-request-id` header.
    pub request_id: String,
    /// How it ended; `None` while it is on its way.
    pub outcome: Option<Outcome>,
    /// Why it did not get its answer.
    pub abort_reason: Option<AbortReason>,
    /// Where it was then.
    pub abort_phase: Option<AbortPhase>,
    /// Preemptions of all its sequences.
    pub num_preemptions: u32,
    /// Their reasons, each once, in the order of [`PreemptReason::ALL`].
    pub preempt_reasons: Vec<PreemptReason>,
    /// Tokens computed again after preemptions.
    pub recomputed_tokens: Option<u32>,
    /// Requests waiting when it arrived.
    pub queue_depth_at_arrival: u32,
    /// Requests running when it arrived.
    pub running_at_arrival: u32,
    /// The largest part of its time; of equal ones the first in the order of [`Bottleneck::ALL`].
    pub bottleneck: Bottleneck,
    /// ARRIVED to the end.
    pub duration: f64,
    /// ARRIVED to QUEUED, or to the end where the core never had it.
    pub api: f64,
    /// Waiting before the first SCHEDULED; there also when it was never scheduled.
    pub queue: Option<f64>,
    /// Prompt processing.
    pub prefill: Option<f64>,
    /// Token generation.
    pub decode: Option<f64>,
    /// Evicted and waiting.
    pub preempted: Option<f64>,
    /// The last FINISHED to the end.
    pub client: Option<f64>,
    /// ARRIVED to the first token.
    pub time_to_first_token: Option<f64>,
    /// ARRIVED to the last FINISHED, or to the end where the core never had it.
    pub e2e: f64,
}

impl Journey {
    /// The facts of this journey; of one that is still on its way, as of its last event.
    pub fn facts(&self) -> Facts {
        self.facts_at(self.last().unwrap_or(Stamp { unix_nanos: 0, monotonic: 0.0 }))
    }

    /// The facts of this journey at `now`, or at its end if it has ended.
    pub fn facts_at(&self, now: Stamp) -> Facts {
        let end = self.ended().unwrap_or(now);
        let arrived = self.arrived().unwrap_or(end);
        let since_arrival = |at: Stamp| at.monotonic.min(end.monotonic) - arrived.monotonic;
        let segments = timeline::of_request(self, end);
        let spent = |part| timeline::seconds_in(&segments, part);
        let reached = |wanted: fn(&CoreEvent) -> bool| self.first(wanted).filter(|at| at.monotonic <= end.monotonic);

        let in_core = !self.cores.is_empty();
        let scheduled = reached(|event| matches!(event, CoreEvent::Scheduled { .. })).is_some();
        let first_token = reached(|event| matches!(event, CoreEvent::FirstToken));
        let preempt_reasons = self.preempt_reasons();
        let was_preempted = !preempt_reasons.is_empty();
        let abort_reason = self.abort_reason();
        let duration = since_arrival(end);

        Facts {
            kind: self.kind,
            parent: self.parent,
            request_id: self.request_id.clone(),
            outcome: self.outcome(),
            abort_reason,
            abort_phase: abort_reason.map(|_| self.abort_phase(end)),
            num_preemptions: self.count_preemptions(),
            preempt_reasons,
            recomputed_tokens: was_preempted.then(|| self.recomputed_tokens()),
            queue_depth_at_arrival: self.queue_depth_at_arrival,
            running_at_arrival: self.running_at_arrival,
            bottleneck: largest(spent),
            duration,
            api: spent(Bottleneck::Api),
            queue: in_core.then(|| spent(Bottleneck::Queue)),
            prefill: scheduled.then(|| spent(Bottleneck::Prefill)),
            decode: first_token.map(|_| spent(Bottleneck::Decode)),
            preempted: was_preempted.then(|| spent(Bottleneck::Preempted)),
            client: in_core.then(|| spent(Bottleneck::Client)),
            time_to_first_token: first_token.map(since_arrival),
            e2e: self.left_core().map_or(duration, since_arrival),
        }
    }

    /// How it ended; `None` while it is on its way.
    pub fn outcome(&self) -> Option<Outcome> {
        self.api.iter().find_map(|record| match &record.event {
            ApiEvent::Departed => Some(Outcome::Ok),
            ApiEvent::Aborted { reason, .. } => Some(reason.outcome()),
            _ => None,
        })
    }

    /// Why it did not get its answer.
    pub fn abort_reason(&self) -> Option<AbortReason> {
        self.api.iter().find_map(|record| match &record.event {
            ApiEvent::Aborted { reason, .. } => Some(*reason),
            _ => None,
        })
    }

    /// Where the request was when it was given up: with a sequence that was aborted or failed, where that one was.
    fn abort_phase(&self, end: Stamp) -> AbortPhase {
        if self.cores.is_empty() {
            return AbortPhase::Api;
        }
        let given_up: Vec<State> = self.cores.iter().map(|core| state_when_given_up(core, end)).collect();
        abort_phase(timeline::combined(&given_up))
    }

    /// When the last sequence left the scheduler; `None` while one is in it, and where the core never had it.
    fn left_core(&self) -> Option<Stamp> {
        let finished = |core: &Vec<CoreRecord>| {
            core.iter().find(|record| matches!(record.event, CoreEvent::Finished(_))).map(|record| record.at)
        };
        let all: Option<Vec<Stamp>> = self.cores.iter().map(finished).collect();
        all?.into_iter().max_by(|a, b| a.monotonic.total_cmp(&b.monotonic))
    }

    /// The first event of any sequence that is `wanted`.
    fn first(&self, wanted: fn(&CoreEvent) -> bool) -> Option<Stamp> {
        let all = self.cores.iter().flatten().filter(|record| wanted(&record.event)).map(|record| record.at);
        all.min_by(|a, b| a.monotonic.total_cmp(&b.monotonic))
    }

    fn preempt_reasons(&self) -> Vec<PreemptReason> {
        let has = |record: &CoreRecord, reason: PreemptReason| match record.event {
            CoreEvent::Preempted(of) => of == reason,
            CoreEvent::Omitted(omitted) => omitted.reasons[reason as usize],
            _ => false,
        };
        let seen = |reason: &PreemptReason| self.cores.iter().flatten().any(|record| has(record, *reason));
        PreemptReason::ALL.iter().copied().filter(seen).collect()
    }

    fn count_preemptions(&self) -> u32 {
        let preemptions = |record: &CoreRecord| match record.event {
            CoreEvent::Preempted(_) => 1,
            CoreEvent::Omitted(omitted) => omitted.preemptions,
            _ => 0,
        };
        self.cores.iter().flatten().map(preemptions).fold(0, u32::saturating_add)
    }

    fn recomputed_tokens(&self) -> u32 {
        let recomputed = |record: &CoreRecord| match record.event {
            CoreEvent::Scheduled { recomputed_tokens, .. } => recomputed_tokens,
            CoreEvent::Omitted(omitted) => omitted.recomputed_tokens,
            _ => 0,
        };
        self.cores.iter().flatten().map(recomputed).fold(0, u32::saturating_add)
    }
}

/// Where a request is said to have been given up, from the part that it was in.
pub fn abort_phase(part: Bottleneck) -> AbortPhase {
    match part {
        Bottleneck::Api => AbortPhase::Api,
        Bottleneck::Queue | Bottleneck::Preempted => AbortPhase::Waiting,
        Bottleneck::Prefill => AbortPhase::Prefill,
        Bottleneck::Decode => AbortPhase::Decode,
        Bottleneck::Client => AbortPhase::Delivery,
    }
}

/// Where a sequence was when it was aborted or failed, or when the request ended; out of the core if it had finished well.
fn state_when_given_up(core: &[CoreRecord], end: Stamp) -> State {
    let is_given_up =
        |record: &CoreRecord| matches!(record.event, CoreEvent::Finished(FinishStatus::Aborted | FinishStatus::Error));
    let given_up = core.last().is_some_and(is_given_up);
    let mut before = State::Before;
    for (at, state) in timeline::states(core) {
        if (given_up && state == State::After) || at.monotonic > end.monotonic {
            return before;
        }
        before = state;
    }
    before
}

fn largest(spent: impl Fn(Bottleneck) -> f64) -> Bottleneck {
    let mut largest = Bottleneck::Api;
    for part in Bottleneck::ALL.iter().copied() {
        if spent(part) > spent(largest) {
            largest = part;
        }
    }
    largest
}

impl Facts {
    /// Seconds spent in `part`; 0 for what did not happen. The parts add up to the duration.
    pub fn seconds_in(&self, part: Bottleneck) -> f64 {
        let spent = match part {
            Bottleneck::Api => Some(self.api),
            Bottleneck::Queue => self.queue,
            Bottleneck::Prefill => self.prefill,
            Bottleneck::Decode => self.decode,
            Bottleneck::Preempted => self.preempted,
            Bottleneck::Client => self.client,
        };
        spent.unwrap_or(0.0)
    }

    /// `error.type`: the status code of a rejection that was answered, else the reason; `None` when all went well.
    pub fn error_type(&self, http_status: Option<i64>) -> Option<String> {
        let reason = self.abort_reason?;
        match (reason.outcome(), http_status) {
            (Outcome::Rejected, Some(status)) => Some(status.to_string()),
            _ => Some(reason.to_string()),
        }
    }

    /// The facts as attributes of a span, without those of what did not happen; `error.type` is not one of them.
    pub fn attributes(&self) -> Vec<(&'static str, Value)> {
        let word = |word: &'static str| Some(Value::from(word));
        let count = |count: u32| Some(Value::Int(i64::from(count)));
        // The difference of two clock readings has digits that no clock has: to people they are noise.
        let seconds = |seconds: f64| Some(Value::Float((seconds * 1e9).round() / 1e9));
        let reasons = || Value::Strings(self.preempt_reasons.iter().map(|reason| reason.to_string()).collect());
        let all = [
            (attribute::KIND, word(self.kind.as_str())),
            (attribute::PARENT, word(self.parent.as_str())),
            (attribute::REQUEST_ID, Some(Value::from(self.request_id.clone()))),
            (attribute::OUTCOME, self.outcome.and_then(|outcome| word(outcome.as_str()))),
            (attribute::ABORT_REASON, self.abort_reason.and_then(|reason| word(reason.as_str()))),
            (attribute::ABORT_PHASE, self.abort_phase.and_then(|phase| word(phase.as_str()))),
            (attribute::JOURNEY_NUM_PREEMPTIONS, count(self.num_preemptions)),
            (attribute::PREEMPT_REASONS, (!self.preempt_reasons.is_empty()).then(reasons)),
            (attribute::JOURNEY_RECOMPUTED_TOKENS, self.recomputed_tokens.and_then(count)),
            (attribute::QUEUE_DEPTH_AT_ARRIVAL, count(self.queue_depth_at_arrival)),
            (attribute::RUNNING_AT_ARRIVAL, count(self.running_at_arrival)),
            (attribute::BOTTLENECK, word(self.bottleneck.as_str())),
            (attribute::DURATION_SECONDS, seconds(self.duration)),
            (attribute::API_SECONDS, seconds(self.api)),
            (attribute::TIME_IN_QUEUE, self.queue.and_then(seconds)),
            (attribute::TIME_IN_MODEL_PREFILL, self.prefill.and_then(seconds)),
            (attribute::TIME_IN_MODEL_DECODE, self.decode.and_then(seconds)),
            (attribute::PREEMPTED_SECONDS, self.preempted.and_then(seconds)),
            (attribute::CLIENT_SECONDS, self.client.and_then(seconds)),
            (attribute::TIME_TO_FIRST_TOKEN, self.time_to_first_token.and_then(seconds)),
            (attribute::E2E, seconds(self.e2e)),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// What the sampling policy decides by; `None` while the request is on its way.
    pub fn sampling(&self) -> Option<sampling::Facts> {
        Some(sampling::Facts {
            kind: self.kind,
            outcome: self.outcome?,
            parent: self.parent,
            num_preemptions: u64::from(self.num_preemptions),
            time_to_first_token: self.time_to_first_token,
            time_in_queue: self.queue,
            duration: self.duration,
        })
    }
}
