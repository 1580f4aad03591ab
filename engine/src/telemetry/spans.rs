//! Spans as the journey crate describes them, turned into the exporter's type. Pure.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId};
use opentelemetry::{Array, InstrumentationScope, Key, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sojourn_journey::trace::{self, Attributes, Span};

/// Converts one span. Every exported span is a recorded one, so its own flag is always set; what the caller's said is in
/// `journey.parent`. Only the server span has a parent in another process.
pub fn convert(span: Span) -> SpanData {
    let state = span.trace_state.parse().unwrap_or_default();
    let (trace_id, span_id) = (TraceId::from(span.trace_id), SpanId::from(span.span_id));
    let scope = InstrumentationScope::builder(span.scope).with_version(env!("CARGO_PKG_VERSION"));
    let scope = match span.schema_url {
        Some(url) => scope.with_schema_url(url),
        None => scope,
    };
    let mut events = SpanEvents::default();
    events.dropped_count = span.dropped_events;
    events.events = span.events.into_iter().map(event).collect();
    SpanData {
        span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, state),
        parent_span_id: span.parent_span_id.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: span.kind == trace::SpanKind::Server && span.parent_span_id.is_some(),
        span_kind: kind(span.kind),
        name: span.name,
        start_time: time(span.start_unix_nanos),
        end_time: time(span.end_unix_nanos),
        attributes: attributes(span.attributes),
        dropped_attributes_count: 0,
        events,
        links: SpanLinks::default(),
        status: status(span.status),
        instrumentation_scope: scope.build(),
    }
}

fn event(event: trace::Event) -> Event {
    Event::new(event.name, time(event.unix_nanos), attributes(event.attributes), 0)
}

fn kind(kind: trace::SpanKind) -> SpanKind {
    match kind {
        trace::SpanKind::Server => SpanKind::Server,
        trace::SpanKind::Client => SpanKind::Client,
        trace::SpanKind::Producer => SpanKind::Producer,
        trace::SpanKind::Consumer => SpanKind::Consumer,
        trace::SpanKind::Internal | trace::SpanKind::Unspecified => SpanKind::Internal,
    }
}

fn status(status: trace::Status) -> Status {
    match status {
        trace::Status::Unset => Status::Unset,
        trace::Status::Ok => Status::Ok,
        trace::Status::Error(description) => Status::Error { description: description.into() },
    }
}

fn time(unix_nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}

fn attributes(attributes: Attributes) -> Vec<KeyValue> {
    attributes.0.into_iter().map(|(name, attribute)| KeyValue::new(key(name), value(attribute))).collect()
}

fn key(name: trace::Text) -> Key {
    match name {
        Cow::Borrowed(name) => Key::from_static_str(name),
        Cow::Owned(name) => Key::from(name),
    }
}

fn value(value: trace::Value) -> Value {
    match value {
        trace::Value::Bool(value) => value.into(),
        trace::Value::Int(value) => value.into(),
        trace::Value::Float(value) => value.into(),
        trace::Value::String(value) => value.into(),
        trace::Value::Strings(values) => Value::Array(Array::String(values.into_iter().map(StringValue::from).collect())),
        trace::Value::Other(json) => json.into(),
    }
}

#[cfg(test)]
mod tests {
    use sojourn_contract::journey::{SCOPE_API, SCOPE_SCHEDULER};

    use super::*;

    fn server() -> Span {
        Span {
            trace_id: 7,
            span_id: 8,
            parent_span_id: Some(9),
            trace_state: "ot=th:8".into(),
            name: "llm_request".into(),
            kind: trace::SpanKind::Server,
            scope: SCOPE_API.into(),
            schema_url: Some("https://example.org/schema".into()),
            start_unix_nanos: 1_000_000_001,
            end_unix_nanos: 2_000_000_002,
            attributes: [("list", trace::Value::Strings(vec!["a".into(), "b".into()]))].into_iter().collect(),
            events: vec![trace::Event { name: "api.ARRIVED".into(), unix_nanos: 1_000_000_001, ..Default::default() }],
            dropped_events: 3,
            status: trace::Status::Error("why".into()),
            ..Span::default()
        }
    }

    #[test]
    fn everything_that_is_described_is_exported() {
        let span = convert(server());
        assert_eq!(span.span_context.trace_id(), TraceId::from(7));
        assert_eq!((span.parent_span_id, span.parent_span_is_remote), (SpanId::from(9), true));
        assert_eq!(span.span_context.trace_state().header(), "ot=th:8");
        assert!(span.span_context.is_sampled());
        assert_eq!(span.instrumentation_scope.name(), SCOPE_API);
        assert_eq!(span.instrumentation_scope.schema_url(), Some("https://example.org/schema"));
        assert_eq!(span.end_time, UNIX_EPOCH + Duration::new(2, 2));
        assert_eq!(span.attributes[0].value.to_string(), r#"["a","b"]"#);
        assert_eq!((span.events.events[0].name.as_ref(), span.events.dropped_count), ("api.ARRIVED", 3));
        assert_eq!(span.status, Status::error("why"));
    }

    #[test]
    fn only_the_server_span_has_a_remote_parent() {
        let core = Span { kind: trace::SpanKind::Internal, scope: SCOPE_SCHEDULER.into(), ..server() };
        assert!(!convert(core).parent_span_is_remote);
        assert!(!convert(Span { parent_span_id: None, ..server() }).parent_span_is_remote);
    }
}
