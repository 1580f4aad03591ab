//! Reuse of KV between requests that begin alike.

use super::*;
use crate::backend::{Adoption, StepError};

fn caching() -> Limits {
    Limits { prefix_caching: true, ..limits() }
}

fn ask(prompt: Vec<u32>, max_tokens: u32) -> Request {
    Request { prompts: vec![prompt.into()], ..request(1, max_tokens) }
}

fn counting(from: u32, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|at| from + (at % 20) as u32).collect()
}

impl Simulation {
    fn cached(&self, request: RequestId) -> Vec<u32> {
        let of_request = self.updates.iter().filter(|(id, _)| *id == request);
        of_request.filter_map(|(_, u)| if let Update::Finished(end) = u { Some(end.cached_tokens) } else { None }).collect()
    }

    fn fed(&self) -> usize {
        self.work.iter().map(|work| work.tokens.len()).sum()
    }
}

#[test]
fn the_next_turn_of_a_conversation_begins_with_what_the_last_prompt_had_computed() {
    let mut simulation = Simulation::new(caching(), script(1, 64));
    let prompt = counting(1, 40);
    let first = simulation.submit(ask(prompt.clone(), 100)).unwrap();
    simulation.run();
    let next: Vec<u32> = prompt.iter().chain(&simulation.tokens(first)).copied().chain(counting(30, 10)).collect();
    let before = simulation.fed();
    let second = simulation.submit(ask(next.clone(), 1)).unwrap();
    simulation.run();
    assert_eq!((simulation.cached(first), simulation.cached(second)), (vec![0], vec![40]));
    assert_eq!(simulation.fed() - before, next.len() - 40, "and nothing else is computed twice");
}

#[test]
fn tokens_that_were_computed_one_by_one_are_not_reused() {
    let mut simulation = Simulation::new(caching(), script(1, 64));
    let first = simulation.submit(ask(counting(1, 20), 60)).unwrap();
    simulation.run();
    let whole: Vec<u32> = counting(1, 20).into_iter().chain(simulation.tokens(first)).collect();
    let second = simulation.submit(ask(whole, 1)).unwrap();
    simulation.run();
    assert_eq!(simulation.cached(second), [20]);
}

#[test]
fn the_same_prompt_again_still_computes_two_tokens() {
    let mut simulation = Simulation::new(caching(), script(1, 64));
    for expected in [0, 38, 38] {
        let id = simulation.submit(ask(counting(1, 40), 3)).unwrap();
        simulation.run();
        assert_eq!(simulation.cached(id), [expected]);
    }
}

#[test]
fn prompts_that_begin_otherwise_or_share_little_reuse_nothing() {
    let mut simulation = Simulation::new(caching(), script(1, 64));
    simulation.submit(ask(counting(1, 40), 3)).unwrap();
    simulation.run();
    let other = simulation.submit(ask(counting(2, 40), 3)).unwrap();
    let little = simulation.submit(ask(counting(1, 15).into_iter().chain(counting(99, 20)).collect(), 3)).unwrap();
    simulation.run();
    assert_eq!((simulation.cached(other), simulation.cached(little)), (vec![0], vec![0]));
}

#[test]
fn several_sequences_of_a_request_share_their_prompt() {
    let mut simulation = Simulation::new(caching(), script(1, 64));
    let id = simulation.submit(Request { n: 3, ..ask(counting(1, 40), 2) }).unwrap();
    simulation.run();
    assert_eq!(simulation.cached(id), [0, 38, 38]);
    assert_eq!(simulation.fed(), 40 + 2 + 2 + 3, "the prompt once, its end twice more, and a token of each");
}

#[test]
fn what_is_only_kept_counts_as_free_and_is_given_up_before_anybody_is_preempted() {
    let mut simulation = Simulation::new(caching(), script(1, 6));
    for from in [1, 2, 3] {
        simulation.submit(ask(counting(from, 40), 3)).unwrap();
        simulation.run();
        assert_eq!(simulation.state.kv_usage(), (96, 0));
    }
    simulation.submit(ask(counting(50, 90), 6)).unwrap();
    simulation.run();
    assert_eq!(simulation.preemptions(PreemptReason::KvExhausted), 0);
}

#[test]
fn a_cut_rest_of_what_was_kept_is_still_of_use() {
    let mut simulation = Simulation::new(caching(), script(1, 6));
    simulation.submit(ask(counting(1, 60), 3)).unwrap();
    simulation.run();
    // Needs four of the six blocks: two of the four that are kept go.
    simulation.submit(ask(counting(90, 50), 3)).unwrap();
    simulation.run();
    let again = simulation.submit(ask(counting(1, 60), 3)).unwrap();
    simulation.run();
    assert_eq!(simulation.cached(again), [32]);
}

#[test]
fn without_prefix_caching_every_prompt_is_computed() {
    let mut simulation = Simulation::new(limits(), script(1, 64));
    for _ in 0..2 {
        let id = simulation.submit(ask(counting(1, 40), 3)).unwrap();
        simulation.run();
        assert_eq!(simulation.cached(id), [0]);
    }
}

#[test]
fn a_copy_that_failed_is_not_kept_for_later_prompts() {
    let mut simulation = Simulation::new(caching(), script(1, 64));
    simulation.submit(ask(counting(1, 40), 3)).unwrap();
    simulation.run();
    // As if it had been cancelled while its copy was made.
    let adoption = Adoption { from: 99, from_blocks: vec![9], to: 0, to_blocks: vec![0], tokens: 16 };
    let mut step = Step { number: 99, adoptions: vec![adoption], work: Vec::new(), choosers: Vec::new() };
    simulation.state.complete(simulation.now(), &mut step, Err(StepError::OutOfMemory("no copy".to_owned())));
    let again = simulation.submit(ask(counting(1, 40), 3)).unwrap();
    simulation.run();
    assert_eq!(simulation.cached(again), [0]);
}
