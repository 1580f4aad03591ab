//! What a soak found, and whether that is well. Pure.

use std::time::Duration;

use sojourn_contract::journey::Outcome;
use sojourn_contract::metric;

use super::client::Seen;
use super::ledger::Ledger;
use crate::metrics::Page;
use crate::statistics::slope;

/// What memory may grow between idle moments, in all, after the warm-up. It is a bound on the fitted line, not on single
/// readings: allocators give memory back when they like.
const GROWTH_KIB: f64 = 8.0 * 1024.0;
/// Part of the idle moments that count as warm-up: caches and pools fill.
const WARM_UP: f64 = 1.0 / 3.0;
/// Idle moments below which nothing can be said of memory.
const LEAST_POINTS: usize = 5;

/// Memory at an idle moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Since the start.
    pub minutes: f64,
    /// Of the engine, in RAM.
    pub kib: f64,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// What clients saw.
    pub seen: Seen,
    /// What the receiver got.
    pub ledger: Ledger,
    /// The engine's metrics at the last idle moment.
    pub page: Page,
    /// Memory at each idle moment.
    pub memory: Vec<Memory>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// It is as it should be.
    pub well: bool,
    /// For people.
    pub words: String,
}

impl Findings {
    /// How it goes, in one line.
    pub fn progress(&self, ledger: &Ledger, elapsed: Duration) -> String {
        format!(
            "{:>4} s  {} requests, {} journeys ({} preemptions), {} violations, {:.1} MiB",
            elapsed.as_secs(),
            self.seen.requests(),
            ledger.journeys(),
            ledger.preemptions,
            ledger.violations,
            self.memory.last().map_or(0.0, |memory| memory.kib / 1024.0)
        )
    }

    /// Every question, answered.
    pub fn answers(&self) -> Vec<Answer> {
        vec![self.surprises(), self.stuck(), self.legal(), self.counts(), self.growth()]
    }

    fn surprises(&self) -> Answer {
        let statuses: Vec<String> = self.seen.answers.iter().map(|(status, count)| format!("{count} x {status}")).collect();
        let first = self.seen.surprises.first().map(|surprise| format!("; first: {surprise}")).unwrap_or_default();
        let words = format!(
            "{} requests: {}, {} left by their client; {} unexpected answers{first}",
            self.seen.requests(),
            statuses.join(", "),
            self.seen.left,
            self.seen.surprises.len()
        );
        Answer { well: self.seen.surprises.is_empty() && self.seen.answers.contains_key(&200), words }
    }

    fn stuck(&self) -> Answer {
        let (running, waiting) = (
            self.page.sum(&metric::NUM_REQUESTS_RUNNING.series(), &[]),
            self.page.sum(&metric::NUM_REQUESTS_WAITING.series(), &[]),
        );
        let words = format!("at the end {running} requests run and {waiting} wait");
        Answer { well: running + waiting == 0.0, words }
    }

    fn legal(&self) -> Answer {
        let mut words = format!(
            "{} journeys with {} preemptions, {} violations",
            self.ledger.journeys(),
            self.ledger.preemptions,
            self.ledger.violations
        );
        for violation in &self.ledger.shown {
            words.push_str("\n        ");
            words.push_str(violation);
        }
        Answer { well: self.ledger.violations == 0 && self.ledger.journeys() > 0, words }
    }

    /// Every request that the engine counted has its journey, with the same outcome, or was counted as dropped.
    fn counts(&self) -> Answer {
        let dropped = self.page.sum(&metric::JOURNEYS_DROPPED.series(), &[]);
        let mut words = format!("{dropped} journeys dropped");
        let mut missing = 0.0;
        let mut surplus = false;
        for outcome in [Outcome::Ok, Outcome::Rejected, Outcome::Aborted, Outcome::Error] {
            let name = outcome.as_str();
            let counted = self.page.sum(&metric::REQUESTS.series(), &[("outcome", name)]);
            let received = self.ledger.outcomes.get(name).copied().unwrap_or(0) as f64;
            words.push_str(&format!("; {name}: {counted} requests, {received} journeys"));
            missing += counted - received;
            surplus |= received > counted;
        }
        Answer { well: !surplus && missing == dropped, words }
    }

