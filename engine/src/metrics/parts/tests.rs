//! The sums against the facts of the journey that the same events make.

use proptest::prelude::*;
use sojourn_contract::journey::{AbortReason, Kind, Parent, Phase, PreemptReason, ScheduleKind};
use sojourn_journey::facts::Facts;
use sojourn_journey::record::{ApiEvent, ApiRecord, CoreRecord, Journey, Progress, Stamp};

use super::*;

fn stamp(seconds: f64) -> Stamp {
    Stamp { unix_nanos: 0, monotonic: seconds }
}

/// An event of a sequence, by what is possible after the last one.
fn next(last: Option<&CoreEvent>, decoding: bool, choice: u8) -> Option<CoreEvent> {
    let scheduled = |kind| CoreEvent::Scheduled { kind, cached_tokens: 0, recomputed_tokens: 0 };
    let finished = CoreEvent::Finished(FinishStatus::ALL[choice as usize % FinishStatus::ALL.len()]);
    Some(match (last?, choice % 4) {
        (CoreEvent::Finished(_) | CoreEvent::Omitted(_), _) => return None,
        (_, 0) => finished,
        (CoreEvent::Queued, _) => scheduled(ScheduleKind::First),
        (CoreEvent::Preempted(_), _) => scheduled(ScheduleKind::Resume),
        (CoreEvent::Scheduled { .. }, 1 | 2) if !decoding => CoreEvent::FirstToken,
        (CoreEvent::Scheduled { .. } | CoreEvent::FirstToken, _) => CoreEvent::Preempted(PreemptReason::Priority),
    })
}

/// A journey of some sequences, in the order in which things happened; the request ends after `ends_after` of its events.
fn run(sequences: usize, moves: &[(usize, u8, u8)], ends_after: usize, reason: Option<AbortReason>) -> (Facts, Parts) {
    let progress = Progress {
        phase: Phase::Waiting,
        prefill_done: 0,
        prefill_total: 1,
        decode_done: 0,
        decode_max: 1,
        step: 0,
        num_preemptions: 0,
    };
    let mut journey = Journey {
        kind: Kind::Request,
        parent: Parent::None,
        request_id: "r".into(),
        queue_depth_at_arrival: 0,
        running_at_arrival: 0,
        api: vec![ApiRecord { at: stamp(10.0), event: ApiEvent::Arrived }],
        cores: vec![Vec::new(); sequences],
    };
    let mut parts = Parts::new(10.0);
    let mut now = 10.5;
    let add = |journey: &mut Journey, parts: &mut Parts, index: usize, now: f64, event: CoreEvent| {
        journey.cores[index].push(CoreRecord { at: stamp(now), event, progress });
        parts.core(index, now, &event);
    };
    let end = |journey: &mut Journey, parts: &mut Parts, now: f64| {
        let event = reason.map_or(ApiEvent::Departed, |reason| ApiEvent::Aborted { reason, error: String::new() });
        journey.api.push(ApiRecord { at: stamp(now), event });
        parts.end(now);
    };
    for index in 0..sequences {
        add(&mut journey, &mut parts, index, now, CoreEvent::Queued);
    }
    for (count, (index, choice, pause)) in moves.iter().enumerate() {
        if count == ends_after {
            now += 0.25;
            end(&mut journey, &mut parts, now);
        }
        let index = index % sequences;
        let decoding = journey.cores[index].iter().any(|record| record.event == CoreEvent::FirstToken);
        let last = journey.cores[index].last().map(|record| record.event);
        let Some(event) = next(last.as_ref(), decoding, *choice) else { continue };
        // No pause: things happen in one instant too, though not after the end.
        now += f64::from(*pause) / 64.0 + if count >= ends_after { 0.125 } else { 0.0 };
        add(&mut journey, &mut parts, index, now, event);
    }
    for index in 0..sequences {
        if !matches!(journey.cores[index].last(), Some(CoreRecord { event: CoreEvent::Finished(_), .. })) {
            now += 0.5;
            add(&mut journey, &mut parts, index, now, CoreEvent::Finished(FinishStatus::Aborted));
        }
    }
    if moves.len() <= ends_after {
        end(&mut journey, &mut parts, now + 0.125);
    }
    (journey.facts(), parts)
}

fn assert_equal(facts: &Facts, parts: &Parts) -> Result<(), TestCaseError> {
    let near =
        |a: Option<f64>, b: Option<f64>| a.is_some() == b.is_some() && (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() < 1e-9;
    let of_facts = [Some(facts.api), facts.queue, facts.prefill, facts.decode, facts.preempted, facts.client];
    for (part, expected) in Bottleneck::ALL.iter().zip(of_facts) {
        prop_assert!(near(parts.seconds_in(*part), expected), "{part}: {:?} for {expected:?}", parts.seconds_in(*part));
    }
    prop_assert!(near(parts.time_to_first_token(), facts.time_to_first_token));
    prop_assert!(near(Some(parts.duration()), Some(facts.duration)));
    prop_assert!(near(Some(parts.e2e()), Some(facts.e2e)), "{} for {}", parts.e2e(), facts.e2e);
    prop_assert_eq!(facts.abort_phase.unwrap_or(parts.abort_phase()), parts.abort_phase());
    prop_assert!(parts.is_complete());
    let sum: f64 = Bottleneck::ALL.iter().filter_map(|part| parts.seconds_in(*part)).sum();
    prop_assert!((sum - parts.duration()).abs() < 1e-9, "{sum} is not {}", parts.duration());
    Ok(())
}

proptest! {
    #[test]
    fn parts_are_what_the_journey_says(
        sequences in 1usize..4,
        moves in prop::collection::vec((0usize..4, 0u8..12, 0u8..3), 0..40),
        ends_after in 0usize..50,
        reason in prop::option::of(prop::sample::select(AbortReason::ALL)),
    ) {
        let (facts, parts) = run(sequences, &moves, ends_after, reason);
        assert_equal(&facts, &parts)?;
    }
}

#[test]
fn a_request_that_the_core_never_had_spends_all_of_its_time_in_the_api() {
    let mut parts = Parts::new(1.0);
    assert!(!parts.is_complete());
    parts.end(1.5);
    assert!(parts.is_complete());
    assert_eq!(parts.seconds_in(Bottleneck::Api), Some(0.5));
    assert_eq!((parts.seconds_in(Bottleneck::Queue), parts.seconds_in(Bottleneck::Client)), (None, None));
    assert_eq!((parts.duration(), parts.e2e(), parts.abort_phase()), (0.5, 0.5, AbortPhase::Api));
}
