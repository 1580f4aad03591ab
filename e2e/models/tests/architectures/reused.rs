//! The real scheduler over the real backend: prompts that begin alike share their KV, and nobody's text is changed by it.

use sojourn_engine::clock::Clock;
use sojourn_engine::scheduler::output::Output;
use sojourn_engine::scheduler::request::Update;
use sojourn_models::tiny::Architecture;

use crate::models::{COUNT, model, prompt};
use crate::scheduled::{request, start};
use crate::stepped::{PLENTY, Sequence, open};

/// Long enough for several pieces.
const PROMPT: usize = 200;

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
    let scheduler = start(Box::new(open(&path, PLENTY)), Clock::start(), 32, 4, true);
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
