//! What the receiver got: every journey judged, and counted by outcome. Pure.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use sojourn_contract::attribute;
use sojourn_contract::journey::LLM_REQUEST;
use sojourn_journey::check::check;
use sojourn_journey::trace::Trace;

use crate::receiver::traces;

/// Violations that are kept to be shown.
const SHOWN: usize = 10;

/// The books.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    /// Journeys by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Preemptions in all journeys.
    pub preemptions: i64,
    /// Violations in all journeys.
    pub violations: u64,
    /// The first of them.
    pub shown: Vec<String>,
}

impl Ledger {
    /// Judges and counts what came; one request holds whole journeys.
    pub fn take(&mut self, requests: &[ExportTraceServiceRequest]) {
        for trace in requests.iter().flat_map(traces) {
            self.judge(&trace);
        }
    }

    fn judge(&mut self, trace: &Trace) {
        for span in trace.spans.iter().filter(|span| span.name == LLM_REQUEST) {
            let outcome = span.attributes.text(attribute::OUTCOME).unwrap_or("none");
            *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
            self.preemptions += span.attributes.int(attribute::JOURNEY_NUM_PREEMPTIONS).unwrap_or(0);
        }
        let report = check(trace);
        self.violations += report.violations.len() as u64;
        let room = SHOWN.saturating_sub(self.shown.len());
        self.shown.extend(report.violations.iter().take(room).map(|violation| format!("{:032x}: {violation}", trace.id())));
    }

    /// Journeys of all outcomes.
    pub fn journeys(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use sojourn_journey::trace::Span;

    use super::*;

    #[test]
    fn an_illegal_journey_is_counted_and_shown() {
        let mut span = Span { trace_id: 1, span_id: 2, name: LLM_REQUEST.into(), ..Span::default() };
        span.attributes.push(attribute::OUTCOME, "ok");
        let mut ledger = Ledger::default();
        ledger.judge(&Trace { spans: vec![span] });
        assert_eq!(ledger.outcomes, BTreeMap::from([("ok".to_owned(), 1)]));
        assert!(ledger.violations > 0 && !ledger.shown.is_empty(), "{ledger:?}");
    }
}
