//! Reads the facts of a request from a span's attributes.

use sojourn_contract::attribute;

use super::reader::Reader;
use crate::facts::Facts;

/// All facts; `None` if one that must be there cannot be read.
pub(super) fn facts(reader: &mut Reader<'_>) -> Option<Facts> {
    // Each is read before the first missing one ends it, so that all flaws are found.
    let kind = reader.word(attribute::KIND);
    let parent = reader.word(attribute::PARENT);
    let request_id = reader.text(attribute::REQUEST_ID);
    let outcome = reader.word(attribute::OUTCOME);
    let num_preemptions = reader.count(attribute::JOURNEY_NUM_PREEMPTIONS);
    let queue_depth_at_arrival = reader.count(attribute::QUEUE_DEPTH_AT_ARRIVAL);
    let running_at_arrival = reader.count(attribute::RUNNING_AT_ARRIVAL);
    let bottleneck = reader.word(attribute::BOTTLENECK);
    let duration = reader.seconds(attribute::DURATION_SECONDS);
    let api = reader.seconds(attribute::API_SECONDS);
    let e2e = reader.seconds(attribute::E2E);
    let mut facts = Facts {
        kind: kind?,
        parent: parent?,
        request_id: request_id?.to_owned(),
        outcome: Some(outcome?),
        num_preemptions: num_preemptions?,
        queue_depth_at_arrival: queue_depth_at_arrival?,
        running_at_arrival: running_at_arrival?,
        bottleneck: bottleneck?,
        duration: duration?,
        api: api?,
        e2e: e2e?,
        abort_reason: None,
        abort_phase: None,
        preempt_reasons: Vec::new(),
        recomputed_tokens: None,
        queue: None,
        prefill: None,
        decode: None,
        preempted: None,
        client: None,
        time_to_first_token: None,
    };
    facts.abort_reason = reader.if_present(attribute::ABORT_REASON, Reader::word);
    facts.abort_phase = reader.if_present(attribute::ABORT_PHASE, Reader::word);
    facts.preempt_reasons = reader.if_present(attribute::PREEMPT_REASONS, Reader::words).unwrap_or_default();
    facts.recomputed_tokens = reader.if_present(attribute::JOURNEY_RECOMPUTED_TOKENS, Reader::count);
    facts.queue = reader.if_present(attribute::TIME_IN_QUEUE, Reader::seconds);
    facts.prefill = reader.if_present(attribute::TIME_IN_MODEL_PREFILL, Reader::seconds);
    facts.decode = reader.if_present(attribute::TIME_IN_MODEL_DECODE, Reader::seconds);
    facts.preempted = reader.if_present(attribute::PREEMPTED_SECONDS, Reader::seconds);
    facts.client = reader.if_present(attribute::CLIENT_SECONDS, Reader::seconds);
    facts.time_to_first_token = reader.if_present(attribute::TIME_TO_FIRST_TOKEN, Reader::seconds);
    Some(facts)
}
