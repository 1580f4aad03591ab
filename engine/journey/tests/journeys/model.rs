//! A small model of a request that makes random legal journeys: it takes choices from a list, so that a failing journey
//! shrinks to the choices that matter.

use proptest::collection::vec;
use proptest::prelude::*;
use sojourn_contract::journey::{AbortReason, FinishStatus, Kind, Parent, Phase, PreemptReason, ScheduleKind};
use sojourn_journey::record::{ApiEvent, ApiRecord, CoreEvent, CoreRecord, Journey, Progress};

use super::at;

/// A random legal journey.
pub fn journeys() -> impl Strategy<Value = Journey> {
    vec(any::<u32>(), 0..400).prop_map(|choices| Model { choices: choices.into_iter() }.journey())
}

/// Choices; when they run out, the first of each kind is taken.
struct Model {
    choices: std::vec::IntoIter<u32>,
}

impl Model {
    fn below(&mut self, limit: u32) -> u32 {
        self.choices.next().unwrap_or(0) % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }

    /// Milliseconds, often none.
    fn pause(&mut self) -> f64 {
        match self.below(4) {
            0 => 0.0,
            1 => f64::from(self.below(1_000)) / 1e3,
            _ => f64::from(self.below(1_000_000)) / 1e3,
        }
    }

    fn journey(mut self) -> Journey {
        let arrived = self.pause();
        let mut journey = Journey {
            kind: self.one_of(&[Kind::Request, Kind::Canary]),
            parent: self.one_of(Parent::ALL),
            request_id: format!("req-{}", self.below(1000)),
            queue_depth_at_arrival: self.below(300),
            running_at_arrival: self.below(32),
            api: vec![record(arrived, ApiEvent::Arrived)],
            cores: Vec::new(),
        };
        let handoff = arrived + self.pause();
        if self.below(5) == 4 {
            let reason = self.one_of(AbortReason::ALL);
            journey.api.push(abort(handoff, reason));
            return journey;
        }
        journey.api.push(record(handoff, ApiEvent::HandoffToCore));
        let sequences = 1 + self.below(4);
        journey.cores = (0..sequences).map(|_| self.sequence(handoff)).collect();
        let end = self.end(&mut journey);
        self.first_response(&mut journey, end);
        journey
    }

    /// A sequence that runs to its end.
    fn sequence(&mut self, handoff: f64) -> Vec<CoreRecord> {
        let decode_max = self.below(6);
        let mut sequence = Sequence {
            records: Vec::new(),
            millis: handoff + self.pause(),
            progress: Progress {
                phase: Phase::Waiting,
                prefill_done: 0,
                prefill_total: 1 + self.below(50),
                decode_done: 0,
                decode_max,
                step: 0,
                num_preemptions: 0,
            },
        };
        sequence.push(CoreEvent::Queued);
        self.wait(&mut sequence);
        sequence.progress.phase = Phase::Prefill;
        sequence.push(CoreEvent::Scheduled { kind: ScheduleKind::First, cached_tokens: 0, recomputed_tokens: 0 });
        while sequence.progress.prefill_done < sequence.progress.prefill_total {
            self.wait(&mut sequence);
            let left = sequence.progress.prefill_total - sequence.progress.prefill_done;
            sequence.progress.prefill_done += 1 + self.below(left);
            self.perhaps_preempt(&mut sequence);
        }
        while sequence.progress.decode_done < decode_max {
            self.wait(&mut sequence);
            sequence.progress.decode_done += 1;
            if sequence.progress.decode_done == 1 {
                sequence.progress.phase = Phase::Decode;
                sequence.push(CoreEvent::FirstToken);
            }
            if self.below(8) == 7 {
                sequence.push(CoreEvent::Finished(FinishStatus::Stopped));
                return sequence.records;
            }
            self.perhaps_preempt(&mut sequence);
        }
        sequence.push(CoreEvent::Finished(FinishStatus::Length));
        sequence.records
    }

