//! TraceQL, written from the contract's names. Traces are for listing and comparing; they are sampled by outcome, so nothing
//! here is a ratio or a percentile.

use sojourn_contract::attribute;
use sojourn_contract::journey::{Kind, LLM_REQUEST};
use sojourn_contract::sampling::KEPT_BY_RATE;

/// An attribute of the span.
pub fn span(attribute: &str) -> String {
    format!("span.{attribute}")
}

/// An attribute of the resource.
pub fn resource(attribute: &str) -> String {
    format!("resource.{attribute}")
}

/// The services that the dashboard's variables choose.
pub fn chosen_services() -> String {
    format!(r#"{}=~"$namespace" && {}=~"$service""#, resource(attribute::SERVICE_NAMESPACE), resource(attribute::SERVICE_NAME))
}

/// Requests of these services: the API span of each, because facts stand on every span and one row a request is enough.
pub fn requests() -> String {
    format!(r#"{} && span:name="{LLM_REQUEST}" && {}="{}""#, chosen_services(), span(attribute::KIND), Kind::Request)
}

/// A list of spans with these attributes as columns.
pub fn list(condition: &str, columns: &[&str]) -> String {
    let columns = columns.iter().map(|column| span(column)).collect::<Vec<_>>().join(", ");
    format!("{{ {condition} }} | select({columns})")
}

/// Requests for which a fact in seconds is larger than this.
pub fn slower_than(fact: &str, seconds: &str) -> String {
    format!("{{ {} && {} > {seconds} }}", requests(), span(fact))
}

/// Requests that were aborted for this reason in this phase.
pub fn aborted(reason: &str, phase: &str) -> String {
    let (abort_reason, abort_phase) = (span(attribute::ABORT_REASON), span(attribute::ABORT_PHASE));
    format!(r#"{{ {} && {abort_reason}="{reason}" && {abort_phase}="{phase}" }}"#, requests())
}

/// Requests that were preempted for this reason: an array equals a text that is one of its own.
pub fn preempted_for(reason: &str) -> String {
    format!(r#"{{ {} && {}="{reason}" }}"#, requests(), span(attribute::PREEMPT_REASONS))
}

/// What the slow requests have that ordinary ones have not. Ordinary is what only the rate kept: the rest was kept for being
/// unusual, and would make the baseline so.
pub fn slow_against_ordinary(seconds: &str) -> String {
    let slow = format!("{} > {seconds}", span(attribute::DURATION_SECONDS));
    let ordinary = format!(r#"{}="{KEPT_BY_RATE}""#, span(attribute::KEPT_BY));
    format!("{{ {} && ({slow} || {ordinary}) }} | compare({{ {slow} }}, 5)", requests())
}

/// How many spans match, for each value of an attribute.
pub fn count_by(condition: &str, attribute: &str) -> String {
    format!("{{ {condition} }} | count_over_time() by ({})", span(attribute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_requests_are_compared_with_those_that_no_rule_kept() {
        let query = slow_against_ordinary("$slow");
        assert!(query.contains(r#"(span.journey.duration_seconds > $slow || span.journey.kept_by="rate")"#), "{query}");
        assert!(query.ends_with("compare({ span.journey.duration_seconds > $slow }, 5)"), "{query}");
    }
}
