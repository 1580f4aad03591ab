//! The real scheduler over the real backend: prompts that begin alike share their KV, and nobody's text is changed by it.

use std::time::Duration;

use sojourn_engine::clock::Clock;
use sojourn_engine::metrics::scheduler::SchedulerMetrics;
use sojourn_engine::metrics::steps::Steps;
use sojourn_engine::scheduler::Scheduler;
use sojourn_engine::scheduler::output::Output;
use sojourn_engine::scheduler::request::{Request, SamplingParams, Update};
use sojourn_engine::scheduler::state::{Limits, Policy};
use sojourn_models::tiny::Architecture;

use crate::models::{COUNT, model, prompt};
use crate::stepped::{PLENTY, Sequence, open};

/// Long enough for several pieces.
const PROMPT: usize = 200;

fn request(prompt: &[u32]) -> Request {
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
        constraint: None,
        recorder: None,
        timer: None,
    }
}

/// The ids of an answer, and how many tokens of its prompt were not computed.
fn answer(mut output: Output) -> (Vec<u32>, u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut ids = Vec::new();
        loop {
            match output.next().await.expect("an end") {
                Update::Token(token) => ids.push(token.id),
                Update::Finished(end) => return (ids, end.cached_tokens),
            }
        }
    })
}

fn turns(test: &str, architecture: Architecture) {
    let path = model(test, architecture);
    let limits = Limits {
        max_num_seqs: 4,
        max_num_batched_tokens: 32,
        max_queue_size: 4,
        policy: Policy::Fcfs,
        queue_timeout: None,
        prefix_caching: true,
    };
    let steps = Steps::new(SchedulerMetrics::default(), None, false);
    let backend = Box::new(open(&path, PLENTY));
    let scheduler =
        Scheduler::start(limits, backend, Clock::start(), Duration::from_secs(300), steps, |error: String| panic!("{error}"))
            .unwrap();
    let ask = |prompt: &[u32]| answer(scheduler.submit(request(prompt)).unwrap());
    let mut alone = open(&path, PLENTY);
    let mut conversation = prompt(1, PROMPT);
    let mut reusable = 0;
    for turn in 0..3 {
        let mut serial = Sequence::new(turn, &conversation);
        serial.run(&mut alone, COUNT);
        let (ids, cached) = ask(&conversation);
        assert_eq!((ids.as_slice(), cached), (serial.generated(), reusable), "turn {turn}");
        // What was generated is computed anew with the next turn: it was computed token by token.
        reusable = u32::try_from(conversation.len()).unwrap();
        conversation.extend(ids);
        conversation.extend(prompt(turn as usize + 2, 20));
    }
    scheduler.stop();
}

#[test]
fn the_next_turn_reuses_the_last_prompt_and_says_what_a_fresh_model_says() {
    turns("reused", Architecture::Llama);
}

#[test]
fn so_it_does_where_a_sliding_window_has_passed() {
    turns("reused-window", Architecture::MistralSafetensors);
}
