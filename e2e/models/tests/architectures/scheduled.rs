//! The real scheduler over the backend under test, and greedy requests for it.

use std::time::Duration;

use sojourn_engine::backend::Backend;
use sojourn_engine::clock::Clock;
use sojourn_engine::metrics::scheduler::SchedulerMetrics;
use sojourn_engine::metrics::steps::Steps;
use sojourn_engine::scheduler::Scheduler;
use sojourn_engine::scheduler::request::{Request, SamplingParams};
use sojourn_engine::scheduler::state::{Limits, Policy};

use crate::models::COUNT;

/// Longer than any of these tests waits.
pub const SOON: Duration = Duration::from_secs(300);

/// Starts a scheduler in which four sequences run; a backend that is beyond recovery fails the test.
pub fn start(
    backend: Box<dyn Backend>,
    clock: Clock,
    max_num_batched_tokens: usize,
    max_queue_size: usize,
    prefix_caching: bool,
) -> Scheduler {
    let limits = Limits {
        max_num_seqs: 4,
        max_num_batched_tokens,
        max_queue_size,
        policy: Policy::Fcfs,
        queue_timeout: None,
        prefix_caching,
    };
    let steps = Steps::new(SchedulerMetrics::default(), None, false);
    Scheduler::start(limits, backend, clock, SOON, steps, |error: String| panic!("{error}")).unwrap()
}

/// Asks for [`COUNT`] tokens, each the best.
pub fn request(prompt: &[u32]) -> Request {
    Request {
        request_id: "r".into(),
        prompts: vec![prompt.into()],
        n: 1,
        max_tokens: COUNT as u32,
        min_tokens: 0,
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        stop_token_ids: Vec::new(),
        stop_matchers: Vec::new(),
        priority: 0,
        whole: false,
        constraint: None,
        recorder: None,
        timer: None,
    }
}
