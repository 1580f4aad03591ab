//! Start-up and probe spans: no journeys, but sampling rules and the supervisor look for the same attributes on them.

use sojourn_contract::attribute;
use sojourn_contract::journey::{ENGINE_STARTUP, Kind, Outcome, Parent, SIDECAR_PROBE, StartupStage, UnknownWord};

use super::Findings;
use super::rule::Rule;
use crate::trace::{Span, Trace};

pub(super) fn check(trace: &Trace, findings: &mut Findings) {
    for span in &trace.spans {
        let is_stage = StartupStage::ALL.iter().any(|stage| stage.as_str() == span.name) && is_below_startup(trace, span);
        if span.name == ENGINE_STARTUP || is_stage {
            check_startup(span, findings);
        } else if span.name == SIDECAR_PROBE {
            expect_word(span, attribute::KIND, &[Kind::Probe.as_str()], findings);
        }
    }
}

fn is_below_startup(trace: &Trace, span: &Span) -> bool {
    let parent = trace.spans.iter().find(|other| Some(other.span_id) == span.parent_span_id);
    parent.is_some_and(|parent| parent.name == ENGINE_STARTUP)
}

fn check_startup(span: &Span, findings: &mut Findings) {
    expect_word(span, attribute::KIND, &[Kind::Startup.as_str()], findings);
    expect_word(span, attribute::PARENT, &[Parent::None.as_str()], findings);
    expect_word(span, attribute::OUTCOME, &[Outcome::Ok.as_str(), Outcome::Error.as_str()], findings);
    let duration = span.attributes.float(attribute::DURATION_SECONDS);
    findings.expect(duration.is_some_and(|seconds| seconds >= 0.0), Rule::StartupAttributes, span, || {
        format!("{} must be a number of seconds", attribute::DURATION_SECONDS)
    });
}

fn expect_word(span: &Span, key: &str, known: &[&str], findings: &mut Findings) {
    let word = span.attributes.text(key).unwrap_or_default();
    findings.expect(known.contains(&word), Rule::StartupAttributes, span, || {
        format!("{key}: {}", UnknownWord { word: word.to_owned(), known: known.join(", ") })
    });
}
