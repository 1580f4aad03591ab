//! The facts: equal on all spans, and what the events say.

use sojourn_contract::attribute;
use sojourn_contract::journey::{Bottleneck, LLM_CORE, LLM_REQUEST, Outcome};

use super::rule::Rule;
use super::{Findings, TOLERANCE_SECONDS};
use crate::facts::Facts;
use crate::record::Journey;
use crate::recover::{self, Found, FoundCore};
use crate::trace::{Span, Status, Value};

/// The facts that stand on the spans, before the events are looked at.
pub(super) fn check_agreement(found: &Found<'_>, findings: &mut Findings) {
    let on_request = facts_of(found.request);
    for span in found.spans().skip(1) {
        let on_span = facts_of(span);
        let differs =
            |key: &&&str| on_request.iter().find(|(known, _)| known == *key) != on_span.iter().find(|(known, _)| known == *key);
        let keys: Vec<&&str> = on_request.iter().chain(&on_span).map(|(key, _)| key).collect();
        let differing = keys.into_iter().find(differs);
        findings.expect(differing.is_none(), Rule::FactsEqual, span, || {
            let key = differing.copied().unwrap_or_default();
            let say = |span: &Span| span.attributes.get(key).map_or("absent".to_owned(), Value::to_string);
            format!("{key} is {} here and {} on llm_request", say(span), say(found.request))
        });
        findings.expect(span.resource == found.request.resource, Rule::SameResource, span, || {
            "its resource is not llm_request's".into()
        });
        let foreign = span.attributes.0.iter().find(|(key, _)| is_request_only(key));
        findings.expect(foreign.is_none(), Rule::RequestOnly, span, || {
            format!("it has {}", foreign.map(|(key, _)| key.as_ref()).unwrap_or_default())
        });
        let event = span.events.first().filter(|_| span.name != LLM_CORE);
        findings.expect(event.is_none(), Rule::KnownEvents, span, || {
            format!("it has {}", event.map(|event| event.name.as_ref()).unwrap_or_default())
        });
    }
}

/// The facts that follow from the events.
pub(super) fn check(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    let written = match recover::read_facts(found.request) {
        Ok(written) => written,
        Err(flaws) => return findings.flaws(flaws.into_iter().map(|flaw| (found.request, flaw)).collect()),
    };
    let expected = journey.facts();
    check_sums(found.request, &written, findings);
    if found.cores.iter().any(FoundCore::lacks_events) {
        // What stood on events that were left out is not known any more.
        let abort_phase = expected.abort_phase.map(|phase| written.abort_phase.unwrap_or(phase));
        check_outcome(found, &written, &Facts { abort_phase, ..expected.clone() }, findings);
        check_count_of_preemptions(found.request, journey, &written, findings);
        check_durations(found.request, &written, &expected, |key| KNOWN_WITHOUT_REPEATS.contains(&key), findings);
    } else {
        check_outcome(found, &written, &expected, findings);
        check_preemptions(found.request, &written, &expected, findings);
        check_durations(found.request, &written, &expected, |_| true, findings);
    }
    let largest = Bottleneck::ALL.iter().map(|part| written.seconds_in(*part)).fold(0.0, f64::max);
    let bottleneck = written.seconds_in(written.bottleneck);
    findings.expect(bottleneck >= largest - TOLERANCE_SECONDS, Rule::LargestPart, found.request, || {
        format!("{} has {bottleneck:.6} s, another part {largest:.6} s", written.bottleneck)
    });
}

fn check_outcome(found: &Found<'_>, written: &Facts, expected: &Facts, findings: &mut Findings) {
    let said = |facts: &Facts| (facts.outcome, facts.abort_reason, facts.abort_phase);
    findings.expect(said(written) == said(expected), Rule::OutcomeFollowsEvents, found.request, || {
        format!("it says {}, but the events {}", outcome(written), outcome(expected))
    });
    let http_status = found.request.attributes.int(attribute::HTTP_RESPONSE_STATUS_CODE);
    let error_type = expected.error_type(http_status);
    let is_error = expected.outcome == Some(Outcome::Error);
    for span in found.spans() {
        let said = span.attributes.text(attribute::ERROR_TYPE);
        findings.expect(said == error_type.as_deref(), Rule::ErrorType, span, || {
            let or_absent = |text: Option<&str>| text.unwrap_or("absent").to_owned();
            format!("it is {}, but must be {}", or_absent(said), or_absent(error_type.as_deref()))
        });
        if [LLM_REQUEST, LLM_CORE].contains(&span.name.as_ref()) {
            let right = if is_error { matches!(span.status, Status::Error(_)) } else { span.status == Status::Unset };
            findings.expect(right, Rule::SpanStatus, span, || {
                format!("it is {:?}, with outcome {}", span.status, outcome(expected))
            });
        }
    }
}

