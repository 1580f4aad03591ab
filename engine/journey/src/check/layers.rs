//! How the API layer's events fit to the core's.

use sojourn_contract::attribute;
use sojourn_contract::journey::FinishStatus;

use super::rule::Rule;
use super::{Findings, TOLERANCE_SECONDS};
use crate::record::{ApiEvent, CoreEvent, CoreRecord, Journey};
use crate::recover::Found;

pub(super) fn check(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
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

fn earliest<'a>(records: impl Iterator<Item = &'a CoreRecord>, event: CoreEvent) -> Option<f64> {
    records.filter(|record| record.event == event).map(|record| record.at.monotonic).min_by(f64::total_cmp)
}
