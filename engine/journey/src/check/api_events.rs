//! The order of events in the API layer.

use sojourn_contract::attribute;
use sojourn_contract::journey::Parent;

use super::Findings;
use super::rule::Rule;
use crate::record::{ApiEvent, ApiRecord, Journey};
use crate::recover::Found;

pub(super) fn check(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    check_parent(found, journey, findings);
    check_order(found, journey, findings);
}

fn check_parent(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    let is_root = found.request.parent_span_id.is_none();
    findings.expect(is_root == (journey.parent == Parent::None), Rule::ParentFact, found.request, || {
        let what = if is_root { "a root" } else { "the child of a caller's span" };
        format!("{} is {}, but the span is {what}", attribute::PARENT, journey.parent)
    });
}

fn check_order(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    let request = found.request;
    let api = &journey.api;
    let count = |wanted: fn(&ApiEvent) -> bool| api.iter().filter(|record| wanted(&record.event)).count();
    let first = api.iter().position(|record| record.event == ApiEvent::Arrived);
    let arrivals = count(|event| *event == ApiEvent::Arrived);
    findings.expect(first == Some(0) && arrivals == 1, Rule::ArrivedFirst, request, || match (first, arrivals) {
        (None, _) => "there is no ARRIVED".into(),
        (Some(0), more) => format!("there are {more} ARRIVED"),
        (Some(place), _) => format!("ARRIVED is event {} in time order", place + 1),
    });

    let terminals = count(is_terminal);
    findings.expect(terminals == 1, Rule::OneTerminalEvent, request, || match terminals {
        0 => "there is neither DEPARTED nor ABORTED".into(),
        more => format!("there are {more}"),
    });
    let last_is_terminal = api.last().is_some_and(|record| is_terminal(&record.event));
    findings.expect(terminals != 1 || last_is_terminal, Rule::TerminalLast, request, || {
        format!("{:?} comes after it", api.last().map(|record| &record.event))
    });

    let handoffs = count(|event| *event == ApiEvent::HandoffToCore);
    let responses = count(|event| *event == ApiEvent::FirstResponseFromCore);
    let response_first = position(api, &ApiEvent::FirstResponseFromCore) < position(api, &ApiEvent::HandoffToCore);
    let in_order = responses == 0 || handoffs == 0 || !response_first;
    findings.expect(handoffs <= 1 && responses <= 1 && in_order, Rule::ApiOrder, request, || {
        let order = if in_order { "" } else { ", in the wrong order" };
        format!("there are {handoffs} HANDOFF_TO_CORE and {responses} FIRST_RESPONSE_FROM_CORE{order}")
    });
}

fn is_terminal(event: &ApiEvent) -> bool {
    matches!(event, ApiEvent::Departed | ApiEvent::Aborted { .. })
}

fn position(api: &[ApiRecord], event: &ApiEvent) -> Option<usize> {
    api.iter().position(|record| record.event == *event)
}
