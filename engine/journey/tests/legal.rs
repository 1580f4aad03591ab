//! What must hold for every legal journey.

mod journeys;

use proptest::prelude::*;
use sojourn_contract::event;
use sojourn_contract::journey::{Bottleneck, Detail};
use sojourn_journey::check::check;
use sojourn_journey::facts::Facts;
use sojourn_journey::log::CoreLog;
use sojourn_journey::read::otlp;
use sojourn_journey::record::{CoreEvent, CoreRecord, Journey};
use sojourn_journey::trace::Trace;
use sojourn_journey::{recover, spans, timeline};

use journeys::model::journeys;
use journeys::trace;

/// The journeys of a text, as they were recorded.
fn read_back(text: &str) -> Vec<Journey> {
    let traces = Trace::read(text).expect("traces");
    traces.iter().flat_map(recover::journeys).map(|found| found.journey().expect("a journey")).collect()
}

/// The journey with at most so many preemptions of each sequence written out.
fn bounded(journey: &Journey, preemptions: usize) -> Journey {
    let bound = |core: &Vec<CoreRecord>| {
        let mut log = CoreLog::with_bound(preemptions);
        core.iter().for_each(|record| log.push(*record));
        log.into_records()
    };
    Journey { cores: journey.cores.iter().map(bound).collect(), ..journey.clone() }
}

/// The durations in whole nanoseconds, by which two facts that are equal but for the digits of a sum are equal.
fn nanos(facts: &Facts) -> Vec<Option<i64>> {
    let of = |seconds: f64| (seconds * 1e9).round() as i64;
    let parts = [facts.queue, facts.prefill, facts.decode, facts.preempted, facts.client, facts.time_to_first_token];
    let always = [facts.duration, facts.api, facts.e2e];
    parts.into_iter().chain(always.map(Some)).map(|seconds| seconds.map(of)).collect()
}

proptest! {
    #[test]
    fn a_bound_on_repeats_keeps_the_ends_the_facts_and_the_legality(journey in journeys(), bound in 0_usize..4) {
        let kept = bounded(&journey, bound);
        for (kept, all) in kept.cores.iter().zip(&journey.cores) {
            let repeats = |record: &&CoreRecord| matches!(record.event, CoreEvent::Preempted(_));
            prop_assert!(kept.iter().filter(repeats).count() <= bound);
            prop_assert!(kept.len() <= 2 * bound + 4 + 2, "{} records", kept.len());
            prop_assert_eq!((kept.first(), kept.last()), (all.first(), all.last()));
        }
        let (facts, expected) = (kept.facts(), journey.facts());
        let words = |facts: &Facts| (facts.outcome, facts.abort_reason, facts.num_preemptions, facts.recomputed_tokens);
        prop_assert_eq!(words(&facts), words(&expected));
        prop_assert_eq!(&facts.preempt_reasons, &expected.preempt_reasons);
        // Of several sequences the places of what was left out would have to be known, too.
        if journey.cores.len() < 2 {
            prop_assert_eq!(nanos(&facts), nanos(&expected));
            prop_assert_eq!(facts.abort_phase, expected.abort_phase);
        }
        for detail in Detail::ALL {
            let report = check(&trace(&kept, *detail, None));
            prop_assert!(report.is_legal(), "{}", report);
        }
    }

    #[test]
    fn spans_are_counted_without_being_made(journey in journeys()) {
        for detail in [Detail::Journey, Detail::Phases] {
            prop_assert_eq!(spans::count(&journey, detail), trace(&journey, detail, None).spans.len());
        }
    }

    #[test]
    fn the_parts_of_a_journey_follow_each_other_without_a_gap(journey in journeys()) {
        let end = journey.last().expect("an end");
        let segments = timeline::of_request(&journey, end);
        let mut now = journey.arrived().expect("a start");
        for segment in &segments {
            prop_assert_eq!(segment.from.monotonic, now.monotonic);
            prop_assert!(segment.seconds() > 0.0);
            now = segment.to;
        }
        prop_assert_eq!(now.monotonic, end.monotonic);
        for pair in segments.windows(2) {
            prop_assert_ne!(pair[0].part, pair[1].part);
        }
    }

    #[test]
    fn the_parts_add_up_to_the_duration(journey in journeys()) {
        let facts = journey.facts();
        let sum: f64 = Bottleneck::ALL.iter().map(|part| facts.seconds_in(*part)).sum();
        prop_assert!((sum - facts.duration).abs() < 1e-9, "{} is not {}", sum, facts.duration);
        prop_assert!((facts.e2e + facts.client.unwrap_or(0.0) - facts.duration).abs() < 1e-9);
        prop_assert!(Bottleneck::ALL.iter().all(|part| facts.seconds_in(*part) <= facts.seconds_in(facts.bottleneck)));
    }

    #[test]
    fn the_spans_of_a_legal_journey_are_legal(journey in journeys()) {
        for detail in Detail::ALL {
            let report = check(&trace(&journey, *detail, None));
            prop_assert_eq!(report.journeys, 1);
            prop_assert!(report.is_legal(), "{}", report);
        }
    }

    #[test]
    fn a_journey_is_read_back_from_its_spans(journey in journeys()) {
        let trace = trace(&journey, Detail::Phases, None);
        let found = recover::journeys(&trace);
        prop_assert_eq!(found[0].journey().expect("a journey"), journey);
    }

    #[test]
    fn a_journey_stays_legal_on_its_way_through_otlp_json(journey in journeys()) {
        let written = otlp::write(&[trace(&journey, Detail::Phases, None)]).to_string();
        let report = check(&Trace::read(&written).expect("a trace")[0]);
        prop_assert!(report.is_legal(), "{}", report);
        prop_assert_eq!(read_back(&written)[0].facts().outcome, journey.facts().outcome);
    }

    #[test]
    fn an_event_that_is_missing_is_noticed(journey in journeys(), which in any::<prop::sample::Index>()) {
        let mut trace = trace(&journey, Detail::Journey, None);
        let counts: Vec<usize> = trace.spans.iter().map(|span| span.events.len()).collect();
        let mut index = which.index(counts.iter().sum());
        let span = trace.spans.iter_mut().find(|span| {
            let inside = index < span.events.len();
            index -= if inside { 0 } else { span.events.len() };
            inside
        }).expect("the index is below the count of events");
        let removed = span.events.remove(index);
        // The one may never come, and a resumption that ends at once leaves no other mark.
        let resumed = removed.name == event::SCHEDULED && removed.attributes.int("num_preemptions") > Some(0);
        prop_assume!(removed.name != event::FIRST_RESPONSE_FROM_CORE && !resumed);
        prop_assert!(!check(&trace).is_legal(), "{} is not missed", removed.name);
    }
}
