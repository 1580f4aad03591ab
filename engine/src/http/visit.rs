//! One request in the API layer, from its first byte to the last byte of its answer: its ids, its journey, and exactly one
//! end. The handlers share a [`Visit`]; the one [`Visitor`] travels with the service future, then with the body, then with
//! the connection, and wherever it is dropped before the answer has left, the client did not get it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::{HeaderMap, HeaderName, StatusCode};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use sojourn_contract::attribute;
use sojourn_contract::journey::{AbortReason, Kind};
use sojourn_journey::record::{ApiEvent, Journey};
use sojourn_journey::trace::Value;
use tracing::{debug, info, warn};

use super::Api;
use super::connection::Connection;
use crate::clock::Clock;
use crate::metrics::timer::RequestTimer;
use crate::operation::Operation;
use crate::recorder::Recorder;
use crate::scheduler::request::Load;
use crate::telemetry::context::{RequestContext, new_span_id};
use crate::telemetry::propagation::Caller;
use crate::telemetry::{Tracing, w3c};

/// Header with the request's id, in and out.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a client.
const MAX_REQUEST_ID: usize = 128;

/// What the API layer knows of a request.
pub struct Visit {
    request_id: String,
    arrived: Instant,
    clock: Clock,
    /// What it asks for, and its measurement; `None` on routes that make no journey.
    measured: Option<(Operation, Arc<RequestTimer>)>,
    journey: Option<Recorded>,
    /// The caller's trace, where no journey joins it.
    unrecorded: Option<Named>,
    ledger: Mutex<Ledger>,
}

/// The part that exists with tracing on.
struct Recorded {
    recorder: Arc<Recorder>,
    span_id: String,
    trace: Named,
}

/// A trace as answers and log lines name it.
struct Named {
    trace_id: String,
    traceresponse: String,
}

impl Named {
    /// The trace of a caller to whom nothing is recorded: its own id back, with flag 00.
    fn unrecorded(caller: &Caller) -> Self {
        let (trace_id, span_id) = (TraceId::from(caller.trace_id), SpanId::from(new_span_id()));
        Self { trace_id: trace_id.to_string(), traceresponse: w3c::traceresponse(trace_id, span_id, TraceFlags::default()) }
    }
}

/// What is learnt on the way.
#[derive(Default)]
struct Ledger {
    failure: Option<(AbortReason, String)>,
    has_first_token: bool,
}

impl Visit {
    fn new(clock: Clock, headers: &HeaderMap, arrived: Instant) -> Self {
        let ledger = Mutex::default();
        Self { request_id: request_id(headers), arrived, clock, measured: None, journey: None, unrecorded: None, ledger }
    }

    /// A request on a route that makes no journey.
    pub fn plain(api: &Api, headers: &HeaderMap, arrived: Instant) -> Self {
        let caller = api.tracing.as_ref().and_then(|tracing| tracing.propagators.caller(headers));
        Self { unrecorded: caller.as_ref().map(Named::unrecorded), ..Self::new(api.clock, headers, arrived) }
    }

    /// A request that makes a journey, if tracing is on.
    pub fn begin(api: &Api, operation: Operation, kind: Kind, headers: &HeaderMap, arrived: Instant) -> Self {
        let visit = Self::new(api.clock, headers, arrived);
        let load = || api.served.get().map(|served| served.scheduler.load()).unwrap_or_default();
        let journey = api.tracing.as_ref().map(|tracing| visit.record(tracing, operation, kind, headers, load()));
        let timer = api.metrics.request(operation, api.clock.at(arrived).monotonic);
        Self { measured: Some((operation, timer)), journey, ..visit }
    }

    fn record(&self, tracing: &Tracing, operation: Operation, kind: Kind, headers: &HeaderMap, load: Load) -> Recorded {
        let mut context = RequestContext::new(tracing.propagators.caller(headers));
        context.shared = tracing.propagators.baggage(headers, &tracing.baggage);
        context.set(attribute::OPERATION_NAME, operation.as_str());
        context.set(attribute::PROVIDER_NAME, attribute::PROVIDER);
        context.set(attribute::HTTP_REQUEST_METHOD, "POST");
        context.set(attribute::HTTP_ROUTE, operation.path());
        context.set(attribute::URL_PATH, operation.path());
        context.set(attribute::URL_SCHEME, "http");
        let trace = Named { trace_id: context.trace_id_text(), traceresponse: context.traceresponse() };
        let span_id = context.span_id_text();
        let journey = Journey {
            kind,
            parent: context.parent,
            request_id: self.request_id.clone(),
            queue_depth_at_arrival: u32::try_from(load.waiting).unwrap_or(u32::MAX),
            running_at_arrival: u32::try_from(load.running).unwrap_or(u32::MAX),
            api: Vec::with_capacity(4),
            cores: Vec::new(),
        };
        let recorder = Recorder::begin(journey, context, tracing.sink.clone());
        recorder.api(self.clock.at(self.arrived), ApiEvent::Arrived);
        Recorded { recorder, span_id, trace }
    }

