//! Where a request's time went, summed up as it happens: the same parts as the journey's facts, without keeping a single
//! event, so that `/metrics` says the same with tracing off. Pure.

use sojourn_contract::journey::{AbortPhase, Bottleneck, FinishStatus};
use sojourn_journey::facts::abort_phase;
use sojourn_journey::record::CoreEvent;
use sojourn_journey::timeline::{Course, State, combined};

/// A request's time, in seconds of the engine's monotonic clock.
#[derive(Debug, Clone)]
pub struct Parts {
    arrived: f64,
    part: Bottleneck,
    since: f64,
    spent: [f64; Bottleneck::ALL.len()],
    sequences: Vec<Sequence>,
    scheduled: bool,
    preempted: bool,
    first_token: Option<f64>,
    left_core: Option<f64>,
    ended: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sequence {
    course: Course,
    /// Where it was when it was aborted or failed.
    given_up: Option<State>,
    finished: bool,
}

impl Parts {
    /// A request that arrived at `now`.
    pub fn new(now: f64) -> Self {
        Self {
            arrived: now,
            part: Bottleneck::Api,
            since: now,
            spent: [0.0; Bottleneck::ALL.len()],
            sequences: Vec::new(),
            scheduled: false,
            preempted: false,
            first_token: None,
            left_core: None,
            ended: None,
        }
    }

    /// Takes an event of the sequence with this index. What the core does after the request's end counts in no part.
    pub fn core(&mut self, index: usize, now: f64, event: &CoreEvent) {
        if self.sequences.len() <= index {
            self.sequences.resize(index + 1, Sequence::default());
        }
        let late = self.ended.is_some_and(|ended| now > ended);
        let sequence = &mut self.sequences[index];
        self.preempted |= matches!(event, CoreEvent::Preempted(_));
        if let CoreEvent::Finished(status) = event {
            sequence.finished = true;
            self.left_core = Some(now);
            if matches!(status, FinishStatus::Aborted | FinishStatus::Error) {
                sequence.given_up = Some(sequence.course.state());
            }
        }
        if late {
            return;
        }
        sequence.course.take(event);
        match event {
            CoreEvent::Scheduled { .. } => self.scheduled = true,
            CoreEvent::FirstToken => self.first_token = self.first_token.or(Some(now)),
            _ => {}
        }
        let part = combined(&self.states());
        if part != self.part {
            self.spend(now);
            self.part = part;
        }
    }

    /// The request departed or was aborted.
    pub fn end(&mut self, now: f64) {
        self.spend(now);
        self.ended = Some(now);
    }

    /// The request has ended and no sequence of it is in the core.
    pub fn is_complete(&self) -> bool {
        self.ended.is_some() && self.sequences.iter().all(|sequence| sequence.finished)
    }

    /// The core had it.
    pub fn was_in_core(&self) -> bool {
        !self.sequences.is_empty()
    }

    /// First byte to the end.
    pub fn duration(&self) -> f64 {
        self.ended.unwrap_or(self.since) - self.arrived
    }

    /// First byte to the first token.
    pub fn time_to_first_token(&self) -> Option<f64> {
        self.first_token.map(|at| at - self.arrived)
    }

    /// First byte to the last FINISHED, or to the end where the core never had it, or where that comes first.
    pub fn e2e(&self) -> f64 {
        self.left_core.map_or_else(|| self.duration(), |at| (at - self.arrived).min(self.duration()))
    }

    /// Seconds spent in `part`; `None` where that did not happen.
    pub fn seconds_in(&self, part: Bottleneck) -> Option<f64> {
        let happened = match part {
            Bottleneck::Api => true,
            Bottleneck::Queue | Bottleneck::Client => self.was_in_core(),
            Bottleneck::Prefill => self.scheduled,
            Bottleneck::Decode => self.first_token.is_some(),
            Bottleneck::Preempted => self.preempted,
        };
        happened.then(|| self.spent[part as usize])
    }

    /// Where it was when it was given up.
    pub fn abort_phase(&self) -> AbortPhase {
        let state = |sequence: &Sequence| sequence.given_up.unwrap_or_else(|| sequence.course.state());
        let given_up: Vec<State> = self.sequences.iter().map(state).collect();
        abort_phase(combined(&given_up))
    }

    fn states(&self) -> Vec<State> {
        self.sequences.iter().map(|sequence| sequence.course.state()).collect()
    }

    fn spend(&mut self, until: f64) {
        self.spent[self.part as usize] += until - self.since;
        self.since = until;
    }
}

#[cfg(test)]
mod tests;
