//! How a journey goes on from event to event: clocks, tokens, steps and counts.

use sojourn_contract::journey::Phase;

use super::rule::Rule;
use super::{Findings, TOLERANCE_NANOS};
use crate::record::{CoreEvent, CoreRecord, Journey, Progress};
use crate::recover::{Found, FoundCore};
use crate::trace::Span;

pub(super) fn check(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    check_clocks(found.request, findings);
    for (core, records) in found.cores.iter().zip(&journey.cores) {
        check_clocks(core.span, findings);
        for pair in records.windows(2) {
            if let [before, after] = pair {
                check_step(core.span, &before.progress, &after.progress, findings);
            }
        }
        check_records(core, records, findings);
    }
}

fn check_clocks(span: &Span, findings: &mut Findings) {
    let events = span.events_in_order();
    for pair in events.windows(2) {
        let [before, after] = pair else { continue };
        findings.expect(after.unix_nanos.saturating_add(TOLERANCE_NANOS) >= before.unix_nanos, Rule::TimeOrder, span, || {
            format!("{} is later than {} by {}, but earlier by the wall clock", after.name, before.name, "ts.monotonic")
        });
    }
    let earliest = span.start_unix_nanos.saturating_sub(TOLERANCE_NANOS);
    let latest = span.end_unix_nanos.saturating_add(TOLERANCE_NANOS);
    for event in events {
        findings.expect((earliest..=latest).contains(&event.unix_nanos), Rule::EventInSpan, span, || {
            format!(
                "{} is at {} ns, the span from {} to {}",
                event.name, event.unix_nanos, span.start_unix_nanos, span.end_unix_nanos
            )
        });
    }
}

fn check_step(span: &Span, before: &Progress, after: &Progress, findings: &mut Findings) {
    findings.expect(after.prefill_done >= before.prefill_done, Rule::Prefill, span, || {
        format!("prefill_done_tokens falls from {} to {}", before.prefill_done, after.prefill_done)
    });
    findings.expect(after.prefill_total == before.prefill_total, Rule::Prefill, span, || {
        format!("prefill_total_tokens changes from {} to {}", before.prefill_total, after.prefill_total)
    });
    findings.expect(after.decode_done >= before.decode_done, Rule::Decode, span, || {
        format!("decode_done_tokens falls from {} to {}", before.decode_done, after.decode_done)
    });
    findings.expect(after.decode_max == before.decode_max, Rule::Decode, span, || {
        format!("decode_max_tokens changes from {} to {}", before.decode_max, after.decode_max)
    });
    findings.expect(after.step >= before.step, Rule::StepOrder, span, || {
        format!("scheduler.step falls from {} to {}", before.step, after.step)
    });
}

fn check_records(core: &FoundCore<'_>, records: &[CoreRecord], findings: &mut Findings) {
    let span = core.span;
    let mut phase = Phase::Waiting;
    let mut preemptions = 0;
    for CoreRecord { event, progress, .. } in records {
        let Progress { prefill_done, prefill_total, decode_done, decode_max, .. } = *progress;
        match event {
            CoreEvent::Scheduled { .. } if phase == Phase::Waiting => phase = Phase::Prefill,
            CoreEvent::FirstToken => phase = Phase::Decode,
            CoreEvent::Preempted(_) => preemptions += 1,
            _ => {}
        }
        findings.expect(prefill_done <= prefill_total, Rule::Prefill, span, || {
            format!("{prefill_done} of {prefill_total} prompt tokens are done")
        });
        findings.expect(decode_done <= decode_max, Rule::Decode, span, || {
            format!("{decode_done} of at most {decode_max} tokens are generated")
        });
        let has_token = *event == CoreEvent::FirstToken;
        findings.expect(!has_token || prefill_done >= prefill_total, Rule::FirstTokenAfterPrefill, span, || {
            format!("FIRST_TOKEN comes when {prefill_done} of {prefill_total} prompt tokens are done")
        });
        findings.expect(progress.phase == phase, Rule::PhaseWord, span, || {
            format!("phase is {}, but must be {phase}", progress.phase)
        });
        // Of events that were left out only the counts remain.
        let more = progress.num_preemptions > preemptions && core.lacks_events();
        let counted = progress.num_preemptions == preemptions || more;
        findings.expect(counted, Rule::PreemptionCount, span, || {
            format!("num_preemptions is {}, but there were {preemptions}", progress.num_preemptions)
        });
        if let CoreEvent::Scheduled { cached_tokens, recomputed_tokens, .. } = event {
            let processed = u64::from(prefill_done) + u64::from(decode_done);
            let found = u64::from(*cached_tokens) + u64::from(*recomputed_tokens);
            findings.expect(found <= processed, Rule::ResumeTokens, span, || {
                format!("{cached_tokens} cached and {recomputed_tokens} recomputed tokens are more than {processed} processed")
            });
        }
    }
}
