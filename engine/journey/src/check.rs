//! Whether a trace tells legal journeys. Pure; written once for tests, for e2e and for `sojourn-engine check`.
//!
//! A journey is judged in stages, each only where the one before found nothing: the spans and their links, what stands on
//! them, the order of events, how progress goes on, and last the facts, which must follow from the events. So a fault is
//! named once, by the rule it breaks, and not by all that follow from it.

mod api_events;
mod core_events;
mod facts;
mod layers;
mod phases;
mod progress;
pub mod rule;
mod spans;
mod startup;

use std::fmt;

use self::rule::Rule;
use crate::record::Journey;
use crate::recover::{self, Flaw, Found};
use crate::trace::{Span, Trace};

/// Durations and time stamps that differ by less are equal: backends keep microseconds.
const TOLERANCE_SECONDS: f64 = 2e-6;
/// The same in nanoseconds.
const TOLERANCE_NANOS: u64 = 2_000;

/// What a trace was found to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Journeys that were judged: `llm_request` spans.
    pub journeys: usize,
    /// What is wrong, journey by journey.
    pub violations: Vec<Violation>,
}

/// Something that no legal journey has.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// The rule that is broken.
    pub rule: Rule,
    /// Name of the span that breaks it.
    pub span: String,
    /// Its id.
    pub span_id: u64,
    /// For people: what was found, and what it should be.
    pub message: String,
}

/// Judges all journeys of a trace, and start-up and probe spans. Spans of others are nobody's business here.
pub fn check(trace: &Trace) -> Report {
    let journeys = recover::journeys(trace);
    let mut findings = Findings::default();
    spans::check(trace, &mut findings);
    startup::check(trace, &mut findings);
    for found in &journeys {
        if !is_hidden(found, &findings) {
            check_journey(found, &mut findings);
        }
    }
    Report { journeys: journeys.len(), violations: findings.0 }
}

/// A fault of its own spans, or a span that nobody can place, would only show again in everything that follows.
fn is_hidden(found: &Found<'_>, findings: &Findings) -> bool {
    let is_of_it = |id: u64| found.spans().any(|span| span.span_id == id);
    let unplaced = [Rule::SpanNames, Rule::CoreParent, Rule::PhaseParent];
    findings.0.iter().any(|violation| is_of_it(violation.span_id) || unplaced.contains(&violation.rule))
}

fn check_journey(found: &Found<'_>, findings: &mut Findings) {
    let known = findings.0.len();
    facts::check_agreement(found, findings);
    let journey = match found.journey() {
        Ok(journey) => journey,
        Err(flaws) => return findings.flaws(flaws),
    };
    let order: &[Stage] = &[api_events::check, core_events::check];
    let course: &[Stage] = &[layers::check, progress::check, phases::check_bounds];
    let conclusions: &[Stage] = &[phases::check, facts::check];
    for stage in [order, course, conclusions] {
        if findings.0.len() > known {
            return;
        }
        stage.iter().for_each(|check| check(found, &journey, findings));
    }
}

/// A group of rules.
type Stage = fn(&Found<'_>, &Journey, &mut Findings);

impl Report {
    /// Nothing is wrong. A trace without a journey is legal, too: look at [`Report::journeys`].
    pub fn is_legal(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        write!(f, "{}, ", plural(self.journeys, "journey"))?;
        if self.is_legal() {
            return f.write_str("legal");
        }
        f.write_str(&plural(self.violations.len(), "violation"))?;
        self.violations.iter().try_for_each(|violation| write!(f, "\n{violation}"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, span, span_id, message } = self;
        write!(f, "{rule}: {span} {span_id:016x}: {message}\n    rule: {}", rule.says())
    }
}

/// The violations found so far.
#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, rule: Rule, span: &Span, message: impl Into<String>) {
        self.0.push(Violation { rule, span: span.name.to_string(), span_id: span.span_id, message: message.into() });
    }

    /// Adds a violation unless `holds`.
    fn expect(&mut self, holds: bool, rule: Rule, span: &Span, message: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, span, message());
        }
    }

    fn flaws(&mut self, flaws: Vec<(&Span, Flaw)>) {
        for (span, flaw) in flaws {
            let rule = match &flaw {
                Flaw::UnknownEvent { .. } => Rule::KnownEvents,
                Flaw::Missing { on_event: true, .. } | Flaw::WrongType { on_event: true, .. } => Rule::EventAttributes,
                Flaw::Missing { .. } | Flaw::WrongType { .. } => Rule::SpanAttributes,
                Flaw::UnknownWord { .. } => Rule::ClosedWords,
            };
            self.add(rule, span, flaw.to_string());
        }
    }
}
