//! What the facts of hand-made journeys are.

mod journeys;

use sojourn_contract::attribute;
use sojourn_contract::journey::{AbortPhase, Bottleneck, Detail, FinishStatus, Outcome, PreemptReason};
use sojourn_journey::check::check;
use sojourn_journey::log::{CoreLog, MAX_PREEMPTIONS};
use sojourn_journey::record::{ApiEvent, CoreEvent, Journey};
use sojourn_journey::timeline;
use sojourn_journey::trace::Value;

use journeys::{Core, api, at, journey};

fn parts(journey: &Journey) -> Vec<(Bottleneck, i64)> {
    let segments = timeline::of_request(journey, journey.last().expect("an end"));
    segments.iter().map(|segment| (segment.part, (segment.seconds() * 1e6).round() as i64)).collect()
}

#[test]
fn a_request_decodes_while_any_of_its_sequences_does() {
    assert_eq!(
        parts(&journeys::preempted()),
        [
            (Bottleneck::Api, 3_000),
            (Bottleneck::Queue, 17_000),
            (Bottleneck::Prefill, 60_000),
            // The second is evicted at 200 ms, the first goes on until 380.
            (Bottleneck::Decode, 300_000),
            (Bottleneck::Preempted, 120_000),
            (Bottleneck::Decode, 200_000),
            (Bottleneck::Client, 4_000),
        ]
    );
}

#[test]
fn a_request_waits_while_one_sequence_is_evicted_and_the_other_is_queued() {
    let finished = |core: Core, at| core.finished(at, 9, 0, FinishStatus::Aborted);
    let evicted = finished(Core::new(10, 5).queued(1.0).scheduled(2.0, 1).preempted(3.0, 2, 0), 6.0);
    let queued = finished(Core::new(10, 5).queued(1.0), 8.0);
    let api = vec![api(0.0, ApiEvent::Arrived), api(1.0, ApiEvent::HandoffToCore), api(8.0, ApiEvent::Departed)];
    assert_eq!(
        parts(&journey(api, vec![evicted, queued])),
        [
            (Bottleneck::Api, 1_000),
            (Bottleneck::Queue, 1_000),
            (Bottleneck::Prefill, 1_000),
            (Bottleneck::Preempted, 3_000),
            (Bottleneck::Queue, 2_000),
        ]
    );
}

#[test]
fn the_facts_of_a_preempted_request() {
    let facts = journeys::preempted().facts();
    assert_eq!((facts.outcome, facts.bottleneck), (Some(Outcome::Ok), Bottleneck::Decode));
    assert_eq!((facts.num_preemptions, facts.recomputed_tokens), (1, Some(30)));
    assert_eq!(facts.preempt_reasons, [PreemptReason::KvExhausted]);
    let attributes = facts.attributes();
    let value = |key| attributes.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
    assert_eq!(value(attribute::DURATION_SECONDS), Some(Value::Float(0.704)));
    assert_eq!(value(attribute::TIME_TO_FIRST_TOKEN), Some(Value::Float(0.08)));
    assert_eq!(value(attribute::E2E), Some(Value::Float(0.7)));
    assert_eq!(value(attribute::PREEMPTED_SECONDS), Some(Value::Float(0.12)));
    assert_eq!(value(attribute::ABORT_REASON), None);
}

#[test]
fn a_request_that_the_core_never_had_spends_all_its_time_in_the_api() {
    let facts = journeys::rejected().facts();
    assert_eq!((facts.outcome, facts.abort_phase), (Some(Outcome::Rejected), Some(AbortPhase::Api)));
    assert_eq!((facts.api, facts.e2e), (facts.duration, facts.duration));
    assert_eq!((facts.queue, facts.client, facts.time_to_first_token), (None, None, None));
    assert_eq!(facts.error_type(Some(429)).as_deref(), Some("429"));
    assert_eq!(facts.error_type(None).as_deref(), Some("overloaded"));
}

#[test]
fn what_the_core_does_after_the_end_counts_in_no_duration() {
    let facts = journeys::disconnected().facts();
    assert_eq!((facts.outcome, facts.abort_phase), (Some(Outcome::Aborted), Some(AbortPhase::Decode)));
    assert_eq!((facts.e2e, facts.client), (facts.duration, Some(0.0)));
    assert_eq!(facts.error_type(None).as_deref(), Some("client_disconnect"));
}

