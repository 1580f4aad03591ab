//! Jaeger's own JSON, the answer of `/api/traces/ID`. It says as tags what OTLP has fields for: kind, scope, status and an
//! event's name; times are in microseconds.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value as Json;
use sojourn_contract::attribute;

use super::Integer;
use crate::trace::{Attributes, Event, Span, SpanKind, Status, Value};

/// The spans of an answer.
pub(super) fn spans(document: Json) -> Result<Vec<Span>, serde_json::Error> {
    let answer: Answer = serde_json::from_value(document)?;
    let mut spans = Vec::new();
    for trace in answer.data {
        let processes: HashMap<String, Attributes> =
            trace.processes.into_iter().map(|(id, process)| (id, resource(process))).collect();
        for span in trace.spans {
            let resource = processes.get(&span.process_id).cloned().unwrap_or_default();
            spans.push(Span { resource, ..read_span(span)? });
        }
    }
    Ok(spans)
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<JaegerTrace>,
}

#[derive(Deserialize)]
struct JaegerTrace {
    spans: Vec<JaegerSpan>,
    #[serde(default)]
    processes: HashMap<String, Process>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    #[serde(default)]
    service_name: String,
    #[serde(default)]
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    operation_name: String,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    start_time: Integer,
    duration: Integer,
    #[serde(default)]
    tags: Option<Vec<Tag>>,
    #[serde(default)]
    logs: Option<Vec<Log>>,
    #[serde(default, rename = "processID")]
    process_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: String,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Deserialize)]
struct Log {
    timestamp: Integer,
    #[serde(default)]
    fields: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    #[serde(default, rename = "type")]
    form: String,
    #[serde(default)]
    value: Json,
}

/// The tags that stand for fields of OTLP, as the collector's translator names them.
mod tag {
    pub const KIND: &str = "span.kind";
    pub const SCOPE: &str = "otel.scope.name";
    /// What the tag was called before semantic conventions 1.12.
    pub const OLD_SCOPE: &str = "otel.library.name";
    pub const STATUS: &str = "otel.status_code";
    pub const STATUS_MESSAGE: &str = "otel.status_description";
    pub const ERROR: &str = "error";
    pub const TRACE_STATE: &str = "w3c.tracestate";
    pub const FORMAT: &str = "internal.span.format";
    pub const EVENT: &str = "event";
    /// All that are taken from a span's tags.
    pub const FIELDS: [&str; 8] = [KIND, SCOPE, OLD_SCOPE, STATUS, STATUS_MESSAGE, ERROR, TRACE_STATE, FORMAT];
}

fn read_span(span: JaegerSpan) -> Result<Span, serde_json::Error> {
    let tags = attributes(span.tags);
    let text = |key: &str| tags.text(key).unwrap_or_default().to_owned();
    let start_unix_nanos = micros(span.start_time);
    Ok(Span {
        trace_id: id(&span.trace_id)?,
        span_id: span_id(&span.span_id)?,
        parent_span_id: parent(&span.trace_id, &span.references.unwrap_or_default())?,
        trace_state: text(tag::TRACE_STATE),
        kind: kind(&text(tag::KIND)),
        scope: tags.text(tag::SCOPE).or(tags.text(tag::OLD_SCOPE)).unwrap_or_default().to_owned().into(),
        start_unix_nanos,
        end_unix_nanos: start_unix_nanos.saturating_add(micros(span.duration)),
        status: match tags.text(tag::STATUS) {
            Some("ERROR") => Status::Error(text(tag::STATUS_MESSAGE)),
            Some("OK") => Status::Ok,
            _ if matches!(tags.get(tag::ERROR), Some(Value::Bool(true))) => Status::Error(text(tag::STATUS_MESSAGE)),
            _ => Status::Unset,
        },
        attributes: tags.0.into_iter().filter(|(key, _)| !tag::FIELDS.contains(&key.as_ref())).collect(),
        name: span.operation_name.into(),
        events: span.logs.unwrap_or_default().into_iter().map(event).collect(),
        ..Span::default()
    })
}

fn parent(trace_id: &str, references: &[Reference]) -> Result<Option<u64>, serde_json::Error> {
    let is_parent = |reference: &&Reference| reference.ref_type == "CHILD_OF" && reference.trace_id == trace_id;
    references.iter().find(is_parent).map(|reference| span_id(&reference.span_id)).transpose()
}

fn event(log: Log) -> Event {
    let fields = attributes(Some(log.fields));
    Event {
        name: fields.text(tag::EVENT).unwrap_or_default().to_owned().into(),
        unix_nanos: micros(log.timestamp),
        attributes: fields.0.into_iter().filter(|(key, _)| key != tag::EVENT).collect(),
    }
}

fn resource(process: Process) -> Attributes {
    let mut resource = attributes(process.tags);
    resource.push(attribute::SERVICE_NAME, process.service_name);
    resource
}

fn attributes(tags: Option<Vec<Tag>>) -> Attributes {
    tags.unwrap_or_default().into_iter().map(|tag| (tag.key, value(&tag.form, &tag.value))).collect()
}

/// A tag's value by its type. Numbers beyond JavaScript's integers, and all of them in some stores, come as texts.
fn value(form: &str, json: &Json) -> Value {
    let read = match form {
        "bool" => json.as_bool().or_else(|| json.as_str()?.parse().ok()).map(Value::Bool),
        "int64" => serde_json::from_value(json.clone()).ok().map(|number: Integer| Value::Int(number.signed())),
        "float64" => json.as_f64().or_else(|| json.as_str()?.parse().ok()).map(Value::Float),
        "string" | "" => json.as_str().map(text),
        _ => None,
    };
    read.unwrap_or_else(|| Value::Other(json.to_string()))
}

/// A text, or the list of texts that the translator wrote as JSON.
fn text(text: &str) -> Value {
    let list = if text.starts_with("[\"") { serde_json::from_str(text).ok() } else { None };
    list.map_or_else(|| Value::from(text.to_owned()), Value::Strings)
}

fn kind(word: &str) -> SpanKind {
    match word {
        "internal" => SpanKind::Internal,
        "server" => SpanKind::Server,
        "client" => SpanKind::Client,
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

fn micros(micros: Integer) -> u64 {
    micros.unsigned().saturating_mul(1000)
}

fn id(text: &str) -> Result<u128, serde_json::Error> {
    u128::from_str_radix(text, 16).map_err(|_| serde::de::Error::custom(format!("'{text}' is not an id")))
}

fn span_id(text: &str) -> Result<u64, serde_json::Error> {
    u64::from_str_radix(text, 16).map_err(|_| serde::de::Error::custom(format!("'{text}' is not a span's id")))
}
