//! The events of one sequence as the scheduler writes them down, with a bound on what can repeat without end. Pure.
//!
//! A sequence that is evicted again and again would grow its journey by two events each time. Beyond [`MAX_PREEMPTIONS`] they
//! are summed up in one [`Omitted`] instead, so that the facts of the journey stay what they are.

use sojourn_contract::journey::ScheduleKind;

use crate::record::{CoreEvent, CoreRecord, Omitted, Stamp};

/// Preemptions of one sequence that are kept, with the RESUMEs that follow them. With the events that occur once this stays
/// below OpenTelemetry's default of 128 events a span.
pub const MAX_PREEMPTIONS: usize = 60;

/// The events of one sequence; what occurs once, the end above all, always stays.
#[derive(Debug, Clone, PartialEq)]
pub struct CoreLog {
    records: Vec<CoreRecord>,
    max_preemptions: usize,
    preemptions: usize,
    /// Since when the sequence is where the open [`Omitted`] says; `None` when the last record is a kept one.
    since: Option<Stamp>,
}

impl Default for CoreLog {
    fn default() -> Self {
        Self::with_bound(MAX_PREEMPTIONS)
    }
}

impl CoreLog {
    /// Keeps this many preemptions.
    pub fn with_bound(max_preemptions: usize) -> Self {
        Self { records: Vec::new(), max_preemptions, preemptions: 0, since: None }
    }

    /// Writes an event down.
    pub fn push(&mut self, record: CoreRecord) {
        let repeats = match record.event {
            CoreEvent::Preempted(_) => {
                self.preemptions += 1;
                true
            }
            CoreEvent::Scheduled { kind, .. } => kind == ScheduleKind::Resume,
            _ => false,
        };
        if repeats && self.preemptions > self.max_preemptions {
            self.omit(record);
        } else {
            self.close(record.at);
            self.records.push(record);
        }
    }

    /// The events, when the sequence has left the scheduler.
    pub fn into_records(self) -> Vec<CoreRecord> {
        self.records
    }

    /// The events so far; what is summed up is summed up until `now`.
    pub fn so_far(&self, now: Stamp) -> Vec<CoreRecord> {
        let mut copy = self.clone();
        copy.close(now);
        copy.records
    }

    fn omit(&mut self, record: CoreRecord) {
        if self.since.is_none() {
            let event = CoreEvent::Omitted(Omitted::default());
            self.records.push(CoreRecord { event, ..record });
        }
        self.spend_until(record.at);
        self.since = Some(record.at);
        if let Some(CoreRecord { event: CoreEvent::Omitted(omitted), .. }) = self.records.last_mut() {
            omitted.add(record.event);
        }
    }

    fn close(&mut self, at: Stamp) {
        self.spend_until(at);
        self.since = None;
    }

    fn spend_until(&mut self, at: Stamp) {
        let Some(since) = self.since else { return };
        if let Some(CoreRecord { event: CoreEvent::Omitted(omitted), .. }) = self.records.last_mut() {
            let nanos = at.unix_nanos.saturating_sub(since.unix_nanos);
            let part = if omitted.resumed { &mut omitted.running_nanos } else { &mut omitted.preempted_nanos };
            *part = part.saturating_add(nanos);
        }
    }
}

impl Omitted {
    fn add(&mut self, event: CoreEvent) {
        self.events = self.events.saturating_add(1);
        match event {
            CoreEvent::Preempted(reason) => {
                self.preemptions = self.preemptions.saturating_add(1);
                self.reasons[reason as usize] = true;
                self.resumed = false;
            }
            CoreEvent::Scheduled { recomputed_tokens, .. } => {
                self.recomputed_tokens = self.recomputed_tokens.saturating_add(recomputed_tokens);
                self.resumed = true;
            }
            _ => {}
        }
    }
}
