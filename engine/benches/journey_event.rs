//! What an event of a journey costs on the scheduler's step path, and what is left of that with tracing off. Prints one JSON
//! object; `make bench` runs it.
//!
//! The real state machine steps requests of one token, eight at a time, with a recorder and without, step by step in turns. The difference
//! is what recording costs: building the records, pushing them, and handing them over when a sequence ends. Admission and the
//! API layer's events are not on the step path and not timed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use sojourn_contract::journey::{Kind, Parent};
use sojourn_engine::backend::{Caps, Logits};
use sojourn_engine::recorder::{Recorder, RequestContext, Sink};
use sojourn_engine::scheduler::request::{Request, SamplingParams};
use sojourn_engine::scheduler::state::{Limits, Policy, State};
use sojourn_journey::record::{ApiEvent, Journey, Stamp};

const BATCH: usize = 8;
/// SCHEDULED, FIRST_TOKEN and FINISHED of each sequence; QUEUED is recorded at admission.
const EVENTS_A_STEP: usize = 3 * BATCH;
const STEPS: usize = 8_000;
const ROUNDS: usize = 15;
const TESTS: usize = 1_000;
const BLOCKS: usize = 2_000;

/// Takes journeys and forgets them.
struct Nowhere;

impl Sink<RequestContext> for Nowhere {
    fn complete(&self, journey: Journey, _: RequestContext) {
        drop(black_box(journey));
    }
}

fn main() {
    let mut events = Vec::new();
    let mut tests = Vec::new();
    for _ in 0..ROUNDS {
        let (off, on) = step_nanos();
        events.push((on - off) / EVENTS_A_STEP as f64);
        tests.push(test_nanos());
    }
    println!("{}", serde_json::json!({"event_nanos": events, "disabled_nanos": tests}));
}

/// Nanoseconds in `plan` and `complete`, without a recorder and with one, in steps that take turns: the medians of many, so
/// that a step in which the kernel took the processor away does not count for thousands.
fn step_nanos() -> (f64, f64) {
    let caps = Caps { max_batch: BATCH, kv_block_tokens: 16, kv_blocks: 1024, vocab_size: 256, copies_kv: false };
    let limits = Limits {
        max_num_seqs: BATCH,
        max_num_batched_tokens: 2048,
        max_queue_size: BATCH,
        policy: Policy::Fcfs,
        queue_timeout: None,
        prefix_caching: false,
    };
    let mut state = State::new(limits, caps);
    let sink = Arc::new(Nowhere);
    let now = Stamp { unix_nanos: 1, monotonic: 1.0 };
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for number in 0..STEPS {
        let traced = number % 2 == 1;
        let recorders: Vec<_> = (0..BATCH).filter(|_| traced).map(|_| recorder(sink.clone())).collect();
        for index in 0..BATCH {
            let admitted = state.admit(now, request(recorders.get(index).cloned()));
            assert!(admitted.is_ok(), "{admitted:?}");
        }
        let start = Instant::now();
        let step = state.plan(black_box(now));
        let Some(mut step) = step else { panic!("there is work and no step") };
        let chosen = step.choose(vec![Logits::Best(1); step.work.len()]);
        state.complete(black_box(now), &mut step, Ok(chosen));
        let nanos = start.elapsed().as_nanos() as f64;
        if traced {
            on.push(nanos)
        } else {
            off.push(nanos)
        }
        assert!(state.is_idle(), "a request of one token takes one step");
        for recorder in recorders {
            recorder.api(now, ApiEvent::Departed);
        }
        state.take_updates();
        state.take_released();
    }
    (median(off), median(on))
}

/// Nanoseconds of the test that is left where nothing is recorded, above an empty loop.
fn test_nanos() -> f64 {
    let recorder: Option<Arc<Recorder>> = None;
    let time = |body: &dyn Fn(usize)| {
        let blocks = (0..BLOCKS).map(|_| {
            let start = Instant::now();
            body(TESTS);
            start.elapsed().as_nanos() as f64
        });
        median(blocks.collect())
    };
    let empty = time(&|tests| {
        for i in 0..tests {
            black_box(i);
        }
    });
    let tested = time(&|tests| {
        for i in 0..tests {
            if black_box(&recorder).is_some() {
                black_box(i + 1);
            }
            black_box(i);
        }
    });
    (tested - empty) / TESTS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn recorder(sink: Arc<Nowhere>) -> Arc<Recorder> {
    let journey = Journey {
        kind: Kind::Request,
        parent: Parent::None,
        request_id: "r".to_owned(),
        queue_depth_at_arrival: 0,
        running_at_arrival: 0,
        api: Vec::new(),
        cores: Vec::new(),
    };
    Recorder::begin(journey, RequestContext::new(None), sink)
}

fn request(recorder: Option<Arc<Recorder>>) -> Request {
    Request {
        request_id: "r".into(),
        prompts: vec![Arc::from([1_u32; 8])],
        n: 1,
        max_tokens: 1,
        min_tokens: 0,
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        stop_token_ids: Vec::new(),
        stop_matchers: Vec::new(),
        priority: 0,
        whole: false,
        constraint: None,
        recorder,
        timer: None,
    }
}
