//! Spans as this crate writes and reads them: no SDK's types, no wire format's. Pure data.

use std::borrow::Cow;

use sojourn_contract::{attribute, event};

/// All spans of one trace that are known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// The spans, as they were found.
    pub spans: Vec<Span>,
}

/// One span.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace_id: u128,
    /// Its own id.
    pub span_id: u64,
    /// The span it is a child of, which may be a caller's; `None` for a root.
    pub parent_span_id: Option<u64>,
    /// W3C `tracestate`, empty without one.
    pub trace_state: String,
    /// What it is called.
    pub name: Text,
    /// Whose work it is.
    pub kind: SpanKind,
    /// Name of the instrumentation scope; empty when not known.
    pub scope: Text,
    /// Schema that its names follow, where one was given.
    pub schema_url: Option<Text>,
    /// Nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// Nanoseconds since the Unix epoch.
    pub end_unix_nanos: u64,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its events, in time order as written.
    pub events: Vec<Event>,
    /// Events that were left out because there were too many.
    pub dropped_events: u32,
    /// How it went.
    pub status: Status,
    /// Attributes of what emitted it; empty where the reader adds them (the engine's exporter does).
    pub resource: Attributes,
}

impl Span {
    /// The events in time order. Backends keep none (Jaeger sorts them by name), so it comes from the monotonic clock where
    /// all have it, else from the wall clock; of a sequence's events at one instant the one that must come first does.
    pub fn events_in_order(&self) -> Vec<&Event> {
        let mut events: Vec<&Event> = self.events.iter().collect();
        let by_monotonic = self.events.iter().all(|event| event.monotonic().is_some());
        events.sort_by(|a, b| {
            let by_wall_clock = a.unix_nanos.cmp(&b.unix_nanos);
            let by_clock = match (a.monotonic(), b.monotonic()) {
                (Some(a), Some(b)) if by_monotonic => a.total_cmp(&b),
                _ => by_wall_clock,
            };
            by_clock.then_with(|| place(a).cmp(&place(b)))
        });
        events
    }
}

/// Where an event belongs among those of the same instant: by the preemptions before it, then by the order of the lifecycle.
fn place(event: &Event) -> (i64, Option<usize>) {
    const LIFECYCLE: [&str; 10] = [
        event::ARRIVED,
        event::HANDOFF_TO_CORE,
        event::FIRST_RESPONSE_FROM_CORE,
        event::DEPARTED,
        event::ABORTED,
        event::QUEUED,
        event::PREEMPTED,
        event::SCHEDULED,
        event::FIRST_TOKEN,
        event::FINISHED,
    ];
    let preemptions = event.attributes.int(attribute::NUM_PREEMPTIONS).unwrap_or(0);
    (preemptions, LIFECYCLE.iter().position(|name| *name == event.name))
}

/// Something that happened at one instant of a span.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    /// What happened.
    pub name: Text,
    /// Nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
    /// More about it.
    pub attributes: Attributes,
}

impl Event {
    /// When it happened by the engine's monotonic clock, seconds; only events of ours say so.
    pub fn monotonic(&self) -> Option<f64> {
        self.attributes.float(attribute::TS_MONOTONIC)
    }
}

/// Names are mostly constants, and owned when they were read.
pub type Text = Cow<'static, str>;

/// OpenTelemetry's span kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpanKind {
    /// Not said; backends read it as internal.
    #[default]
    Unspecified,
    /// Work inside a process.
    Internal,
    /// Answers a request.
    Server,
    /// Makes a request.
    Client,
    /// Sends a message.
    Producer,
    /// Takes a message.
    Consumer,
}

/// How a span went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Status {
    /// Nothing to say.
    #[default]
    Unset,
    /// Somebody said that it went well.
    Ok,
    /// It went wrong; for people, may be empty.
    Error(String),
}

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    String(Text),
    /// A list of texts.
    Strings(Vec<String>),
    /// Anything else that a foreign span carries, as JSON.
    Other(String),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::String(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(Cow::Owned(text))
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::String(value) => f.write_str(value),
            Self::Strings(values) => f.write_str(&values.join(", ")),
            Self::Other(json) => f.write_str(json),
        }
    }
}

/// Attributes in the order in which they were written; keys are unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(pub Vec<(Text, Value)>);

impl Attributes {
    /// Adds an attribute; the key must be new.
    pub fn push(&mut self, key: impl Into<Text>, value: impl Into<Value>) {
        self.0.push((key.into(), value.into()));
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The value of `key` if it is a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of `key` if it is a whole number.
    pub fn int(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The value of `key` if it is a floating-point number.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }
}

impl<K: Into<Text>, V: Into<Value>> FromIterator<(K, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl<K: Into<Text>, V: Into<Value>> Extend<(K, V)> for Attributes {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        self.0.extend(pairs.into_iter().map(|(key, value)| (key.into(), value.into())));
    }
}
