//! Who runs in the next step, and on which tokens: admission to the running set, chunked prefill, turns, and preemption.

use sojourn_contract::journey::PreemptReason;
use sojourn_journey::record::Stamp;

use super::sequence::Urgency;
use super::state::State;
use super::step::{Chooser, Step};
use crate::backend::{SequenceId, Want, Work};

/// Tokens that a sequence decodes in one turn, when a backend runs one sequence at a time and several want to: more of them
/// reuse the processor's caches better, and make the others wait longer.
const TURN_TOKENS: usize = 2;

/// Whose turn it is on a backend that runs one sequence at a time.
#[derive(Debug, Default)]
pub struct Turns {
    /// Who has the turn, and how many tokens are left of it.
    current: Option<(SequenceId, usize)>,
    /// Turns that decoding sequences had since the last piece of a prompt.
    since_prefill: usize,
}

impl State {
    /// Decides the next step; `None` when there is nothing to do.
    pub fn plan(&mut self, now: Stamp) -> Option<Step> {
        self.expire(now);
        loop {
            self.fill_running_set(now);
            let chosen = self.choose();
            if chosen.is_empty() {
                return None;
            }
            let fitting = self.fit(now, chosen);
            // All of them were preempted for want of blocks: choose again among those that are left.
            if !fitting.is_empty() {
                self.step += 1;
                let (work, choosers) = fitting.into_iter().filter_map(|(id, tokens)| self.work(id, tokens)).unzip();
                return Some(Step { number: self.step, adoptions: self.take_adoptions(), work, choosers });
            }
        }
    }

    /// Provides blocks for the chosen sequences, most urgent first; those that were preempted on the way drop out.
    fn fit(&mut self, now: Stamp, mut chosen: Vec<(SequenceId, usize)>) -> Vec<(SequenceId, usize)> {
        chosen.sort_by_key(|(id, _)| self.urgency(*id));
        for (id, tokens) in &chosen {
            if self.is_running(*id) {
                self.provide_blocks(now, *id, *tokens);
            }
        }
        chosen.retain(|(id, _)| self.is_running(*id));
        chosen
    }

    pub(super) fn is_running(&self, id: SequenceId) -> bool {
        self.urgency(id).is_some_and(|urgency| self.running.contains_key(&urgency))
    }

    fn urgency(&self, id: SequenceId) -> Option<Urgency> {
        self.sequences.get(&id).map(|sequence| sequence.urgency)
    }

    fn work(&mut self, id: SequenceId, tokens: usize) -> Option<(Work, Option<Chooser>)> {
        let step = self.step;
        let sequence = self.sequences.get_mut(&id)?;
        sequence.in_flight = true;
        sequence.last_turn = step;
        let end = sequence.computed + tokens;
        let chooser = sequence.lend_chooser(end);
        let work = Work {
            sequence: id,
            start: u32::try_from(sequence.computed).unwrap_or(u32::MAX),
            tokens: sequence.tokens[sequence.computed..end].to_vec(),
            blocks: sequence.blocks.clone(),
            want: chooser.as_ref().map_or(Want::Nothing, Chooser::want),
        };
        Some((work, chooser))
    }

    // === the running set ===

    /// Moves waiting sequences into the running set, most urgent first, while there are seats and blocks for all of their
    /// tokens. The first that does not fit holds the others back, or a large request would never run.
    fn fill_running_set(&mut self, now: Stamp) {
        while let Some((urgency, id)) = self.waiting.first_key_value().map(|(urgency, id)| (*urgency, *id)) {
            if self.running.len() >= self.limits.max_num_seqs && !self.make_seat(now, urgency) {
                return;
            }
            if !self.has_room_for(urgency, id) {
                return;
            }
            let step = self.step;
            let Some(sequence) = self.sequences.get_mut(&id) else { return };
            self.waiting.remove(&urgency);
            self.holders.remove(&urgency);
            self.running.insert(urgency, id);
            sequence.record_scheduled(now, step);
        }
    }

    /// Preempts the least urgent running sequence if it is of a lower class than the one that waits.
    fn make_seat(&mut self, now: Stamp, waiting: Urgency) -> bool {
        let Some((worst, id)) = self.running.last_key_value().map(|(urgency, id)| (*urgency, *id)) else { return false };
        if worst.priority <= waiting.priority {
            return false;
        }
        self.preempt(now, id, PreemptReason::Priority);
        true
    }

    /// Blocks for all of its tokens and the next one are free, its own, only kept, or held by less urgent waiting sequences.
    fn has_room_for(&self, urgency: Urgency, id: SequenceId) -> bool {
        let Some(sequence) = self.sequences.get(&id) else { return false };
        let needed = self.pool.needed(sequence.tokens.len() + 1).min(self.pool.total());
        let missing = needed.saturating_sub(sequence.blocks.len());
        let spare = self.pool.free() + self.prefixes.blocks();
        if missing <= spare {
            return true;
        }
        let less_urgent = self.holders.range(urgency..).filter(|(_, other)| **other != id);
        let less_urgent = less_urgent.filter_map(|(_, id)| self.sequences.get(id));
        missing <= spare + less_urgent.map(|sequence| sequence.blocks.len()).sum::<usize>()
    }

    // === blocks ===

