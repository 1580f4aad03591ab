//! The scheduler on paged memory: whatever is preempted, resumed, cancelled, adopted, grown or failed, each token's slot is
//! written once, and read by its own sequence only. Walks are random and each is told by its number.

use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::backend::SequenceId;
use crate::backend::paged::Layout;
use crate::backend::paged::memory::{Fault, PagedMemory, Slot};
use crate::scheduler::request::Token;

/// Steps of one walk.
const WALK: usize = 500;

/// How often something happened: a walk on which nothing happens proves nothing.
#[derive(Debug, Default)]
struct Seen {
    steps: usize,
    resumed: usize,
    recomputed: usize,
    adopted: usize,
    cancelled_in_flight: usize,
    failed_steps: usize,
    failed_copies: usize,
    lost: usize,
    unequal_lengths: usize,
    later_pieces: usize,
    answered: usize,
}

struct Walk {
    rng: StdRng,
    state: State,
    memory: PagedMemory,
    now: u64,
    length: u32,
    /// Requests that have not ended, with their prompts.
    live: Vec<(RequestId, Vec<u32>)>,
    tokens: HashMap<(RequestId, u32), Vec<u32>>,
    seen: Seen,
}

impl Walk {
    fn new(number: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(number);
        let block = [1, 2, 3, 4, 8, 16][rng.random_range(0..6)];
        let capacity = rng.random_range(40..160u32);
        let layout = Layout::new(block, capacity.div_ceil(block) + 1).unwrap();
        let length = rng.random_range(3..20);
        let memory = PagedMemory::new(layout, rng.random_range(1..7), length);
        let limits = Limits {
            max_num_seqs: rng.random_range(1..8),
            max_num_batched_tokens: rng.random_range(2..40),
            max_queue_size: 6,
            policy: if rng.random_bool(0.5) { Policy::Priority } else { Policy::Fcfs },
            queue_timeout: None,
            prefix_caching: rng.random_bool(0.7),
        };
        let state = State::new(limits, memory.caps());
        let (live, tokens, seen) = (Vec::new(), HashMap::new(), Seen::default());
        Self { rng, state, memory, now: 0, length, live, tokens, seen }
    }

    fn stamp(&self) -> Stamp {
        Stamp { unix_nanos: self.now * 1_000_000, monotonic: self.now as f64 / 1000.0 }
    }

    fn go(mut self) -> Seen {
        while self.seen.steps < WALK {
            match self.rng.random_range(0..100) {
                0..20 => self.submit(),
                20..24 => self.cancel(),
                24 if self.rng.random_bool(0.2) => self.lose_kv(),
                _ => self.step(),
            }
        }
        while !self.state.is_idle() {
            self.step();
        }
        assert_eq!(self.state.kv_usage().1, 0, "blocks are still held when nothing is left");
        self.seen
    }

    /// A prompt is the beginning of one of two texts, so that many begin alike.
    fn submit(&mut self) {
        let (text, prompt) = (self.rng.random_bool(0.5), self.rng.random_range(1..50usize));
        let mut prompt: Vec<u32> = (0..prompt).map(|at| if text { 65 } else { 66 + (at % 5) as u32 }).collect();
        if self.rng.random_bool(0.3) {
            prompt.extend([90, 91, 92]);
        }
        let request = Request {
            prompts: vec![prompt.clone().into()],
            priority: self.rng.random_range(-1..2),
            whole: false,
            n: self.rng.random_range(1..3),
            ..request(1, self.rng.random_range(0..30))
        };
        if let Ok(id) = self.state.admit(self.stamp(), request) {
            self.live.push((id, prompt));
        }
    }

    fn cancel(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let which = self.rng.random_range(0..self.live.len());
        self.state.cancel(self.stamp(), self.live[which].0);
        self.hear();
    }

    fn lose_kv(&mut self) {
        self.memory.recover().unwrap();
        self.state.kv_lost(self.stamp());
        self.seen.lost += 1;
        self.check_memory();
    }

    fn step(&mut self) {
        self.state.take_released();
        self.now += 1;
        let Some(mut step) = self.state.plan(self.stamp()) else { return };
        self.note(&step);
        self.memory.fault = match self.rng.random_range(0..100) {
            0..2 => Some(Fault::Step),
            2..20 if !step.adoptions.is_empty() => Some(Fault::Copy),
            _ => None,
        };
        let planned = self.memory.fault;
        let answer = step.run(&mut self.memory);
        match (&answer, planned) {
            (Ok(_), None) => self.check_what_was_read(&step),
            (Err(_), Some(Fault::Step)) => self.seen.failed_steps += 1,
            (Err(_), Some(Fault::Copy)) => self.seen.failed_copies += 1,
            (answer, planned) => panic!("{planned:?} was planned, and the step came to {answer:?}"),
        }
        // A client leaves, or comes, while the device works.
        match self.rng.random_range(0..12) {
            0 if !self.live.is_empty() => {
                self.seen.cancelled_in_flight += 1;
                self.cancel();
            }
            1 => self.submit(),
            _ => {}
        }
        self.state.complete(self.stamp(), &mut step, answer);
        self.hear();
        self.check_memory();
    }