    fn growth(&self) -> Answer {
        let warm_up = (self.memory.len() as f64 * WARM_UP) as usize;
        let points: Vec<(f64, f64)> = self.memory[warm_up..].iter().map(|memory| (memory.minutes, memory.kib)).collect();
        let (Some(first), Some(last), Some(slope)) = (points.first(), points.last(), slope(&points)) else {
            return Answer { well: false, words: "memory was never read after the warm-up; run longer".to_owned() };
        };
        if points.len() < LEAST_POINTS {
            let words =
                format!("memory was read at {} idle moments after the warm-up, which is too few; run longer", points.len());
            return Answer { well: false, words };
        }
        let growth = slope * (last.0 - first.0);
        let words = format!(
            "memory {:.1} MiB at the end, {:+.2} MiB ({:+.0} KiB a minute) over {} idle moments after the warm-up; at most {:.0} MiB",
            last.1 / 1024.0,
            growth / 1024.0,
            slope,
            points.len(),
            GROWTH_KIB / 1024.0
        );
        Answer { well: growth <= GROWTH_KIB, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Findings {
        let page = "sojourn_requests_total{operation=\"chat\",outcome=\"ok\",reason=\"\"} 3\n\
                    sojourn_requests_total{operation=\"chat\",outcome=\"rejected\",reason=\"overloaded\"} 1\n\
                    sojourn_journeys_dropped_total 1\n\
                    vllm:num_requests_running{model_name=\"soak\"} 0.0\n";
        let outcomes = [("ok".to_owned(), 2), ("rejected".to_owned(), 1)].into();
        let seen = Seen { answers: [(200, 2), (429, 1)].into(), left: 1, surprises: Vec::new() };
        let memory = (0..30).map(|i| Memory { minutes: f64::from(i), kib: 100_000.0 }).collect();
        Findings { seen, ledger: Ledger { outcomes, ..Ledger::default() }, page: Page::read(page), memory }
    }

    fn well(findings: &Findings) -> Vec<bool> {
        findings.answers().iter().map(|answer| answer.well).collect()
    }

    #[test]
    fn a_sound_run_is_well_in_every_respect() {
        assert_eq!(well(&sound()), [true; 5]);
    }

    #[test]
    fn an_unexpected_answer_a_stuck_request_and_a_violation_are_each_found() {
        let mut findings = sound();
        findings.seen.surprises.push("a whole request was answered 500".into());
        findings.ledger.violations = 1;
        findings.page = Page::read("vllm:num_requests_waiting{model_name=\"soak\"} 1.0\n");
        assert_eq!(well(&findings)[..3], [false; 3]);
    }

    #[test]
    fn a_journey_that_is_missing_or_too_many_is_found() {
        let mut findings = sound();
        findings.ledger.outcomes.insert("ok".into(), 1);
        assert!(!findings.counts().well, "one of three is missing, and one was dropped");
        // As many in all, with another outcome.
        findings.ledger.outcomes = [("ok".to_owned(), 1), ("rejected".to_owned(), 2)].into();
        assert!(!findings.counts().well);
    }

    #[test]
    fn memory_may_rise_in_the_warm_up_alone() {
        let mut findings = sound();
        for (i, memory) in findings.memory.iter_mut().enumerate() {
            memory.kib = 100_000.0 + 5_000.0 * i.min(10) as f64;
        }
        assert!(findings.growth().well, "{:?}", findings.growth());
        for memory in &mut findings.memory {
            memory.kib = 100_000.0 + 1_000.0 * memory.minutes;
        }
        assert!(!findings.growth().well, "{:?}", findings.growth());
        findings.memory.truncate(4);
        assert!(!findings.growth().well);
    }
}
