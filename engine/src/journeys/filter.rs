//! Which journeys a list shows. Pure.

use sojourn_contract::journey::Outcome;

use super::summary::Summary;

/// The part of the slowest that counts as slow where nobody says from how many seconds on.
const SLOWEST: f64 = 0.1;

/// Which journeys a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Filter {
    /// Every one.
    All,
    /// Those in flight.
    Running,
    /// The slowest by their duration.
    Slow,
    /// Those that failed by our fault.
    Error,
    /// Those whose client went away or stalled.
    Aborted,
    /// Those that were refused.
    Rejected,
    /// Those that were preempted at least once.
    Preempted,
}

impl Filter {
    /// Every filter, in the order in which they are offered.
    pub const ALL: [Self; 7] =
        [Self::All, Self::Running, Self::Slow, Self::Error, Self::Aborted, Self::Rejected, Self::Preempted];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Running => "running",
            Self::Slow => "slow",
            Self::Error => "error",
            Self::Aborted => "aborted",
            Self::Rejected => "rejected",
            Self::Preempted => "preempted",
        }
    }

    /// The filter of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.as_str() == name)
    }

    /// Whether it shows a journey; `slow` is the duration from which on one is slow, seconds.
    pub fn shows(self, journey: &Summary, slow: f64) -> bool {
        match self {
            Self::All => true,
            Self::Running => journey.outcome.is_none(),
            Self::Slow => journey.duration_seconds >= slow,
            Self::Error => journey.outcome == Some(Outcome::Error),
            Self::Aborted => journey.outcome == Some(Outcome::Aborted),
            Self::Rejected => journey.outcome == Some(Outcome::Rejected),
            Self::Preempted => journey.preemptions > 0,
        }
    }
}

/// The duration from which on a journey is slow, seconds: that of the slowest tenth of those that were answered.
pub fn slow_from(journeys: &[Summary]) -> f64 {
    let answered = journeys.iter().filter(|journey| journey.outcome == Some(Outcome::Ok));
    let mut durations: Vec<f64> = answered.map(|journey| journey.duration_seconds).collect();
    durations.sort_by(|a, b| b.total_cmp(a));
    let slowest = (durations.len() as f64 * SLOWEST).ceil() as usize;
    slowest.checked_sub(1).and_then(|last| durations.get(last)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::summary;
    use super::*;

    #[test]
    fn each_filter_shows_its_own() {
        let running = Summary { outcome: None, ..summary("running", 9.0) };
        let with = |name: &str, outcome| Summary { outcome: Some(outcome), ..summary(name, 0.1) };
        let all = [
            running,
            summary("slow", 3.0),
            with("error", Outcome::Error),
            with("aborted", Outcome::Aborted),
            with("rejected", Outcome::Rejected),
            Summary { preemptions: 1, ..summary("preempted", 0.2) },
        ];
        let shown = |filter: Filter| {
            let shown = all.iter().filter(|journey| filter.shows(journey, 3.0));
            shown.map(|journey| journey.request_id.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(shown(Filter::All).len(), all.len());
        assert_eq!(shown(Filter::Slow), ["running", "slow"]);
        for filter in [Filter::Running, Filter::Error, Filter::Aborted, Filter::Rejected, Filter::Preempted] {
            assert_eq!(shown(filter), [filter.as_str()]);
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        use clap::ValueEnum;
        for filter in Filter::ALL {
            assert_eq!(filter.to_possible_value().unwrap().get_name(), filter.as_str());
            assert_eq!(Filter::named(filter.as_str()), Some(filter));
        }
        assert_eq!(Filter::named("fast"), None);
    }

    #[test]
    fn the_slowest_tenth_of_the_answered_is_slow() {
        let mut journeys: Vec<Summary> = (1..=20).map(|second| summary("a", f64::from(second))).collect();
        journeys.push(Summary { outcome: Some(Outcome::Aborted), ..summary("aborted", 100.0) });
        assert_eq!(slow_from(&journeys), 19.0);
        assert_eq!(slow_from(&journeys[..1]), 1.0);
        assert_eq!(slow_from(&[]), 0.0);
    }
}
