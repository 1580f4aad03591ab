//! The order of events in the API layer, and how it fits to the core's.

use sojourn_contract::attribute;
use sojourn_contract::journey::{FinishStatus, Parent};

use super::rule::Rule;
use super::{Findings, TOLERANCE_SECONDS};
use crate::record::{ApiEvent, ApiRecord, CoreEvent, CoreRecord, Journey};
use crate::recover::Found;

pub(super) fn check(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    check_parent(found, journey, findings);
    check_order(found, journey, findings);
    check_core(found, journey, findings);
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

fn check_core(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    let request = found.request;
    let handoff = journey.api.iter().find(|record| record.event == ApiEvent::HandoffToCore);
    let cores = journey.cores.len();
    findings.expect(handoff.is_some() == (cores > 0), Rule::CoreIffHandoff, request, || {
        let handed = if handoff.is_some() { "was" } else { "was not" };
        format!("it {handed} handed to the core, and has {cores} llm_core")
    });

    for (expected, core) in (0..).zip(&found.cores) {
        let index = core.span.attributes.int(attribute::SEQUENCE_INDEX);
        findings.expect(index == Some(expected), Rule::SequenceIndices, core.span, || {
            let found = index.map_or("absent".to_owned(), |index| index.to_string());
            format!("{} is {found}, but must be {expected}", attribute::SEQUENCE_INDEX)
        });
    }

    let records = || journey.cores.iter().flatten();
    if let (Some(handoff), Some(queued)) = (handoff, earliest(records(), CoreEvent::Queued)) {
        findings.expect(queued >= handoff.at.monotonic - TOLERANCE_SECONDS, Rule::HandoffBeforeQueued, request, || {
            format!("a sequence was queued {:.6} s before the handoff", handoff.at.monotonic - queued)
        });
    }
    let response = journey.api.iter().find(|record| record.event == ApiEvent::FirstResponseFromCore);
    if let Some(response) = response {
        let token = earliest(records(), CoreEvent::FirstToken);
        let after = token.is_some_and(|token| response.at.monotonic >= token - TOLERANCE_SECONDS);
        findings.expect(after, Rule::ResponseAfterToken, request, || match token {
            None => "no sequence has a FIRST_TOKEN".into(),
            Some(token) => format!("it came {:.6} s before FIRST_TOKEN", token - response.at.monotonic),
        });
    }
    check_departure(found, journey, findings);
}

fn check_departure(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    let Some(departed) = journey.api.iter().find(|record| record.event == ApiEvent::Departed) else { return };
    for (core, records) in found.cores.iter().zip(&journey.cores) {
        let finished = records.iter().find_map(|record| match record.event {
            CoreEvent::Finished(status) => Some((record.at.monotonic, status)),
            _ => None,
        });
        // Where there is none, `finished-last` says so.
        let Some((at, status)) = finished else { continue };
        let well = matches!(status, FinishStatus::Stopped | FinishStatus::Length);
        let before = at <= departed.at.monotonic + TOLERANCE_SECONDS;
        findings.expect(well && before, Rule::DepartedAfterFinished, core.span, || {
            format!("it finished as {status}, {:.6} s after DEPARTED", at - departed.at.monotonic)
        });
    }
}

fn is_terminal(event: &ApiEvent) -> bool {
    matches!(event, ApiEvent::Departed | ApiEvent::Aborted { .. })
}

fn position(api: &[ApiRecord], event: &ApiEvent) -> Option<usize> {
    api.iter().position(|record| record.event == *event)
}

fn earliest<'a>(records: impl Iterator<Item = &'a CoreRecord>, event: CoreEvent) -> Option<f64> {
    records.filter(|record| record.event == event).map(|record| record.at.monotonic).min_by(f64::total_cmp)
}
