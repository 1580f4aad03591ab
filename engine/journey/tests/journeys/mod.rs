//! Journeys for the tests of this crate: a hand-made one of each kind, and a model that makes random legal ones.

// Each test target uses its own part.
#![allow(dead_code)]

pub mod edit;
pub mod model;

use sojourn_contract::attribute;
use sojourn_contract::journey::{
    AbortReason, Detail, FinishStatus, Kind, Parent, Phase, PreemptReason, ScheduleKind, StartupStage,
};
use sojourn_journey::record::{ApiEvent, ApiRecord, CoreEvent, CoreRecord, Journey, Progress, Stamp};
use sojourn_journey::spans::{Frame, describe};
use sojourn_journey::startup::{Stage, Startup};
use sojourn_journey::trace::{Attributes, Span, SpanKind, Trace, Value};

pub const TRACE_ID: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
pub const REQUEST_SPAN_ID: u64 = 0x0102_0304_0506_0708;
pub const CALLER_SPAN_ID: u64 = 0x00f0_67aa_0ba9_02b7;

/// `millis` after the engine's clock read 100 s, at noon of a day.
pub fn at(millis: f64) -> Stamp {
    let nanos = (millis * 1e6).round() as u64;
    Stamp { unix_nanos: 1_764_072_000_000_000_000 + nanos, monotonic: 100.0 + nanos as f64 / 1e9 }
}

pub fn api(millis: f64, event: ApiEvent) -> ApiRecord {
    ApiRecord { at: at(millis), event }
}

pub fn aborted(millis: f64, reason: AbortReason, error: &str) -> ApiRecord {
    api(millis, ApiEvent::Aborted { reason, error: error.into() })
}

/// A sequence under construction: each event keeps the progress of the one before, but for what it changes.
pub struct Core(Vec<CoreRecord>, Progress);

impl Core {
    /// A prompt of `prefill` tokens, `decode` tokens at most.
    pub fn new(prefill_total: u32, decode_max: u32) -> Self {
        let progress = Progress {
            phase: Phase::Waiting,
            prefill_done: 0,
            prefill_total,
            decode_done: 0,
            decode_max,
            step: 0,
            num_preemptions: 0,
        };
        Self(Vec::new(), progress)
    }

    pub fn event(mut self, millis: f64, event: CoreEvent) -> Self {
        self.0.push(CoreRecord { at: at(millis), event, progress: self.1 });
        self
    }

    pub fn queued(self, millis: f64) -> Self {
        self.event(millis, CoreEvent::Queued)
    }

    pub fn scheduled(mut self, millis: f64, step: u64) -> Self {
        self.1.phase = Phase::Prefill;
        self.1.step = step;
        self.event(millis, CoreEvent::Scheduled { kind: ScheduleKind::First, cached_tokens: 0, recomputed_tokens: 0 })
    }

    pub fn first_token(mut self, millis: f64, step: u64) -> Self {
        let prefill_done = self.1.prefill_total;
        self.1 = Progress { phase: Phase::Decode, prefill_done, decode_done: 1, step, ..self.1 };
        self.event(millis, CoreEvent::FirstToken)
    }

    pub fn preempted(mut self, millis: f64, step: u64, decode_done: u32) -> Self {
        self.1 = Progress { decode_done, step, num_preemptions: self.1.num_preemptions + 1, ..self.1 };
        self.event(millis, CoreEvent::Preempted(PreemptReason::KvExhausted))
    }

    pub fn resumed(mut self, millis: f64, step: u64, cached_tokens: u32, recomputed_tokens: u32) -> Self {
        self.1.step = step;
        self.event(millis, CoreEvent::Scheduled { kind: ScheduleKind::Resume, cached_tokens, recomputed_tokens })
    }

    pub fn finished(mut self, millis: f64, step: u64, decode_done: u32, status: FinishStatus) -> Vec<CoreRecord> {
        self.1 = Progress { decode_done, step, ..self.1 };
        self.event(millis, CoreEvent::Finished(status)).0
    }
}

pub fn journey(api: Vec<ApiRecord>, cores: Vec<Vec<CoreRecord>>) -> Journey {
    Journey {
        kind: Kind::Request,
        parent: Parent::None,
        request_id: "req-5f1c".into(),
        queue_depth_at_arrival: 3,
        running_at_arrival: 8,
        api,
        cores,
    }
}

/// Queued for 400 ms, 120 ms of prefill, 48 tokens in 1.3 s.
pub fn normal() -> Journey {
    let core = Core::new(100, 64).queued(4.0).scheduled(404.0, 11).first_token(524.0, 13).finished(
        1824.0,
        61,
        48,
        FinishStatus::Stopped,
    );
    let api = vec![
        api(0.0, ApiEvent::Arrived),
        api(3.5, ApiEvent::HandoffToCore),
        api(525.0, ApiEvent::FirstResponseFromCore),
        api(1840.0, ApiEvent::Departed),
    ];
    journey(api, vec![core])
}

