//! Spans as the journey crate describes them, turned into the exporter's type. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sojourn_journey::trace::{self, Attributes, Span};

use super::limits::Limits;

/// Converts one span. Every exported span is a recorded one, so its own flag is always set; what the caller's said is in
/// `journey.parent`. Only the server span has a parent in another process.
pub fn convert(mut span: Span, limits: &Limits) -> SpanData {
    let dropped_attributes_count = limits.bound_span(&mut span.attributes);
    let state = span.trace_state.parse().unwrap_or_default();
    let (trace_id, span_id) = (TraceId::from(span.trace_id), SpanId::from(span.span_id));
    SpanData {
        span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, state),
        parent_span_id: span.parent_span_id.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: span.kind == trace::SpanKind::Server && span.parent_span_id.is_some(),
        span_kind: kind(span.kind),
        name: span.name,
        start_time: time(span.start_unix_nanos),
        end_time: time(span.end_unix_nanos),
        attributes: attributes(span.attributes),
        dropped_attributes_count,
        events: events(span.events, span.dropped_events, limits),
        links: SpanLinks::default(),
        status: status(span.status),
        instrumentation_scope: scope(span.scope, span.schema_url),
    }
}

fn scope(name: trace::Text, schema_url: Option<trace::Text>) -> InstrumentationScope {
    let scope = InstrumentationScope::builder(name).with_version(env!("CARGO_PKG_VERSION"));
    match schema_url {
        Some(url) => scope.with_schema_url(url).build(),
        None => scope.build(),
    }
}

fn events(mut described: Vec<trace::Event>, dropped: u32, limits: &Limits) -> SpanEvents {
    let mut events = SpanEvents::default();
    events.dropped_count = dropped.saturating_add(limits.bound_events(&mut described));
    events.events = described.into_iter().map(|described| event(described, limits)).collect();
    events
}

fn event(mut event: trace::Event, limits: &Limits) -> Event {
    let dropped_attributes_count = limits.bound_event(&mut event.attributes);
    Event::new(event.name, time(event.unix_nanos), attributes(event.attributes), dropped_attributes_count)
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
    attributes.0.into_iter().map(|(key, attribute)| KeyValue::new(key, value(attribute))).collect()
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
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, any_value};
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
    use opentelemetry_proto::tonic::trace::v1::{Span as Message, Status};
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

    /// What the exporter sends of it.
    fn sent(span: Span, limits: &Limits) -> Message {
        convert(span, limits).into()
    }

    #[test]
    fn everything_that_is_described_is_exported() {
        let scope = convert(server(), &Limits::default()).instrumentation_scope;
        assert_eq!((scope.name(), scope.schema_url()), (SCOPE_API, Some("https://example.org/schema")));
        assert_eq!(scope.version(), Some(env!("CARGO_PKG_VERSION")));
        let span = sent(server(), &Limits::default());
        assert_eq!(span.trace_id, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!((span.span_id, span.parent_span_id), (vec![0, 0, 0, 0, 0, 0, 0, 8], vec![0, 0, 0, 0, 0, 0, 0, 9]));
        assert_eq!((span.trace_state.as_str(), span.flags, span.kind), ("ot=th:8", 0x301, SpanKind::Server as i32));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_000_000_001, 2_000_000_002));
        let text = |text: &str| AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) };
        let list = any_value::Value::ArrayValue(ArrayValue { values: vec![text("a"), text("b")] });
        assert_eq!(span.attributes[0].key, "list");
        assert_eq!(span.attributes[0].value, Some(AnyValue { value: Some(list) }));
        assert_eq!((span.events[0].name.as_str(), span.events[0].time_unix_nano), ("api.ARRIVED", 1_000_000_001));
        assert_eq!(span.dropped_events_count, 3);
        assert_eq!(span.status, Some(Status { message: "why".into(), code: StatusCode::Error as i32 }));
    }

    #[test]
    fn only_the_server_span_has_a_remote_parent() {
        let core = Span { kind: trace::SpanKind::Internal, scope: SCOPE_SCHEDULER.into(), ..server() };
        assert_eq!(sent(core, &Limits::default()).flags, 0x101);
        let root = sent(Span { parent_span_id: None, ..server() }, &Limits::default());
        assert_eq!((root.flags, root.parent_span_id.len()), (0x101, 0));
    }

    #[test]
    fn what_the_limits_drop_is_counted_on_the_span() {
        let limits = Limits { span_attributes: 0, events: 0, ..Limits::default() };
        let span = sent(server(), &limits);
        assert_eq!((span.attributes.len(), span.dropped_attributes_count), (0, 1));
        assert_eq!((span.events.len(), span.dropped_events_count), (0, 4));
    }
}
