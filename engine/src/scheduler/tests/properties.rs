//! Whatever comes, in whatever order.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Move {
    /// A prompt is the beginning of one of two texts, so that many begin alike.
    Submit {
        prompt: usize,
        base: bool,
        max_tokens: u32,
        priority: i32,
        sequences: u32,
    },
    /// A prompt that makes its step fail.
    SubmitFailing,
    Step(u8),
    /// The backend recovers from a panic.
    LoseKv,
    Cancel(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let submit =
        (1usize..60, any::<bool>(), 0u32..40, -2i32..3, 1u32..3).prop_map(|(prompt, base, max_tokens, priority, sequences)| {
            Move::Submit { prompt, base, max_tokens, priority, sequences }
        });
    let one = prop_oneof![6 => submit, 1 => Just(Move::SubmitFailing), 1 => Just(Move::LoseKv), 10 => (1u8..6).prop_map(Move::Step), 2 => (0usize..20).prop_map(Move::Cancel)];
    prop::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_request_ends_once_and_every_block_comes_back(
        moves in moves(), batch in 1usize..5, blocks in 6u32..12, priority in any::<bool>(), prefix_caching in any::<bool>(),
    ) {
        let policy = if priority { Policy::Priority } else { Policy::Fcfs };
        let mut simulation = Simulation::new(Limits { policy, prefix_caching, ..limits() }, script(batch, blocks));
        let mut accepted: Vec<(RequestId, u32)> = Vec::new();
        let mut fine: Vec<RequestId> = Vec::new();
        for one in moves {
            match one {
                Move::Submit { prompt, base, max_tokens, priority, sequences } => {
                    let prompt: Vec<u32> = (0..prompt).map(|at| if base { 65 } else { 66 + (at % 5) as u32 }).collect();
                    let request = Request { prompts: vec![prompt.into()], priority, n: sequences, ..request(1, max_tokens) };
                    if let Ok(id) = simulation.submit(request) {
                        accepted.push((id, sequences));
                        fine.push(id);
                    }
                }
                Move::SubmitFailing => {
                    let prompt: Vec<u32> = b"please [fail]".iter().map(|byte| u32::from(*byte)).collect();
                    if let Ok(id) = simulation.submit(Request { prompts: vec![prompt.into()], ..request(1, 5) }) {
                        accepted.push((id, 1));
                    }
                }
                Move::LoseKv => {
                    simulation.backend.recover().unwrap();
                    simulation.state.kv_lost(simulation.now());
                }
                Move::Step(count) => simulation.steps(usize::from(count)),
                Move::Cancel(which) => {
                    if let Some((id, _)) = accepted.get(which) {
                        simulation.state.cancel(simulation.now(), *id);
                        simulation.updates.extend(simulation.state.take_updates());
                    }
                }
            }
        }
        simulation.run();
        prop_assert!(simulation.state.is_idle());
        prop_assert_eq!(simulation.state.kv_usage().1, 0);
        for (id, sequences) in &accepted {
            prop_assert_eq!(simulation.ends(*id).len(), *sequences as usize);
        }
        for id in fine {
            prop_assert!(!simulation.ends(id).contains(&FinishStatus::Error), "one that fails takes another with it");
        }
        if policy == Policy::Fcfs {
            let first = simulation.first_scheduled();
            prop_assert!(first.is_sorted(), "a later request ran first: {first:?}");
        }
        for records in simulation.cores() {
            let done: Vec<u32> = records.iter().map(|record| record.progress.prefill_done).collect();
            prop_assert!(done.is_sorted(), "the high-water mark fell: {done:?}");
            prop_assert!(matches!(records.last().map(|record| record.event), Some(CoreEvent::Finished(_))));
            prop_assert_eq!(records.iter().filter(|record| matches!(record.event, CoreEvent::Finished(_))).count(), 1);
        }
    }
}
