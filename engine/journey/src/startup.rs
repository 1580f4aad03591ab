//! Which spans an engine's start becomes: a trace of its own that no sampling rule drops and that proves the telemetry path
//! before there is any traffic. Pure.

use sojourn_contract::journey::{ENGINE_STARTUP, Kind, Outcome, Parent, SCOPE_API, StartupStage};
use sojourn_contract::{attribute, exit};

use crate::record::Stamp;
use crate::trace::{Attributes, Span, SpanKind, Status, Value};

/// An engine's start, complete or given up.
#[derive(Debug, Clone, PartialEq)]
pub struct Startup {
    /// The process began.
    pub began: Stamp,
    /// It is ready, or gives up.
    pub ended: Stamp,
    /// What it did in between, in time order.
    pub stages: Vec<Stage>,
    /// Why it gives up: the reason that the operator will read, and the text for people.
    pub error: Option<(exit::Reason, String)>,
    /// What is known of the model and the device: for `engine_startup` alone.
    pub attributes: Attributes,
}

/// One stage of a start.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Which.
    pub stage: StartupStage,
    /// It began.
    pub from: Stamp,
    /// It ended.
    pub to: Stamp,
    /// Bytes, files, tokens: for this stage's span alone.
    pub attributes: Attributes,
}

/// The spans of a start: `engine_startup` first, then its stages. All carry what sampling rules and queries ask for.
pub fn describe(startup: &Startup, trace_id: u128, mut next_id: impl FnMut() -> u64) -> Vec<Span> {
    let root = Span {
        trace_id,
        span_id: next_id(),
        name: ENGINE_STARTUP.into(),
        attributes: with(common_attributes(startup), &startup.attributes),
        status: startup.error.as_ref().map_or(Status::Unset, |(_, message)| Status::Error(message.clone())),
        ..bare(startup.began, startup.ended)
    };
    let stage = |stage: &Stage| Span {
        trace_id,
        span_id: next_id(),
        parent_span_id: Some(root.span_id),
        name: stage.stage.as_str().into(),
        attributes: with(common_attributes(startup), &stage.attributes),
        ..bare(stage.from, stage.to)
    };
    let stages: Vec<Span> = startup.stages.iter().map(stage).collect();
    std::iter::once(root).chain(stages).collect()
}

fn common_attributes(startup: &Startup) -> Attributes {
    let outcome = if startup.error.is_some() { Outcome::Error } else { Outcome::Ok };
    let duration = startup.ended.monotonic - startup.began.monotonic;
    let mut attributes: Attributes = [
        (attribute::KIND, Value::from(Kind::Startup.as_str())),
        (attribute::PARENT, Value::from(Parent::None.as_str())),
        (attribute::OUTCOME, Value::from(outcome.as_str())),
        (attribute::DURATION_SECONDS, Value::Float(duration)),
    ]
    .into_iter()
    .collect();
    if let Some((reason, _)) = &startup.error {
        attributes.push(attribute::ERROR_TYPE, reason.as_str());
    }
    attributes
}

fn with(mut attributes: Attributes, more: &Attributes) -> Attributes {
    attributes.extend(more.0.iter().cloned());
    attributes
}

fn bare(from: Stamp, to: Stamp) -> Span {
    Span {
        kind: SpanKind::Internal,
        scope: SCOPE_API.into(),
        start_unix_nanos: from.unix_nanos,
        end_unix_nanos: to.unix_nanos,
        ..Span::default()
    }
}