    fn wait(&mut self, sequence: &mut Sequence) {
        sequence.millis += self.pause();
        sequence.progress.step += 1 + u64::from(self.below(3));
    }

    fn perhaps_preempt(&mut self, sequence: &mut Sequence) {
        if self.below(5) != 4 {
            return;
        }
        sequence.progress.num_preemptions += 1;
        let reason = self.one_of(PreemptReason::ALL);
        sequence.push(CoreEvent::Preempted(reason));
        self.wait(sequence);
        let cached_tokens = self.below(sequence.progress.prefill_done + 1);
        let recomputed_tokens = sequence.progress.prefill_done - cached_tokens;
        sequence.push(CoreEvent::Scheduled { kind: ScheduleKind::Resume, cached_tokens, recomputed_tokens });
    }

    /// Lets the request depart, or aborts it on its way; when it ended.
    fn end(&mut self, journey: &mut Journey) -> f64 {
        let events = || journey.cores.iter().flatten().map(millis);
        let last = events().fold(0.0, f64::max);
        let queued = journey.cores.iter().map(|core| millis(&core[0])).fold(0.0, f64::max);
        if self.below(2) == 0 {
            let end = last + self.pause();
            journey.api.push(record(end, ApiEvent::Departed));
            return end;
        }
        let given_up = queued + (last - queued) * f64::from(self.below(1001)) / 1000.0;
        let reason = self.one_of(&[
            AbortReason::ClientDisconnect,
            AbortReason::ClientStalled,
            AbortReason::Timeout,
            AbortReason::GenerationError,
            AbortReason::Shutdown,
        ]);
        let status = if reason == AbortReason::GenerationError { FinishStatus::Error } else { FinishStatus::Aborted };
        for core in &mut journey.cores {
            give_up(core, given_up + self.pause() / 100.0, status);
        }
        // A client that has gone ends the request at once; an error ends it when the answer is out.
        let at_once = reason.outcome() == sojourn_contract::journey::Outcome::Aborted;
        let end =
            if at_once { given_up } else { journey.cores.iter().flatten().map(millis).fold(given_up, f64::max) + self.pause() };
        journey.api.push(abort(end, reason));
        end
    }

    /// The API layer sees the first token, if it comes before the end.
    fn first_response(&mut self, journey: &mut Journey, end: f64) {
        let tokens = journey.cores.iter().flatten().filter(|record| record.event == CoreEvent::FirstToken);
        let first = tokens.map(millis).fold(f64::INFINITY, f64::min);
        if first <= end && self.below(4) != 3 {
            let seen = (first + self.pause()).min(end);
            journey.api.insert(2, record(seen, ApiEvent::FirstResponseFromCore));
        }
    }
}

struct Sequence {
    records: Vec<CoreRecord>,
    millis: f64,
    progress: Progress,
}

impl Sequence {
    fn push(&mut self, event: CoreEvent) {
        self.records.push(CoreRecord { at: at(self.millis), event, progress: self.progress });
    }
}

/// Cuts a sequence off: what it had not done by then it never does.
fn give_up(core: &mut Vec<CoreRecord>, after: f64, status: FinishStatus) {
    let done = core.iter().take_while(|record| millis(record) <= after).count().max(1);
    if done < core.len() {
        core.truncate(done);
        let progress = core[done - 1].progress;
        core.push(CoreRecord { at: at(after.max(millis(&core[done - 1]))), event: CoreEvent::Finished(status), progress });
    }
}

fn record(millis: f64, event: ApiEvent) -> ApiRecord {
    ApiRecord { at: at(millis), event }
}

fn abort(millis: f64, reason: AbortReason) -> ApiRecord {
    record(millis, ApiEvent::Aborted { reason, error: format!("it ended by {reason}") })
}

/// The time that [`at`] made a stamp from.
fn millis(record: &CoreRecord) -> f64 {
    (record.at.unix_nanos - at(0.0).unix_nanos) as f64 / 1e6
}