fn check_preemptions(span: &Span, written: &Facts, expected: &Facts, findings: &mut Findings) {
    let said = |facts: &Facts| (facts.num_preemptions, facts.preempt_reasons.clone(), facts.recomputed_tokens);
    findings.expect(said(written) == said(expected), Rule::PreemptionFacts, span, || {
        format!("they are {:?}, but the events say {:?}", said(written), said(expected))
    });
}

/// The count on the last event of each sequence includes what was left out.
fn check_count_of_preemptions(span: &Span, journey: &Journey, written: &Facts, findings: &mut Findings) {
    let last = journey.cores.iter().filter_map(|core| core.last());
    let counted = last.map(|record| record.progress.num_preemptions).fold(0, u32::saturating_add);
    findings.expect(written.num_preemptions == counted, Rule::PreemptionFacts, span, || {
        format!("it says {} preemptions, but the last events of its sequences {counted}", written.num_preemptions)
    });
}

fn check_sums(span: &Span, written: &Facts, findings: &mut Findings) {
    let sum: f64 = Bottleneck::ALL.iter().map(|part| written.seconds_in(*part)).sum();
    findings.expect((sum - written.duration).abs() <= TOLERANCE_SECONDS, Rule::SumsAddUp, span, || {
        format!("they add up to {sum:.6} s, the duration is {:.6} s", written.duration)
    });
}

/// Durations that no preemption has a part in.
const KNOWN_WITHOUT_REPEATS: [&str; 5] = [
    attribute::DURATION_SECONDS,
    attribute::API_SECONDS,
    attribute::CLIENT_SECONDS,
    attribute::TIME_TO_FIRST_TOKEN,
    attribute::E2E,
];

fn check_durations(span: &Span, written: &Facts, expected: &Facts, known: fn(&str) -> bool, findings: &mut Findings) {
    let sums_add_up = !findings.0.iter().any(|found| found.rule == Rule::SumsAddUp && found.span_id == span.span_id);
    let pairs = durations(written).into_iter().zip(durations(expected));
    for ((key, written), (_, expected)) in pairs.filter(|((key, _), _)| known(key)) {
        findings.expect(written.is_some() == expected.is_some(), Rule::AbsentFacts, span, || {
            let happened =
                if expected.is_some() { "is absent, but the events have it" } else { "is there, but never happened" };
            format!("{key} {happened}")
        });
        let (Some(written), Some(expected)) = (written, expected) else { continue };
        let equal = (written - expected).abs() <= TOLERANCE_SECONDS;
        findings.expect(equal || !sums_add_up, Rule::DurationsFollowEvents, span, || {
            format!("{key} is {written:.6} s, but {expected:.6} s lie between the events")
        });
    }
}

fn durations(facts: &Facts) -> [(&'static str, Option<f64>); 9] {
    [
        (attribute::DURATION_SECONDS, Some(facts.duration)),
        (attribute::API_SECONDS, Some(facts.api)),
        (attribute::TIME_IN_QUEUE, facts.queue),
        (attribute::TIME_IN_MODEL_PREFILL, facts.prefill),
        (attribute::TIME_IN_MODEL_DECODE, facts.decode),
        (attribute::PREEMPTED_SECONDS, facts.preempted),
        (attribute::CLIENT_SECONDS, facts.client),
        (attribute::TIME_TO_FIRST_TOKEN, facts.time_to_first_token),
        (attribute::E2E, Some(facts.e2e)),
    ]
}

fn outcome(facts: &Facts) -> String {
    let outcome = facts.outcome.map_or("nothing", Outcome::as_str);
    match (facts.abort_reason, facts.abort_phase) {
        (Some(reason), Some(phase)) => format!("{outcome} ({reason} in {phase})"),
        (Some(reason), None) => format!("{outcome} ({reason})"),
        (None, Some(phase)) => format!("{outcome} (in {phase})"),
        (None, None) => outcome.to_owned(),
    }
}

/// The facts among a span's attributes, and why the sidecar kept it.
fn facts_of(span: &Span) -> Vec<(&str, &Value)> {
    let is_fact = |key: &str| {
        let ours = key.starts_with("journey.") || key.starts_with("gen_ai.latency.");
        ours && ![attribute::SEQUENCE_INDEX, attribute::DROPPED_EVENTS].contains(&key)
    };
    span.attributes.0.iter().map(|(key, value)| (key.as_ref(), value)).filter(|(key, _)| is_fact(key)).collect()
}

fn is_request_only(key: &str) -> bool {
    let gen_ai = key.starts_with("gen_ai.") && !key.starts_with("gen_ai.latency.");
    gen_ai || key.starts_with("http.") || key.starts_with("url.")
}