    /// Gives a sequence the blocks for its next tokens: free ones, then kept ones, then those of waiting sequences, then
    /// those of less urgent running ones, which are preempted; itself, if it is the least urgent.
    fn provide_blocks(&mut self, now: Stamp, id: SequenceId, tokens: usize) {
        while let Some(sequence) = self.sequences.get_mut(&id) {
            let needed = self.pool.needed(sequence.computed + tokens);
            if self.pool.extend(&mut sequence.blocks, needed) {
                return;
            }
            if self.reclaim_kept_block() || self.reclaim_block() {
                continue;
            }
            let Some(victim) = self.running.last_key_value().map(|(_, id)| *id) else { return };
            self.preempt(now, victim, PreemptReason::KvExhausted);
            if victim == id {
                return;
            }
        }
    }

    /// Takes one block from the end of the least urgent waiting sequence that holds any.
    fn reclaim_block(&mut self) -> bool {
        let Some((urgency, id)) = self.holders.last_key_value().map(|(urgency, id)| (*urgency, *id)) else { return false };
        let Some(sequence) = self.sequences.get_mut(&id) else { return false };
        self.pool.take_back(&mut sequence.blocks);
        sequence.cut(self.pool.tokens(sequence.blocks.len()));
        if sequence.blocks.is_empty() {
            self.holders.remove(&urgency);
        }
        true
    }

    // === turns and pieces ===

    /// Sequences of the next step with the number of tokens for each.
    fn choose(&mut self) -> Vec<(SequenceId, usize)> {
        if let Some(suspect) = self.suspect() {
            return vec![(suspect, self.next_piece(suspect))];
        }
        if self.caps.max_batch == 1 { self.choose_one().into_iter().collect() } else { self.choose_batch() }
    }

    /// All that decode, then pieces of prompts within the budget.
    fn choose_batch(&mut self) -> Vec<(SequenceId, usize)> {
        let (decoding, prefilling) = self.by_phase();
        let mut chosen: Vec<(SequenceId, usize)> = decoding.into_iter().map(|id| (id, 1)).collect();
        chosen.truncate(self.caps.max_batch);
        let mut budget = self.limits.max_num_batched_tokens.saturating_sub(chosen.len());
        for id in prefilling {
            if chosen.len() == self.caps.max_batch || budget == 0 {
                break;
            }
            self.adopt_prefix(id);
            let tokens = piece(self.pending(id), budget);
            budget = budget.saturating_sub(tokens);
            chosen.push((id, tokens));
        }
        chosen
    }

    /// One sequence: each that decodes has its turn, then one piece of a prompt, and so on.
    fn choose_one(&mut self) -> Option<(SequenceId, usize)> {
        let (decoding, prefilling) = self.by_phase();
        if let Some((id, left)) = self.turns.current.filter(|(id, left)| *left > 0 && decoding.contains(id)) {
            self.turns.current = Some((id, left - 1));
            return Some((id, 1));
        }
        let prefill_is_due = decoding.is_empty() || self.turns.since_prefill >= decoding.len();
        if let Some(id) = prefilling.first().filter(|_| prefill_is_due) {
            self.turns = Turns::default();
            self.adopt_prefix(*id);
            return Some((*id, self.next_piece(*id)));
        }
        let id = *decoding.first()?;
        self.turns = Turns { current: Some((id, TURN_TOKENS - 1)), since_prefill: self.turns.since_prefill + 1 };
        Some((id, 1))
    }

    /// A running sequence that has to run alone, the most urgent of them.
    fn suspect(&self) -> Option<SequenceId> {
        self.running.values().copied().find(|id| self.sequences.get(id).is_some_and(|sequence| sequence.suspect))
    }

    fn next_piece(&self, id: SequenceId) -> usize {
        piece(self.pending(id), self.limits.max_num_batched_tokens)
    }

    /// Running sequences that decode, longest without a turn first, and those with more than one token to compute, most
    /// urgent first.
    fn by_phase(&self) -> (Vec<SequenceId>, Vec<SequenceId>) {
        let (mut decoding, prefilling): (Vec<_>, Vec<_>) = self.running.values().copied().partition(|id| self.decodes(*id));
        decoding.sort_by_key(|id| self.sequences.get(id).map(|sequence| sequence.last_turn));
        (decoding, prefilling)
    }

    fn decodes(&self, id: SequenceId) -> bool {
        self.sequences.get(&id).is_some_and(|s| s.pending() == 1 && s.generated() > 0)
    }

    fn pending(&self, id: SequenceId) -> usize {
        self.sequences.get(&id).map_or(0, super::sequence::Sequence::pending)
    }
}

/// The next piece of `pending` tokens within a budget, so cut that no later piece is a single token: attention over one row
/// runs another kernel than over several, and rounds differently.
fn piece(pending: usize, budget: usize) -> usize {
    let tokens = pending.min(budget.max(1));
    match pending - tokens {
        1 if tokens > 2 => tokens - 1,
        1 => tokens + 1,
        _ => tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::piece;

    #[test]
    fn no_piece_of_a_prompt_is_a_single_token() {
        for pending in 2..200 {
            for budget in 2..70 {
                let mut left = pending;
                while left > 0 {
                    let tokens = piece(left, budget);
                    assert!((2..=budget + 1).contains(&tokens), "{tokens} of {left} within {budget}");
                    left -= tokens;
                }
            }
        }
        assert_eq!(piece(1, 8), 1);
    }
}
