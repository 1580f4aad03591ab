//! How often each word of the journey's vocabulary occurred.

use std::collections::BTreeMap;
use std::fmt;

use sojourn_contract::event;
use sojourn_contract::journey::{AbortPhase, AbortReason, FinishStatus, Outcome, Parent, PreemptReason, ScheduleKind};

const JOURNEYS: (&str, &str) = ("journeys", "");

/// Counts by kind of word and word.
#[derive(Default)]
pub struct Tally(BTreeMap<(&'static str, &'static str), u64>);

impl Tally {
    /// A word occurred once more.
    pub fn count(&mut self, kind: &'static str, word: &'static str) {
        *self.0.entry((kind, word)).or_default() += 1;
    }

    /// A journey was judged.
    pub fn journey(&mut self) {
        self.count(JOURNEYS.0, JOURNEYS.1);
    }

    /// Journeys that were judged.
    pub fn journeys(&self) -> u64 {
        self.0.get(&JOURNEYS).copied().unwrap_or_default()
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(word, count)| *self.0.entry(*word).or_default() += count);
    }

    /// Fails unless every word that there is occurred at least so often.
    pub fn assert_each_at_least(&self, least: u64) {
        let count = |word: &(&'static str, &'static str)| self.0.get(word).copied().unwrap_or_default();
        let rare: Vec<_> = words().into_iter().filter(|word| count(word) < least).map(|word| (word, count(&word))).collect();
        assert!(rare.is_empty(), "fewer than {least}: {rare:?}");
    }
}

/// Every word that must occur.
fn words() -> Vec<(&'static str, &'static str)> {
    let mut all = Vec::new();
    let mut add = |kind, words: Vec<&'static str>| all.extend(words.into_iter().map(|word| (kind, word)));
    add("event", event::API.into_iter().chain(event::CORE).collect());
    add("outcome", Outcome::ALL.iter().map(|word| word.as_str()).collect());
    add("abort reason", AbortReason::ALL.iter().map(|word| word.as_str()).collect());
    add("abort phase", AbortPhase::ALL.iter().map(|word| word.as_str()).collect());
    add("preempt reason", PreemptReason::ALL.iter().map(|word| word.as_str()).collect());
    add("schedule kind", ScheduleKind::ALL.iter().map(|word| word.as_str()).collect());
    add("finish status", FinishStatus::ALL.iter().map(|word| word.as_str()).collect());
    add("parent", Parent::ALL.iter().map(|word| word.as_str()).collect());
    all
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for ((kind, word), count) in &self.0 {
            let shown = if *kind == last { "" } else { kind };
            writeln!(f, "{shown:16}{word:32}{count:>9}")?;
            last = kind;
        }
        Ok(())
    }
}
