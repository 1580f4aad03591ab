//! Sequences that are held to a grammar.

use super::*;
use crate::scheduler::request::Constraint;

/// Allows one token so many times, and is stuck then.
struct Times(u32, u32);

impl Constraint for Times {
    fn fresh(&self) -> Box<dyn Constraint> {
        Box::new(Self(self.0, self.1))
    }

    fn mask(&mut self, row: &mut [f32]) -> Result<(), String> {
        let token = self.0;
        self.1 = self.1.checked_sub(1).ok_or("stuck")?;
        (0..).zip(row).filter(|(id, _)| *id != token).for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        Ok(())
    }

    fn advance(&mut self, _: u32) -> Result<bool, String> {
        Ok(false)
    }
}

#[test]
fn a_grammar_that_is_stuck_ends_its_sequences_with_an_error_and_no_others() {
    let mut simulation = Simulation::new(limits(), script(4, 64));
    let stuck = Request { constraint: Some(Box::new(Times(90, 3))), n: 2, ..request(5, 100) };
    let (stuck, other) = (simulation.submit(stuck).unwrap(), simulation.submit(request(5, 3)).unwrap());
    simulation.run();
    assert_eq!(simulation.tokens(stuck), [90; 6]);
    assert_eq!(simulation.ends(stuck), [FinishStatus::Error; 2]);
    assert_eq!(simulation.ends(other), [FinishStatus::Length]);
}

#[test]
fn a_preemption_does_not_change_where_a_grammar_is() {
    // Sequences of 5 + 40 tokens in 4 blocks of 16: they cannot all be held to their ends.
    let mut simulation = Simulation::new(limits(), script(4, 4));
    let held = || Request { constraint: Some(Box::new(Times(90, 40))), ..request(5, 40) };
    let ids = [simulation.submit(held()).unwrap(), simulation.submit(held()).unwrap()];
    simulation.run();
    assert!(simulation.preemptions(PreemptReason::KvExhausted) > 0);
    for id in ids {
        assert_eq!(simulation.tokens(id), [90; 40]);
        assert_eq!(simulation.ends(id), [FinishStatus::Length]);
    }
}
