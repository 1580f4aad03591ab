//! Reads the events of our spans as the records that they were made from.

use sojourn_contract::journey::{LLM_CORE, LLM_REQUEST, ScheduleKind};
use sojourn_contract::{attribute, event};

use super::reader::Reader;
use crate::record::{ApiEvent, ApiRecord, CoreEvent, CoreRecord, Progress};
use crate::trace::Event;

/// An event of `llm_request`.
pub(super) fn api_event(reader: &mut Reader<'_>, event: &Event) -> Option<ApiRecord> {
    let what = match event.name.as_ref() {
        event::ARRIVED => Some(ApiEvent::Arrived),
        event::HANDOFF_TO_CORE => Some(ApiEvent::HandoffToCore),
        event::FIRST_RESPONSE_FROM_CORE => Some(ApiEvent::FirstResponseFromCore),
        event::DEPARTED => Some(ApiEvent::Departed),
        event::ABORTED => {
            let reason = reader.word(attribute::REASON);
            let error = reader.text(attribute::ERROR);
            reason.zip(error).map(|(reason, error)| ApiEvent::Aborted { reason, error: error.to_owned() })
        }
        _ => return reader.unknown_event(LLM_REQUEST),
    };
    let at = reader.stamp(event);
    Some(ApiRecord { at: at?, event: what? })
}

/// An event of `llm_core`.
pub(super) fn core_event(reader: &mut Reader<'_>, event: &Event) -> Option<CoreRecord> {
    let what = match event.name.as_ref() {
        event::QUEUED => Some(CoreEvent::Queued),
        event::SCHEDULED => scheduled(reader),
        event::FIRST_TOKEN => Some(CoreEvent::FirstToken),
        event::PREEMPTED => reader.word(attribute::PREEMPT_REASON).map(CoreEvent::Preempted),
        event::FINISHED => reader.word(attribute::FINISH_STATUS).map(CoreEvent::Finished),
        _ => return reader.unknown_event(LLM_CORE),
    };
    let at = reader.stamp(event);
    let progress = progress(reader);
    Some(CoreRecord { at: at?, event: what?, progress: progress? })
}

fn scheduled(reader: &mut Reader<'_>) -> Option<CoreEvent> {
    let kind = reader.word(attribute::SCHEDULE_KIND)?;
    let (cached, recomputed) = match kind {
        ScheduleKind::First => (Some(0), Some(0)),
        ScheduleKind::Resume => (reader.count(attribute::CACHED_TOKENS), reader.count(attribute::RECOMPUTED_TOKENS)),
    };
    Some(CoreEvent::Scheduled { kind, cached_tokens: cached?, recomputed_tokens: recomputed? })
}

fn progress(reader: &mut Reader<'_>) -> Option<Progress> {
    let phase = reader.word(attribute::PHASE);
    let prefill_done = reader.count(attribute::PREFILL_DONE_TOKENS);
    let prefill_total = reader.count(attribute::PREFILL_TOTAL_TOKENS);
    let decode_done = reader.count(attribute::DECODE_DONE_TOKENS);
    let decode_max = reader.count(attribute::DECODE_MAX_TOKENS);
    let step = reader.count(attribute::SCHEDULER_STEP);
    let num_preemptions = reader.count(attribute::NUM_PREEMPTIONS);
    Some(Progress {
        phase: phase?,
        prefill_done: prefill_done?,
        prefill_total: prefill_total?,
        decode_done: decode_done?,
        decode_max: decode_max?,
        step: step?,
        num_preemptions: num_preemptions?,
    })
}
