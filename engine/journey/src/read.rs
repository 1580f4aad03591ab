//! Reads traces as backends and files give them. Pure: text in, traces out.

pub mod jaeger;
pub mod otlp;

use serde_json::Value as Json;

use crate::trace::{Span, Trace};

/// Why a text holds no traces.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is empty.
    #[error("there is nothing to read: the input is empty")]
    Empty,
    /// It is not JSON, or JSON that ends too early.
    #[error("the input is not JSON")]
    Syntax(#[source] serde_json::Error),
    /// It is JSON of another form.
    #[error(
        "the input is JSON, but not a trace: expected OTLP JSON (an object with 'resourceSpans', one or one a line), \
         Jaeger's answer (/api/traces/ID, with 'data', or /api/v3/traces/ID, with 'result') or Tempo's (with 'trace' or \
         'batches'); found {found}"
    )]
    UnknownForm {
        /// What it is instead.
        found: String,
    },
    /// It is of a known form, with something in it that the form does not allow.
    #[error("the input looks like {form}, but cannot be read as such")]
    Malformed {
        /// The form.
        form: &'static str,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The backend's answer is an error.
    #[error("the backend answered with an error instead of a trace: {0}")]
    Refused(String),
    /// It is of a known form and has no spans.
    #[error("the input holds no spans: the trace is not there (yet), or was not sampled")]
    NoSpans,
}

impl Trace {
    /// Reads OTLP JSON, Jaeger's answers and Tempo's, one JSON document or one a line; each trace once, in the order of their
    /// first spans.
    pub fn read(text: &str) -> Result<Vec<Self>, ReadError> {
        let mut spans = Vec::new();
        let mut documents = 0;
        for document in serde_json::Deserializer::from_str(text).into_iter::<Json>() {
            spans.extend(read_document(document.map_err(ReadError::Syntax)?)?);
            documents += 1;
        }
        match (documents, spans.is_empty()) {
            (0, _) => Err(ReadError::Empty),
            (_, true) => Err(ReadError::NoSpans),
            (_, false) => Ok(group(spans)),
        }
    }

    /// The trace's id, which all its spans share.
    pub fn id(&self) -> u128 {
        self.spans.first().map_or(0, |span| span.trace_id)
    }
}

fn read_document(mut document: Json) -> Result<Vec<Span>, ReadError> {
    let unknown = |found: &str| ReadError::UnknownForm { found: found.to_owned() };
    let Json::Object(members) = &mut document else {
        return Err(unknown(if document.is_array() { "a list (Zipkin's form is not read)" } else { "a bare value" }));
    };
    if let Some(message) = error_message(members) {
        return Err(ReadError::Refused(message));
    }
    if members.get("data").is_some_and(Json::is_array) {
        return jaeger::spans(document).map_err(|source| ReadError::Malformed { form: "Jaeger's answer", source });
    }
    let wrapped = members.remove("result").or_else(|| members.remove("trace"));
    let payload = wrapped.unwrap_or(document);
    let is_otlp = payload.get("resourceSpans").or_else(|| payload.get("batches")).is_some();
    // An empty object is an OTLP request without spans.
    if is_otlp || payload.as_object().is_some_and(serde_json::Map::is_empty) {
        return otlp::spans(payload).map_err(|source| ReadError::Malformed { form: "OTLP JSON", source });
    }
    let names: Vec<&str> = payload.as_object().into_iter().flat_map(|object| object.keys()).map(String::as_str).collect();
    Err(unknown(&format!("an object with {}", names.join(", "))))
}

/// The text of an error that a backend answered with.
fn error_message(members: &serde_json::Map<String, Json>) -> Option<String> {
    let first = members.get("errors").and_then(|errors| errors.get(0));
    let error = first.or_else(|| members.get("error"))?;
    let text = ["msg", "message"].iter().find_map(|key| error.get(key)?.as_str());
    Some(text.map_or_else(|| error.to_string(), str::to_owned))
}

fn group(spans: Vec<Span>) -> Vec<Trace> {
    let mut traces: Vec<Trace> = Vec::new();
    for span in spans {
        match traces.iter_mut().find(|trace| trace.id() == span.trace_id) {
            Some(trace) => trace.spans.push(span),
            None => traces.push(Trace { spans: vec![span] }),
        }
    }
    traces
}

/// A JSON number, or a string that holds one: int64 travels both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Integer(i128);

impl<'de> serde::Deserialize<'de> for Integer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        let number = match &json {
            Json::Number(number) => number.as_i128(),
            Json::String(text) => text.parse().ok(),
            _ => None,
        };
        number.map(Self).ok_or_else(|| serde::de::Error::custom(format!("{json} is not a whole number")))
    }
}

impl Integer {
    fn unsigned(self) -> u64 {
        u64::try_from(self.0).unwrap_or_default()
    }

    fn signed(self) -> i64 {
        i64::try_from(self.0).unwrap_or_default()
    }
}
