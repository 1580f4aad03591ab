//! The phase spans, where a trace has them: the stretches between the events of their `llm_core`.

use super::rule::Rule;
use super::{Findings, TOLERANCE_NANOS};
use crate::record::{CoreRecord, Journey};
use crate::recover::{Found, FoundCore};
use crate::timeline::{self, Segment};
use crate::trace::Span;

/// Where they lie.
pub(super) fn check_bounds(found: &Found<'_>, _: &Journey, findings: &mut Findings) {
    found.cores.iter().for_each(|core| check_core_bounds(core, findings));
}

/// What they say.
pub(super) fn check(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    for (core, records) in found.cores.iter().zip(&journey.cores) {
        check_core(core, records, findings);
    }
}

fn check_core_bounds(core: &FoundCore<'_>, findings: &mut Findings) {
    let mut earliest = core.span.start_unix_nanos;
    for phase in &core.phases {
        let starts_late_enough = phase.start_unix_nanos.saturating_add(TOLERANCE_NANOS) >= earliest;
        let ends_early_enough = phase.end_unix_nanos <= core.span.end_unix_nanos.saturating_add(TOLERANCE_NANOS);
        findings.expect(starts_late_enough && ends_early_enough, Rule::PhasesInCore, phase, || {
            format!(
                "it is from {} to {} ns, but must be from {earliest} to {} at most",
                phase.start_unix_nanos, phase.end_unix_nanos, core.span.end_unix_nanos
            )
        });
        earliest = phase.end_unix_nanos;
    }
}

fn check_core(core: &FoundCore<'_>, records: &[CoreRecord], findings: &mut Findings) {
    if core.phases.is_empty() || core.lacks_events() {
        return;
    }
    // A stretch shorter than what backends keep may be there or not.
    let segments = timeline::of_sequence(records);
    let mut expected = segments.iter().filter(|segment| length(segment) > TOLERANCE_NANOS);
    let written =
        core.phases.iter().filter(|phase| phase.end_unix_nanos.saturating_sub(phase.start_unix_nanos) > TOLERANCE_NANOS);
    for phase in written {
        let segment = expected.next();
        findings.expect(segment.is_some_and(|segment| matches(phase, segment)), Rule::PhasesFollowEvents, phase, || {
            let what = segment.map_or("nothing".to_owned(), |segment| {
                format!("{} from {} to {} ns", segment.part, segment.from.unix_nanos, segment.to.unix_nanos)
            });
            format!("it is from {} to {} ns, but the events say {what}", phase.start_unix_nanos, phase.end_unix_nanos)
        });
    }
    if let Some(segment) = expected.next() {
        findings.add(Rule::PhasesFollowEvents, core.span, format!("a phase span is missing: {}", segment.part));
    }
}

fn length(segment: &Segment) -> u64 {
    segment.to.unix_nanos.saturating_sub(segment.from.unix_nanos)
}

fn matches(phase: &Span, segment: &Segment) -> bool {
    phase.name == segment.part.as_str()
        && phase.start_unix_nanos.abs_diff(segment.from.unix_nanos) <= TOLERANCE_NANOS
        && phase.end_unix_nanos.abs_diff(segment.to.unix_nanos) <= TOLERANCE_NANOS
}
