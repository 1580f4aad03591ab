//! The order of events of each sequence: a small state machine.

use sojourn_contract::journey::{FinishStatus, ScheduleKind};

use super::Findings;
use super::rule::Rule;
use crate::record::{CoreEvent, CoreRecord, Journey};
use crate::recover::Found;
use crate::trace::Span;

pub(super) fn check(found: &Found<'_>, journey: &Journey, findings: &mut Findings) {
    for (core, records) in found.cores.iter().zip(&journey.cores) {
        check_ends(core.span, records, findings);
        let mut sequence = Sequence::default();
        for record in records {
            sequence.take(core.span, record, findings);
        }
    }
}

fn check_ends(span: &Span, records: &[CoreRecord], findings: &mut Findings) {
    let is_queued = |record: &CoreRecord| record.event == CoreEvent::Queued;
    let is_finished = |record: &CoreRecord| matches!(record.event, CoreEvent::Finished(_));
    let queued = records.iter().filter(|record| is_queued(record)).count();
    let finished = records.iter().filter(|record| is_finished(record)).count();
    findings.expect(queued == 1 && records.first().is_some_and(is_queued), Rule::QueuedFirst, span, || match queued {
        1 => format!("{:?} comes before it", records.first().map(|record| record.event)),
        count => format!("there are {count} QUEUED"),
    });
    findings.expect(finished == 1 && records.last().is_some_and(is_finished), Rule::FinishedLast, span, || match finished {
        1 => format!("{:?} comes after it", records.last().map(|record| record.event)),
        count => format!("there are {count} FINISHED"),
    });
}

/// Where a sequence is, and what it has been through.
#[derive(Default)]
struct Sequence {
    running: bool,
    scheduled: bool,
    preempted: bool,
    first_token: bool,
}

impl Sequence {
    fn take(&mut self, span: &Span, record: &CoreRecord, findings: &mut Findings) {
        match record.event {
            CoreEvent::Queued => {}
            CoreEvent::Scheduled { kind, .. } => self.schedule(kind, span, findings),
            CoreEvent::FirstToken => {
                findings.expect(!self.first_token, Rule::FirstTokenOnce, span, || "there is a second FIRST_TOKEN".into());
                findings.expect(self.running, Rule::FirstTokenWhileRunning, span, || {
                    format!("FIRST_TOKEN comes while it {}", self.whereabouts())
                });
                self.first_token = true;
            }
            CoreEvent::Preempted(_) => {
                findings.expect(self.running, Rule::PreemptedWhileRunning, span, || {
                    format!("PREEMPTED comes while it {}", self.whereabouts())
                });
                self.running = false;
                self.preempted = true;
            }
            CoreEvent::Finished(status) => self.finish(status, span, record, findings),
            // No event of a span says it.
            CoreEvent::Omitted(_) => {}
        }
    }

    fn schedule(&mut self, kind: ScheduleKind, span: &Span, findings: &mut Findings) {
        match kind {
            ScheduleKind::First => findings
                .expect(!self.scheduled, Rule::FirstSchedule, span, || "SCHEDULED(FIRST) comes after another SCHEDULED".into()),
            ScheduleKind::Resume if !self.scheduled => {
                findings.add(Rule::FirstSchedule, span, "the first SCHEDULED is RESUME");
            }
            ScheduleKind::Resume => findings.expect(self.preempted, Rule::ResumeAfterPreempted, span, || {
                format!("SCHEDULED(RESUME) comes while it {}", self.whereabouts())
            }),
        }
        self.scheduled = true;
        self.running = true;
        self.preempted = false;
    }

    fn finish(&mut self, status: FinishStatus, span: &Span, record: &CoreRecord, findings: &mut Findings) {
        let well = matches!(status, FinishStatus::Stopped | FinishStatus::Length);
        findings.expect(!well || self.running, Rule::FinishStatus, span, || {
            format!("it finished as {status} while it {}", self.whereabouts())
        });
        let asks_for_none = status == FinishStatus::Length && record.progress.decode_max == 0;
        findings.expect(!(well && self.running) || self.first_token || asks_for_none, Rule::FinishStatus, span, || {
            format!("it finished as {status} without a FIRST_TOKEN")
        });
        self.running = false;
    }

    fn whereabouts(&self) -> &'static str {
        match (self.running, self.scheduled) {
            (true, _) => "is running",
            (false, true) => "is not running any more",
            (false, false) => "is waiting",
        }
    }
}
