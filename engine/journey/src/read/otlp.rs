//! OTLP JSON: an ExportTraceServiceRequest, as the collector's file exporter writes it, Jaeger's third API answers with it
//! and Tempo with it in small variations (`batches`, ids in base64, enums as words).

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Integer;
use crate::trace::{Attributes, Event, Span, SpanKind, Status, Trace, Value};

/// The spans of one request.
pub(super) fn spans(document: Json) -> Result<Vec<Span>, serde_json::Error> {
    let request: Request = serde_json::from_value(document)?;
    let mut spans = Vec::new();
    for resource_spans in request.resource_spans {
        let resource = attributes(resource_spans.resource.attributes);
        for scope_spans in resource_spans.scope_spans {
            for span in &scope_spans.spans {
                spans.push(Span {
                    scope: scope_spans.scope.name.clone().into(),
                    schema_url: Some(scope_spans.schema_url.clone()).filter(|url| !url.is_empty()).map(Into::into),
                    resource: resource.clone(),
                    ..read_span(span.clone())?
                });
            }
        }
    }
    Ok(spans)
}

/// Writes traces as one request in OTLP JSON, which [`Trace::read`] reads and every collector takes at `/v1/traces`.
pub fn write(traces: &[Trace]) -> Json {
    let written = |span: &Span| {
        json!({
            "resource": {"attributes": write_attributes(&span.resource)},
            "scopeSpans": [{
                "scope": {"name": span.scope},
                "spans": [write_span(span)],
                "schemaUrl": span.schema_url.as_deref().unwrap_or_default(),
            }],
        })
    };
    json!({"resourceSpans": traces.iter().flat_map(|trace| &trace.spans).map(written).collect::<Vec<_>>()})
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Request {
    #[serde(alias = "batches")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    attributes: Vec<KeyValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<OtlpSpan>,
    schema_url: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Scope {
    name: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", default)]
struct OtlpSpan {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    trace_state: String,
    name: String,
    kind: Json,
    start_time_unix_nano: Integer,
    end_time_unix_nano: Integer,
    attributes: Vec<KeyValue>,
    events: Vec<OtlpEvent>,
    dropped_events_count: u32,
    status: OtlpStatus,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", default)]
struct OtlpEvent {
    time_unix_nano: Integer,
    name: String,
    attributes: Vec<KeyValue>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct OtlpStatus {
    code: Json,
    message: String,
}

#[derive(Deserialize, Clone)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: Json,
}

fn read_span(span: OtlpSpan) -> Result<Span, serde_json::Error> {
    let event = |event: OtlpEvent| Event {
        name: event.name.into(),
        unix_nanos: event.time_unix_nano.unsigned(),
        attributes: attributes(event.attributes),
    };
    Ok(Span {
        trace_id: id(&span.trace_id)?,
        span_id: span_id(&span.span_id)?,
        parent_span_id: Some(span_id(&span.parent_span_id)?).filter(|parent| *parent != 0),
        trace_state: span.trace_state,
        name: span.name.into(),
        kind: kind(&span.kind),
        start_unix_nanos: span.start_time_unix_nano.unsigned(),
        end_unix_nanos: span.end_time_unix_nano.unsigned(),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(event).collect(),
        dropped_events: span.dropped_events_count,
        status: match span.status.code {
            Json::Number(code) if code.as_u64() == Some(2) => Status::Error(span.status.message),
            Json::String(word) if word == "STATUS_CODE_ERROR" => Status::Error(span.status.message),
            Json::Number(code) if code.as_u64() == Some(1) => Status::Ok,
            Json::String(word) if word == "STATUS_CODE_OK" => Status::Ok,
            _ => Status::Unset,
        },
        ..Span::default()
    })
}

/// Kinds in the order of their numbers.
const KINDS: [(SpanKind, &str); 6] = [
    (SpanKind::Unspecified, "SPAN_KIND_UNSPECIFIED"),
    (SpanKind::Internal, "SPAN_KIND_INTERNAL"),
    (SpanKind::Server, "SPAN_KIND_SERVER"),
    (SpanKind::Client, "SPAN_KIND_CLIENT"),
    (SpanKind::Producer, "SPAN_KIND_PRODUCER"),
    (SpanKind::Consumer, "SPAN_KIND_CONSUMER"),
];

fn kind(json: &Json) -> SpanKind {
    let number = json.as_u64().and_then(|number| usize::try_from(number).ok());
    let index = number.or_else(|| KINDS.iter().position(|(_, word)| json.as_str() == Some(word)));
    index.and_then(|index| KINDS.get(index)).map_or(SpanKind::Unspecified, |(kind, _)| *kind)
}

/// An id in hexadecimal digits, or in base64 as protobuf's own JSON has it; 0 for an empty one.
fn id(text: &str) -> Result<u128, serde_json::Error> {
    if text.is_empty() {
        return Ok(0);
    }
    let hexadecimal = u128::from_str_radix(text, 16).ok();
    hexadecimal.or_else(|| base64(text)).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is not an id")))
}

fn span_id(text: &str) -> Result<u64, serde_json::Error> {
    u64::try_from(id(text)?).map_err(|_| serde::de::Error::custom(format!("'{text}' is too long for a span's id")))
}

fn base64(text: &str) -> Option<u128> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    // Eight or sixteen bytes, with two or four bits to spare.
    let spare = match digits.len() {
        11 => 2,
        22 => 4,
        _ => return None,
    };
    let (last, others) = digits.as_bytes().split_last()?;
    let value = |digit: &u8| ALPHABET.iter().position(|known| known == digit).map(|value| value as u128);
    let high = others.iter().try_fold(0u128, |sum, digit| Some((sum << 6) | value(digit)?))?;
    Some((high << (6 - spare)) | (value(last)? >> spare))
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    pairs.into_iter().map(|pair| (pair.key, any_value(&pair.value))).collect()
}

fn any_value(json: &Json) -> Value {
    let Some((form, value)) = json.as_object().and_then(|object| object.iter().next()) else {
        return Value::Other(json.to_string());
    };
    let read = match form.as_str() {
        "stringValue" => value.as_str().map(|text| Value::from(text.to_owned())),
        "boolValue" => value.as_bool().map(Value::Bool),
        "intValue" => serde_json::from_value(value.clone()).ok().map(|number: Integer| Value::Int(number.signed())),
        // Not a number and the infinities travel as texts.
        "doubleValue" => value.as_f64().or_else(|| value.as_str()?.parse().ok()).map(Value::Float),
        "arrayValue" => texts(value).map(Value::Strings),
        _ => None,
    };
    read.unwrap_or_else(|| Value::Other(value.to_string()))
}

/// The texts of an array that holds nothing else.
fn texts(array: &Json) -> Option<Vec<String>> {
    let Some(values) = array.get("values") else { return Some(Vec::new()) };
    let text = |value: &Json| value.get("stringValue")?.as_str().map(str::to_owned);
    values.as_array()?.iter().map(text).collect()
}

fn write_span(span: &Span) -> Json {
    let event = |event: &Event| {
        json!({
            "timeUnixNano": event.unix_nanos.to_string(),
            "name": event.name,
            "attributes": write_attributes(&event.attributes),
        })
    };
    let status = match &span.status {
        Status::Unset => json!({}),
        Status::Ok => json!({"code": 1}),
        Status::Error(message) => json!({"code": 2, "message": message}),
    };
    json!({
        "traceId": format!("{:032x}", span.trace_id),
        "spanId": format!("{:016x}", span.span_id),
        "parentSpanId": span.parent_span_id.map(|parent| format!("{parent:016x}")).unwrap_or_default(),
        "traceState": span.trace_state,
        "name": span.name,
        "kind": KINDS.iter().position(|(kind, _)| *kind == span.kind),
        "startTimeUnixNano": span.start_unix_nanos.to_string(),
        "endTimeUnixNano": span.end_unix_nanos.to_string(),
        "attributes": write_attributes(&span.attributes),
        "events": span.events.iter().map(event).collect::<Vec<_>>(),
        "droppedEventsCount": span.dropped_events,
        "status": status,
    })
}

fn write_attributes(attributes: &Attributes) -> Json {
    attributes.0.iter().map(|(key, value)| json!({"key": key, "value": write_value(value)})).collect()
}

fn write_value(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Int(value) => json!({"intValue": value.to_string()}),
        Value::Float(value) => json!({"doubleValue": value}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Strings(texts) => {
            let values: Vec<Json> = texts.iter().map(|text| json!({"stringValue": text})).collect();
            json!({"arrayValue": {"values": values}})
        }
        Value::Other(json) => json!({"stringValue": json}),
    }
}