    /// The value of `x-request-id`.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    fn trace(&self) -> Option<&Named> {
        self.journey.as_ref().map(|journey| &journey.trace).or(self.unrecorded.as_ref())
    }

    /// The trace that it belongs to, with tracing on.
    pub fn trace_id(&self) -> Option<&str> {
        self.trace().map(|trace| trace.trace_id.as_str())
    }

    /// The id of `llm_request`, with tracing on.
    pub fn span_id(&self) -> Option<&str> {
        self.journey.as_ref().map(|journey| journey.span_id.as_str())
    }

    /// The value of `traceresponse`, with tracing on; a request that makes no journey and has no caller is in no trace.
    pub fn traceresponse(&self) -> Option<&str> {
        self.trace().map(|trace| trace.traceresponse.as_str())
    }

    /// First byte of the request.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Where the scheduler records, with tracing on.
    pub fn recorder(&self) -> Option<Arc<Recorder>> {
        self.journey.as_ref().map(|journey| journey.recorder.clone())
    }

    /// What measures it, also for the scheduler.
    pub fn timer(&self) -> Option<Arc<RequestTimer>> {
        self.measured.as_ref().map(|(_, timer)| timer.clone())
    }

    /// Adds attributes to `llm_request`; the closure runs with tracing on alone.
    pub fn describe(&self, change: impl FnOnce(&mut RequestContext)) {
        if let Some(journey) = &self.journey {
            journey.recorder.context(change);
        }
    }

    /// The first output token reached the API layer; later calls are ignored.
    pub fn first_token(&self) {
        let now = self.clock.now();
        if std::mem::replace(&mut self.ledger().has_first_token, true) {
            return;
        }
        if let Some(journey) = &self.journey {
            journey.recorder.api(now, ApiEvent::FirstResponseFromCore);
        }
    }

    /// The request will not get its answer; the first reason counts.
    pub fn failed(&self, reason: AbortReason, message: &str) {
        self.ledger().failure.get_or_insert_with(|| (reason, message.to_owned()));
    }

    /// The status line is decided.
    pub fn answered(&self, status: StatusCode) {
        self.describe(|context| context.set(attribute::HTTP_RESPONSE_STATUS_CODE, Value::Int(status.as_u16().into())));
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts a client's id if it is harmless in logs and headers; makes one otherwise.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&b);
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    given
        .filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(harmless))
        .map_or_else(new_id, str::to_owned)
}

/// 32 hexadecimal digits that nobody had before.
pub fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The one who waits for the answer; see the module.
pub struct Visitor {
    visit: Arc<Visit>,
    api: Arc<Api>,
    connection: Option<Arc<Connection>>,
    ended: bool,
}

impl Visitor {
    /// Enters; the engine does not end before it has left.
    pub fn enter(visit: Arc<Visit>, api: Arc<Api>, connection: Option<Arc<Connection>>) -> Self {
        api.in_flight.send_modify(|count| *count += 1);
        if let Some((operation, _)) = &visit.measured {
            api.metrics.in_flight(*operation, 1);
        }
        Self { visit, api, connection, ended: false }
    }

    /// The kernel has the last byte of the answer.
    pub fn left(mut self, at: Instant) {
        let failure = self.visit.ledger().failure.take();
        self.end(at, failure);
    }

    /// The answer will not arrive: its own failure if there is one, else why the connection ended.
    fn lost(&mut self) {
        let failure = self.visit.ledger().failure.take();
        let stalled = self.connection.as_ref().is_some_and(|connection| connection.stalled());
        let failure = failure.unwrap_or_else(|| match (self.api.is_closing(), stalled) {
            (true, _) => (AbortReason::Shutdown, "the engine ended before the answer was complete".to_owned()),
            (_, true) => (AbortReason::ClientStalled, "the client stopped reading its answer".to_owned()),
            _ => (AbortReason::ClientDisconnect, "the client closed the connection".to_owned()),
        });
        self.end(Instant::now(), Some(failure));
    }

    fn end(&mut self, at: Instant, failure: Option<(AbortReason, String)>) {
        self.ended = true;
        let Some((operation, timer)) = &self.visit.measured else { return };
        let reason = failure.as_ref().map(|(reason, _)| *reason);
        self.log(at, failure.as_ref());
        self.api.metrics.in_flight(*operation, -1);
        timer.ended(self.visit.clock.at(at).monotonic, reason);
        if let Some(journey) = &self.visit.journey {
            let event = match failure {
                None => ApiEvent::Departed,
                Some((reason, error)) => ApiEvent::Aborted { reason, error },
            };
            journey.recorder.api(self.visit.clock.at(at), event);
        }
    }

    fn log(&self, at: Instant, failure: Option<&(AbortReason, String)>) {
        use sojourn_contract::journey::Outcome;
        let visit = &self.visit;
        let (request_id, trace_id, span_id) = (visit.request_id(), visit.trace_id(), visit.span_id());
        let seconds = at.saturating_duration_since(self.visit.arrived).as_secs_f64();
        let Some((reason, error)) = failure else {
            debug!(request_id, trace_id, span_id, seconds, "answered");
            return;
        };
        match reason.outcome() {
            Outcome::Error => warn!(request_id, trace_id, span_id, seconds, %reason, %error, "request failed"),
            Outcome::Aborted => info!(request_id, trace_id, span_id, seconds, %reason, "request aborted"),
            _ => info!(request_id, trace_id, span_id, seconds, %reason, %error, "request rejected"),
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if !self.ended {
            self.lost();
        }
        self.api.in_flight.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, given.parse().unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_harmless_id_is_kept() {
        assert_eq!(id_for("order-42/retry.1"), "order-42/retry.1");
    }

    #[test]
    fn a_harmful_or_missing_id_is_replaced() {
        for given in ["", "two words", "<script>", &"x".repeat(129)] {
            let id = id_for(given);
            assert_ne!(id, given);
            assert_eq!(id.len(), 32);
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
