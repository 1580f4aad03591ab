//! Edits that break a legal trace by hand.

use sojourn_contract::attribute;
use sojourn_contract::journey::{LLM_CORE, LLM_REQUEST};
use sojourn_journey::trace::{Attributes, Event, Span, Trace, Value};

pub fn request(trace: &mut Trace) -> &mut Span {
    trace.spans.iter_mut().find(|span| span.name == LLM_REQUEST).expect("an llm_request")
}

pub fn core(trace: &mut Trace, index: i64) -> &mut Span {
    let is_it = |span: &&mut Span| span.name == LLM_CORE && span.attributes.int(attribute::SEQUENCE_INDEX) == Some(index);
    trace.spans.iter_mut().find(is_it).expect("an llm_core")
}

/// The second sequence, which was preempted.
pub fn second(trace: &mut Trace) -> &mut Span {
    core(trace, 1)
}

/// The `n`th phase span of this name, from 0.
pub fn phase<'a>(trace: &'a mut Trace, name: &str, n: usize) -> &'a mut Span {
    trace.spans.iter_mut().filter(|span| span.name == name).nth(n).expect("a phase span")
}

/// The last event of this name.
pub fn event<'a>(span: &'a mut Span, name: &str) -> &'a mut Event {
    span.events.iter_mut().rfind(|event| event.name == name).expect("an event")
}

pub fn drop_event(span: &mut Span, name: &str) {
    let index = span.events.iter().rposition(|event| event.name == name).expect("an event");
    span.events.remove(index);
}

/// The event a second time, `millis` later.
pub fn repeat(span: &mut Span, name: &str, millis: f64) {
    let mut copy = event(span, name).clone();
    shift(&mut copy, millis);
    span.events.push(copy);
}

/// Moves an event on both clocks.
pub fn shift(event: &mut Event, millis: f64) {
    let monotonic = event.monotonic().expect("an event of ours");
    event.unix_nanos = event.unix_nanos.saturating_add_signed((millis * 1e6) as i64);
    set(&mut event.attributes, attribute::TS_MONOTONIC, Value::Float(monotonic + millis / 1e3));
}

pub fn set(attributes: &mut Attributes, key: &'static str, value: impl Into<Value>) {
    remove(attributes, key);
    attributes.push(key, value);
}

pub fn remove(attributes: &mut Attributes, key: &str) {
    attributes.0.retain(|(known, _)| known != key);
}

/// Sets a fact on all spans of the journey.
pub fn set_fact(trace: &mut Trace, key: &'static str, value: impl Into<Value>) {
    let value = value.into();
    for span in trace.spans.iter_mut().filter(|span| span.attributes.get(attribute::KIND).is_some()) {
        set(&mut span.attributes, key, value.clone());
    }
}

pub fn remove_fact(trace: &mut Trace, key: &str) {
    trace.spans.iter_mut().for_each(|span| remove(&mut span.attributes, key));
}

/// Adds seconds to a fact on all spans of the journey.
pub fn add_to_fact(trace: &mut Trace, key: &'static str, seconds: f64) {
    let known = request(trace).attributes.float(key).expect("a number of seconds");
    set_fact(trace, key, Value::Float(known + seconds));
}