#[test]
fn a_failure_is_where_the_sequence_was_not_where_the_answer_went_out() {
    let facts = journeys::failed().facts();
    assert_eq!((facts.outcome, facts.abort_phase), (Some(Outcome::Error), Some(AbortPhase::Prefill)));
    assert_eq!((facts.decode, facts.time_to_first_token), (None, None));
    assert_eq!(facts.error_type(Some(500)).as_deref(), Some("generation_error"));
}

#[test]
fn a_client_that_stalls_after_the_core_has_finished_is_aborted_in_delivery() {
    let mut journey = journeys::normal();
    journey.api.pop();
    journey.api.push(journeys::aborted(9000.0, sojourn_contract::journey::AbortReason::ClientStalled, "no byte for 5 s"));
    let facts = journey.facts();
    assert_eq!((facts.abort_phase, facts.bottleneck), (Some(AbortPhase::Delivery), Bottleneck::Client));
}

#[test]
fn a_prompt_without_tokens_to_generate_has_no_decode() {
    let mut core = Core::new(10, 0).queued(1.0).scheduled(2.0, 1).finished(5.0, 2, 0, FinishStatus::Length);
    core[2].progress.prefill_done = 10;
    let api = vec![api(0.0, ApiEvent::Arrived), api(1.0, ApiEvent::HandoffToCore), api(6.0, ApiEvent::Departed)];
    let journey = journey(api, vec![core]);
    let facts = journey.facts();
    assert_eq!((facts.decode, facts.time_to_first_token, facts.prefill.is_some()), (None, None, true));
    let report = check(&journeys::trace(&journey, Detail::Phases, Some(200)));
    assert!(report.is_legal(), "{report}");
}

#[test]
fn a_request_on_its_way_has_facts_but_no_outcome() {
    let mut journey = journeys::normal();
    journey.api.truncate(2);
    journey.cores[0].truncate(1);
    let facts = journey.facts_at(at(254.0));
    assert_eq!((facts.outcome, facts.bottleneck, facts.sampling()), (None, Bottleneck::Queue, None));
    assert!((facts.seconds_in(Bottleneck::Queue) - 0.25).abs() < 1e-9);
}

#[test]
fn preemptions_beyond_the_bound_are_counted_and_the_end_stays() {
    let mut core = Core::new(10, 900).queued(1.0).scheduled(2.0, 1).first_token(3.0, 2);
    for n in 0..200_u32 {
        let millis = 4.0 + f64::from(n);
        core = core.preempted(millis, u64::from(2 * n + 3), n + 1).resumed(millis + 0.5, u64::from(2 * n + 4), 5, 6);
    }
    let mut log = CoreLog::default();
    core.finished(300.0, 500, 300, FinishStatus::Stopped).into_iter().for_each(|record| log.push(record));
    let api = vec![api(0.0, ApiEvent::Arrived), api(1.0, ApiEvent::HandoffToCore), api(301.0, ApiEvent::Departed)];
    let journey = journey(api, vec![log.into_records()]);
    let trace = journeys::trace(&journey, Detail::Phases, Some(200));

    let span = &trace.spans[1];
    let names: Vec<&str> = span.events.iter().map(|event| event.name.as_ref()).collect();
    assert_eq!(names.len(), 2 * MAX_PREEMPTIONS + 4);
    assert_eq!(span.dropped_events as usize, 2 * (200 - MAX_PREEMPTIONS));
    assert_eq!(names.last(), Some(&"journey.FINISHED"));
    assert_eq!(trace.spans.len(), 2 + 2 * MAX_PREEMPTIONS + 3);
    assert_eq!(span.attributes.int(attribute::DROPPED_EVENTS), Some(span.dropped_events.into()));
    assert_eq!(span.attributes.int(attribute::JOURNEY_NUM_PREEMPTIONS), Some(200));
    assert_eq!(span.attributes.int(attribute::JOURNEY_RECOMPUTED_TOKENS), Some(200 * 6));
    assert!((journey.facts().preempted.expect("preempted") - 0.1).abs() < 1e-9);
    let report = check(&trace);
    assert!(report.is_legal(), "{report}");
}

#[test]
fn the_errors_of_the_core_mark_its_span_too() {
    let trace = journeys::trace(&journeys::failed(), Detail::Phases, Some(500));
    let statuses: Vec<_> = trace.spans.iter().map(|span| (span.name.as_ref(), &span.status)).collect();
    assert!(statuses[..2].iter().all(|(_, status)| **status != sojourn_journey::trace::Status::Unset), "{statuses:?}");
    assert!(journeys::failed().cores[0].iter().any(|record| record.event == CoreEvent::Finished(FinishStatus::Error)));
}