    fn note(&mut self, step: &Step) {
        let sequence = |work: &Work| &self.state.sequences[&work.sequence];
        self.seen.steps += 1;
        self.seen.adopted += step.adoptions.len();
        self.seen.resumed += step.work.iter().filter(|work| sequence(work).num_preemptions > 0).count();
        self.seen.recomputed += step.work.iter().filter(|work| sequence(work).high_water > work.start as usize).count();
        self.seen.later_pieces += step.work.iter().filter(|work| work.start > 0 && work.tokens.len() > 1).count();
    }

    /// Each sequence attended to all of its own tokens.
    fn check_what_was_read(&mut self, step: &Step) {
        self.seen.unequal_lengths +=
            self.memory.ran.iter().filter(|lengths| lengths.iter().max() != lengths.iter().min()).count();
        assert_eq!(self.memory.read.len(), step.work.len());
        for (sequence, read) in &self.memory.read {
            assert!(self.state.sequences[sequence].tokens.starts_with(read), "sequence {sequence} read {read:?}");
        }
    }

    /// No block has two holders, and where the scheduler says that KV is, it is.
    fn check_memory(&self) {
        let sequences = self.state.sequences.iter();
        let sequences = sequences.map(|(id, s)| (*id, &s.tokens[..s.computed], s.blocks.as_slice()));
        let mut held = HashSet::new();
        for (id, tokens, blocks) in sequences.chain(self.state.prefixes.kept()) {
            assert!(blocks.iter().all(|block| held.insert(*block)), "a block of sequence {id} has another holder");
            assert_eq!(self.memory.held(blocks, tokens.len()), kv(id, tokens), "KV of sequence {id}");
        }
        assert_eq!(held.len() + self.state.pool.free(), self.state.pool.total(), "a block is lost");
    }

    fn hear(&mut self) {
        for (request, update) in self.state.take_updates() {
            match update {
                Update::Token(Token { sequence, id, .. }) => self.tokens.entry((request, sequence)).or_default().push(id),
                Update::Finished(end) => {
                    let tokens = self.tokens.remove(&(request, end.sequence)).unwrap_or_default();
                    let (_, prompt) = self.live.iter().find(|(id, _)| *id == request).expect("it ends once");
                    self.seen.answered += usize::from(end.failure.is_none() && tokens.len() > 1);
                    assert_eq!(tokens, undisturbed(prompt, tokens.len(), self.length), "text of request {request}");
                }
            }
        }
        self.live.retain(|(id, _)| self.state.has(*id));
    }
}

fn kv(sequence: SequenceId, tokens: &[u32]) -> Vec<Option<Slot>> {
    tokens.iter().enumerate().map(|(position, token)| Some(Slot { sequence, position, token: *token })).collect()
}

/// The first tokens of the answer that a request gets when it is alone and nothing happens.
fn undisturbed(prompt: &[u32], tokens: usize, length: u32) -> Vec<u32> {
    let mut all = prompt.to_vec();
    (0..tokens).for_each(|_| all.push(crate::backend::scripted::scripted_token(&all, length)));
    all.split_off(prompt.len())
}

/// Walks until there were so many steps, and sees to it that everything happened on the way.
fn walk(steps: usize) {
    let mut all = Seen::default();
    for number in 0..(steps / WALK) as u64 {
        let seen = std::panic::catch_unwind(|| Walk::new(number).go());
        let seen = seen.unwrap_or_else(|_| panic!("walk {number} failed; see above"));
        all.add(&seen);
    }
    println!("{all:?}");
    let counts = all.counts();
    assert!(all.steps >= steps && counts.iter().all(|count| *count >= steps / 1000), "something hardly happened: {all:?}");
}

impl Seen {
    fn counts(&self) -> [usize; 10] {
        [
            self.resumed,
            self.recomputed,
            self.adopted,
            self.cancelled_in_flight,
            self.failed_steps,
            self.failed_copies,
            self.lost,
            self.unequal_lengths,
            self.later_pieces,
            self.answered,
        ]
    }

    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.resumed += other.resumed;
        self.recomputed += other.recomputed;
        self.adopted += other.adopted;
        self.cancelled_in_flight += other.cancelled_in_flight;
        self.failed_steps += other.failed_steps;
        self.failed_copies += other.failed_copies;
        self.lost += other.lost;
        self.unequal_lengths += other.unequal_lengths;
        self.later_pieces += other.later_pieces;
        self.answered += other.answered;
    }
}

#[test]
fn whatever_happens_every_token_is_written_once_and_read_by_its_own_sequence_alone() {
    walk(20_000);
}

/// `cargo test -p sojourn-engine --no-default-features --lib a_million_steps -- --ignored`
#[test]
#[ignore = "takes minutes"]
fn a_million_steps_of_whatever_happens_on_paged_memory() {
    walk(1_000_000);
}
