//! Spans as the journey crate describes them, turned into OTLP's messages. Pure.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, SpanFlags, Status};
use sojourn_journey::trace::{self, Attributes, Value};

use super::limits::Limits;

/// W3C's flag of a recorded span.
const SAMPLED: u32 = 1;

/// Which spans travel together: those of one scope and schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    name: trace::Text,
    schema_url: Option<trace::Text>,
}

impl Scope {
    /// The scope of a span.
    pub fn of(span: &trace::Span) -> Self {
        Self { name: span.scope.clone(), schema_url: span.schema_url.clone() }
    }

    /// The message for its spans.
    pub fn message(&self, spans: Vec<Span>) -> ScopeSpans {
        let (name, version) = (self.name.to_string(), env!("CARGO_PKG_VERSION").to_owned());
        let scope = Some(InstrumentationScope { name, version, ..InstrumentationScope::default() });
        ScopeSpans { scope, spans, schema_url: self.schema_url.as_deref().unwrap_or_default().to_owned() }
    }
}

/// Converts one span. Every exported span is a recorded one, so its own flag is always set; what the caller's said is in
/// `journey.parent`. Only the server span has a parent in another process.
pub fn convert(mut span: trace::Span, limits: &Limits) -> Span {
    let dropped_attributes_count = limits.bound_span(&mut span.attributes);
    let dropped_events_count = span.dropped_events.saturating_add(limits.bound_events(&mut span.events));
    let is_remote = span.kind == trace::SpanKind::Server && span.parent_span_id.is_some();
    let remote = if is_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    Span {
        trace_id: span.trace_id.to_be_bytes().to_vec(),
        span_id: span.span_id.to_be_bytes().to_vec(),
        trace_state: span.trace_state,
        parent_span_id: span.parent_span_id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32 | remote,
        name: span.name.into_owned(),
        kind: kind(span.kind).into(),
        start_time_unix_nano: span.start_unix_nanos,
        end_time_unix_nano: span.end_unix_nanos,
        attributes: attributes(span.attributes),
        dropped_attributes_count,
        events: span.events.into_iter().map(|event| convert_event(event, limits)).collect(),
        dropped_events_count,
        status: Some(status(span.status)),
        ..Span::default()
    }
}

fn convert_event(mut event: trace::Event, limits: &Limits) -> Event {
    let dropped_attributes_count = limits.bound_event(&mut event.attributes);
    Event {
        time_unix_nano: event.unix_nanos,
        name: event.name.into_owned(),
        attributes: attributes(event.attributes),
        dropped_attributes_count,
    }
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
    let (code, message) = match status {
        trace::Status::Unset => (StatusCode::Unset, String::new()),
        trace::Status::Ok => (StatusCode::Ok, String::new()),
        trace::Status::Error(description) => (StatusCode::Error, description),
    };
    Status { message, code: code.into() }
}

fn attributes(attributes: Attributes) -> Vec<KeyValue> {
    let attribute = |(key, value): (trace::Text, Value)| {
        let value = Some(AnyValue { value: Some(convert_value(value)) });
        KeyValue { key: key.into_owned(), value, ..KeyValue::default() }
    };
    attributes.0.into_iter().map(attribute).collect()
}

fn convert_value(value: Value) -> any_value::Value {
    match value {
        Value::Bool(value) => any_value::Value::BoolValue(value),
        Value::Int(value) => any_value::Value::IntValue(value),
        Value::Float(value) => any_value::Value::DoubleValue(value),
        Value::String(value) => any_value::Value::StringValue(value.into_owned()),
        Value::Strings(values) => {
            let text = |text| AnyValue { value: Some(any_value::Value::StringValue(text)) };
            any_value::Value::ArrayValue(ArrayValue { values: values.into_iter().map(text).collect() })
        }
        Value::Other(json) => any_value::Value::StringValue(json),
    }
}

#[cfg(test)]
mod tests {
    use sojourn_contract::journey::{SCOPE_API, SCOPE_SCHEDULER};

    use super::*;

    fn server() -> trace::Span {
        trace::Span {
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
            attributes: [("list", Value::Strings(vec!["a".into(), "b".into()]))].into_iter().collect(),
            events: vec![trace::Event { name: "api.ARRIVED".into(), unix_nanos: 1_000_000_001, ..Default::default() }],
            dropped_events: 3,
            status: trace::Status::Error("why".into()),
            ..trace::Span::default()
        }
    }

    #[test]
    fn everything_that_is_described_is_exported() {
        let scope = Scope::of(&server()).message(Vec::new());
        assert_eq!((scope.scope.unwrap().name.as_str(), scope.schema_url.as_str()), (SCOPE_API, "https://example.org/schema"));
        let span = convert(server(), &Limits::default());
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
        let core = trace::Span { kind: trace::SpanKind::Internal, scope: SCOPE_SCHEDULER.into(), ..server() };
        assert_eq!(convert(core, &Limits::default()).flags, 0x101);
        let root = convert(trace::Span { parent_span_id: None, ..server() }, &Limits::default());
        assert_eq!((root.flags, root.parent_span_id.len()), (0x101, 0));
    }

    #[test]
    fn what_the_limits_drop_is_counted_on_the_span() {
        let limits = Limits { span_attributes: 0, events: 0, ..Limits::default() };
        let span = convert(server(), &limits);
        assert_eq!((span.attributes.len(), span.dropped_attributes_count), (0, 1));
        assert_eq!((span.events.len(), span.dropped_events_count), (0, 4));
    }
}