/// Two sequences; the second is evicted while it decodes. The caller's trace is sampled.
pub fn preempted() -> Journey {
    let first =
        Core::new(40, 16).queued(3.0).scheduled(20.0, 5).first_token(80.0, 6).finished(380.0, 21, 16, FinishStatus::Length);
    let second = Core::new(40, 16)
        .queued(3.0)
        .scheduled(20.0, 5)
        .first_token(80.0, 6)
        .preempted(200.0, 12, 7)
        .resumed(500.0, 27, 16, 30)
        .finished(700.0, 37, 12, FinishStatus::Stopped);
    let api = vec![
        api(0.0, ApiEvent::Arrived),
        api(2.0, ApiEvent::HandoffToCore),
        api(81.0, ApiEvent::FirstResponseFromCore),
        api(704.0, ApiEvent::Departed),
    ];
    Journey { parent: Parent::Sampled, ..journey(api, vec![first, second]) }
}

/// The waiting queue was full.
pub fn rejected() -> Journey {
    let aborted = aborted(1.2, AbortReason::Overloaded, "the waiting queue is full (256 requests)");
    journey(vec![api(0.0, ApiEvent::Arrived), aborted], Vec::new())
}

/// The client went away while tokens were generated; the scheduler noticed at its next step.
pub fn disconnected() -> Journey {
    let core =
        Core::new(20, 500).queued(2.0).scheduled(2.5, 4).first_token(30.0, 5).finished(812.0, 40, 35, FinishStatus::Aborted);
    let api = vec![
        api(0.0, ApiEvent::Arrived),
        api(1.5, ApiEvent::HandoffToCore),
        api(31.0, ApiEvent::FirstResponseFromCore),
        aborted(800.0, AbortReason::ClientDisconnect, "the client closed the connection after 34 tokens"),
    ];
    journey(api, vec![core])
}

/// The backend failed in a step.
pub fn failed() -> Journey {
    let core = Core::new(20, 500).queued(2.0).scheduled(2.5, 4).finished(60.0, 5, 0, FinishStatus::Error);
    let api = vec![
        api(0.0, ApiEvent::Arrived),
        api(1.5, ApiEvent::HandoffToCore),
        aborted(61.0, AbortReason::GenerationError, "the backend could not compute step 5: out of memory"),
    ];
    journey(api, vec![core])
}

/// The frame of a request whose answer had this status.
pub fn frame(journey: &Journey, detail: Detail, http_status: Option<i64>) -> Frame {
    let mut request_attributes: Attributes = [
        (attribute::OPERATION_NAME, Value::from("chat")),
        (attribute::PROVIDER_NAME, Value::from(attribute::PROVIDER)),
        (attribute::REQUEST_MODEL, Value::from("smollm")),
        (attribute::HTTP_REQUEST_METHOD, Value::from("POST")),
        (attribute::HTTP_ROUTE, Value::from("/v1/chat/completions")),
    ]
    .into_iter()
    .collect();
    if let Some(status) = http_status {
        request_attributes.push(attribute::HTTP_RESPONSE_STATUS_CODE, Value::Int(status));
    }
    Frame {
        trace_id: TRACE_ID,
        span_id: REQUEST_SPAN_ID,
        parent_span_id: (journey.parent != Parent::None).then_some(CALLER_SPAN_ID),
        trace_state: String::new(),
        detail,
        request_attributes,
        shared_attributes: [("session.id", "s-1")].into_iter().collect(),
    }
}

/// Ids that count up.
pub fn ids() -> impl FnMut() -> u64 {
    let mut next = 0x10;
    move || {
        next += 1;
        next
    }
}

/// The trace that `journey` becomes, with a resource as the exporter adds it.
pub fn trace(journey: &Journey, detail: Detail, http_status: Option<i64>) -> Trace {
    let mut spans = describe(journey, &frame(journey, detail, http_status), ids());
    for span in &mut spans {
        span.resource = [(attribute::SERVICE_NAME, "smollm")].into_iter().collect();
    }
    Trace { spans }
}

/// An engine's start: one span with its three stages.
pub fn startup() -> Trace {
    let stage = |stage, from, to| Stage { stage, from: at(from), to: at(to), attributes: Attributes::default() };
    let startup = Startup {
        began: at(0.0),
        ended: at(9_000.0),
        stages: vec![
            stage(StartupStage::Download, 20.0, 5_000.0),
            stage(StartupStage::Load, 5_000.0, 8_000.0),
            stage(StartupStage::WarmUp, 8_000.0, 8_900.0),
        ],
        error: None,
        attributes: Attributes::default(),
    };
    Trace { spans: sojourn_journey::startup::describe(&startup, TRACE_ID, ids()) }
}

/// A span of the caller, around the request.
pub fn caller(trace: &Trace) -> Span {
    let request = &trace.spans[0];
    Span {
        trace_id: TRACE_ID,
        span_id: CALLER_SPAN_ID,
        name: "answer the user".into(),
        kind: SpanKind::Client,
        scope: "agent".into(),
        start_unix_nanos: request.start_unix_nanos - 8_000_000,
        end_unix_nanos: request.end_unix_nanos + 5_000_000,
        resource: [(attribute::SERVICE_NAME, "agent")].into_iter().collect(),
        ..Span::default()
    }
}
