//! A journey in one line: what lists show and the JSON of the admin port says. Pure.

use serde::{Deserialize, Serialize};
use sojourn_contract::attribute;
use sojourn_contract::journey::{AbortPhase, AbortReason, Bottleneck, Kind, Outcome};
use sojourn_journey::facts::Facts;
use sojourn_journey::record::{Journey, Progress, Stamp};
use sojourn_journey::timeline;

use super::registry::Entry;

/// A journey in one line. Times are seconds; what did not happen, or is not known yet, is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Equal to the `x-request-id` header.
    pub request_id: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// Of `llm_request`, 16 hexadecimal digits; no other request has it.
    pub span_id: String,
    /// A client's request, or a canary.
    pub kind: Kind,
    /// How it ended; absent while it is in flight.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<Outcome>,
    /// Why it did not get its answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub abort_reason: Option<AbortReason>,
    /// Where it was then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub abort_phase: Option<AbortPhase>,
    /// Where it is, while it is in flight.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phase: Option<Bottleneck>,
    /// When its first byte was read, seconds since the Unix epoch.
    pub arrived_unix_seconds: f64,
    /// Until its end, or until now.
    pub duration_seconds: f64,
    /// From its arrival to its first token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_to_first_token_seconds: Option<f64>,
    /// Tokens of the prompt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt_tokens: Option<u64>,
    /// Tokens generated so far, of all sequences.
    pub output_tokens: u64,
    /// The largest part of its time.
    pub bottleneck: Bottleneck,
    /// Preemptions of all its sequences.
    pub preemptions: u32,
    /// Where its time went, in order and without a gap.
    pub parts: Vec<Part>,
    /// Model that it asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Status of the answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http_status: Option<i64>,
}

/// A stretch of a request's time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Where it was.
    pub part: Bottleneck,
    /// For how long.
    pub seconds: f64,
}

impl Summary {
    /// Sums up a journey.
    pub fn of(entry: &Entry) -> Self {
        let facts = entry.facts();
        let parts: Vec<Part> = entry.end().map_or_else(Vec::new, |end| {
            let segments = timeline::of_request(&entry.journey, end);
            segments.iter().map(|segment| Part { part: segment.part, seconds: segment.seconds() }).collect()
        });
        let text = |key: &str| entry.context.attributes.text(key).map(str::to_owned);
        Self {
            trace_id: entry.context.trace_id_text(),
            span_id: format!("{:016x}", entry.context.span_id),
            kind: facts.kind,
            outcome: facts.outcome,
            abort_reason: facts.abort_reason,
            abort_phase: facts.abort_phase,
            phase: entry.in_flight.map(|_| parts.last().map_or(Bottleneck::Api, |part| part.part)),
            arrived_unix_seconds: entry.journey.arrived().map_or(0.0, |at| at.unix_nanos as f64 / 1e9),
            duration_seconds: facts.duration,
            time_to_first_token_seconds: facts.time_to_first_token,
            prompt_tokens: entry.prompt_tokens(),
            output_tokens: entry.output_tokens(),
            bottleneck: facts.bottleneck,
            preemptions: facts.num_preemptions,
            model: text(attribute::RESPONSE_MODEL).or_else(|| text(attribute::REQUEST_MODEL)),
            http_status: entry.context.attributes.int(attribute::HTTP_RESPONSE_STATUS_CODE),
            request_id: facts.request_id,
            parts,
        }
    }
}

impl Entry {
    /// The end of its time: its own, or the moment it was looked at.
    pub fn end(&self) -> Option<Stamp> {
        self.in_flight.or_else(|| self.journey.last())
    }

    /// The facts at that moment.
    pub fn facts(&self) -> Facts {
        self.end().map_or_else(|| self.journey.facts(), |end| self.journey.facts_at(end))
    }

    /// The journey as it would be told if its last events said how far it is now.
    pub fn as_of_now(&self) -> Journey {
        let mut journey = self.journey.clone();
        let live = journey.cores.iter_mut().filter(|core| is_in_core(core));
        for (core, progress) in live.zip(&self.progress) {
            if let Some(last) = core.last_mut() {
                last.progress = *progress;
            }
        }
        journey
    }

    /// Tokens of its prompt, once the core has it.
    pub fn prompt_tokens(&self) -> Option<u64> {
        self.last_progress().map(|progress| progress.prefill_total.into()).max()
    }

    /// Tokens generated so far, of all sequences.
    pub fn output_tokens(&self) -> u64 {
        self.last_progress().map(|progress| u64::from(progress.decode_done)).sum()
    }

