//! What must hold for every legal journey.

mod journeys;

use proptest::prelude::*;
use sojourn_contract::event;
use sojourn_contract::journey::{Bottleneck, Detail};
use sojourn_journey::check::check;
use sojourn_journey::read::otlp;
use sojourn_journey::record::Journey;
use sojourn_journey::trace::Trace;
use sojourn_journey::{recover, spans, timeline};

use journeys::model::journeys;
use journeys::trace;

/// The journeys of a text, as they were recorded.
fn read_back(text: &str) -> Vec<Journey> {
    let traces = Trace::read(text).expect("traces");
    traces.iter().flat_map(recover::journeys).map(|found| found.journey().expect("a journey")).collect()
}

proptest! {
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