    fn last_progress(&self) -> impl Iterator<Item = Progress> {
        let ended = self.journey.cores.iter().filter(|core| !is_in_core(core));
        let ended = ended.filter_map(|core| core.last()).map(|record| record.progress);
        let live = if self.in_flight.is_some() { self.progress.as_slice() } else { &[] };
        ended.chain(live.iter().copied())
    }
}

fn is_in_core(core: &[sojourn_journey::record::CoreRecord]) -> bool {
    use sojourn_journey::record::CoreEvent;
    core.last().is_some_and(|record| !matches!(record.event, CoreEvent::Finished(_)))
}

#[cfg(test)]
pub(crate) mod tests {
    use sojourn_contract::journey::{FinishStatus, Parent, Phase, ScheduleKind};
    use sojourn_journey::record::{ApiEvent, ApiRecord, CoreEvent, CoreRecord};

    use super::*;
    use crate::recorder::RequestContext;

    /// A journey that was answered after so many seconds.
    pub fn summary(request_id: &str, duration_seconds: f64) -> Summary {
        Summary {
            request_id: request_id.to_owned(),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            span_id: "00f067aa0ba902b7".to_owned(),
            kind: Kind::Request,
            outcome: Some(Outcome::Ok),
            abort_reason: None,
            abort_phase: None,
            phase: None,
            arrived_unix_seconds: 1_764_072_000.0,
            duration_seconds,
            time_to_first_token_seconds: None,
            prompt_tokens: None,
            output_tokens: 0,
            bottleneck: Bottleneck::Api,
            preemptions: 0,
            parts: vec![Part { part: Bottleneck::Api, seconds: duration_seconds }],
            model: None,
            http_status: Some(200),
        }
    }

    fn at(seconds: u32) -> Stamp {
        Stamp { unix_nanos: u64::from(seconds) * 1_000_000_000, monotonic: seconds.into() }
    }

    /// In flight: queued at 2 s, scheduled at 3 s, looked at when the clock reads 7 s and 12 tokens are generated.
    pub fn decoding() -> Entry {
        let progress = |phase, decode_done| Progress {
            phase,
            prefill_done: 30,
            prefill_total: 30,
            decode_done,
            decode_max: 64,
            step: 4,
            num_preemptions: 0,
        };
        let record = |second, event, progress| CoreRecord { at: at(second), event, progress };
        let first = CoreEvent::Scheduled { kind: ScheduleKind::First, cached_tokens: 0, recomputed_tokens: 0 };
        let core = vec![
            record(2, CoreEvent::Queued, progress(Phase::Waiting, 0)),
            record(3, first, progress(Phase::Prefill, 0)),
            record(4, CoreEvent::FirstToken, progress(Phase::Decode, 1)),
        ];
        let api = |second, event| ApiRecord { at: at(second), event };
        let journey = Journey {
            kind: Kind::Request,
            parent: Parent::None,
            request_id: "order-7".to_owned(),
            queue_depth_at_arrival: 0,
            running_at_arrival: 0,
            api: vec![api(1, ApiEvent::Arrived), api(2, ApiEvent::HandoffToCore)],
            cores: vec![core],
        };
        let context = RequestContext::new(None);
        Entry { journey, context, in_flight: Some(at(7)), progress: vec![progress(Phase::Decode, 12)] }
    }

    #[test]
    fn a_journey_in_flight_is_told_as_of_now() {
        let summary = Summary::of(&decoding());
        assert_eq!((summary.outcome, summary.phase), (None, Some(Bottleneck::Decode)));
        assert_eq!((summary.duration_seconds, summary.time_to_first_token_seconds), (6.0, Some(3.0)));
        assert_eq!((summary.prompt_tokens, summary.output_tokens), (Some(30), 12));
        let seconds: Vec<_> = summary.parts.iter().map(|part| (part.part.as_str(), part.seconds)).collect();
        assert_eq!(seconds, [("api", 1.0), ("queue", 1.0), ("prefill", 1.0), ("decode", 3.0)]);
    }

    #[test]
    fn a_journey_that_has_ended_is_told_by_its_events() {
        let mut entry = decoding();
        let last = CoreRecord { at: at(6), event: CoreEvent::Finished(FinishStatus::Stopped), progress: entry.progress[0] };
        entry.journey.cores[0].push(last);
        entry.journey.api.push(ApiRecord { at: at(8), event: ApiEvent::Departed });
        let summary = Summary::of(&Entry { in_flight: None, progress: Vec::new(), ..entry });
        assert_eq!((summary.outcome, summary.phase, summary.output_tokens), (Some(Outcome::Ok), None, 12));
        assert_eq!((summary.duration_seconds, summary.bottleneck), (7.0, Bottleneck::Decode));
    }

    #[test]
    fn a_summary_comes_back_from_its_json() {
        let summary = Summary::of(&decoding());
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary);
    }
}
