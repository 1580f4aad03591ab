//! What became of each exporter's spans since the supervisor started, over all its collectors. Pure.

use std::collections::BTreeMap;
use std::time::Instant;

use sojourn_contract::sidecar::Destination;

use crate::effective::Route;
use crate::log::Complaint;
use crate::metrics::{Numbers, Sample};

/// Accounts by exporter. An exporter's name changes with its endpoint, so that a new endpoint begins without the old one's
/// merits.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<String, Account>,
}

#[derive(Debug, Default)]
struct Account {
    sent: Counter,
    send_failed: Counter,
    enqueue_failed: Counter,
    given_up: u64,
    queue_size: u64,
    queue_capacity: u64,
    last_sent: Option<Instant>,
    last_error: Option<String>,
}

impl Ledger {
    /// A new collector: its counters begin at zero and its queues are empty.
    pub fn collector_started(&mut self) {
        for account in self.accounts.values_mut() {
            for counter in [&mut account.sent, &mut account.send_failed, &mut account.enqueue_failed] {
                counter.last = 0;
            }
            account.queue_size = 0;
        }
    }

    /// Enters what the collector's metrics say.
    pub fn enter(&mut self, sample: &Sample, now: Instant) {
        for (exporter, numbers) in sample {
            self.accounts.entry(exporter.clone()).or_default().enter(numbers, now);
        }
    }

    /// Remembers an exporter's error.
    pub fn complain(&mut self, exporter: &str, complaint: &Complaint) {
        self.accounts.entry(exporter.to_owned()).or_default().last_error = Some(complaint.text.clone());
    }

    /// Forgets the errors: a new configuration may have mended their reasons.
    pub fn forget_errors(&mut self) {
        self.accounts.values_mut().for_each(|account| account.last_error = None);
    }

    /// Counts spans that were given up and that no metric counts as failed.
    pub fn give_up(&mut self, exporter: &str, spans: u64) {
        self.accounts.entry(exporter.to_owned()).or_default().given_up += spans;
    }

    /// The account of a destination.
    pub fn destination(&self, route: &Route, now: Instant) -> Destination {
        let none = Account::default();
        let account = self.accounts.get(&route.exporter).unwrap_or(&none);
        Destination {
            name: route.destination.clone(),
            missing_keys: route.missing_keys.clone(),
            sent_spans: account.sent.total,
            failed_spans: account.send_failed.total + account.enqueue_failed.total + account.given_up,
            queue_size: account.queue_size,
            queue_capacity: account.queue_capacity,
            seconds_since_sent: account.last_sent.map(|at| now.saturating_duration_since(at).as_secs()),
            last_error: account.last_error.clone(),
        }
    }
}

impl Account {
    fn enter(&mut self, numbers: &Numbers, now: Instant) {
        if self.sent.enter(numbers.sent) > 0 {
            self.last_sent = Some(now);
        }
        self.send_failed.enter(numbers.send_failed);
        self.enqueue_failed.enter(numbers.enqueue_failed);
        self.queue_size = numbers.queue_size;
        self.queue_capacity = numbers.queue_capacity;
    }
}

/// A counter that survives the resets of what it counts.
#[derive(Debug, Default)]
struct Counter {
    total: u64,
    last: u64,
}

impl Counter {
    /// Takes the newest value and answers the increase; a value below the last one began again at zero.
    fn enter(&mut self, value: u64) -> u64 {
        let increase = if value < self.last { value } else { value - self.last };
        self.last = value;
        self.total += increase;
        increase
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const EXPORTER: &str = "otlp_grpc/tempo-01234567";

    fn route() -> Route {
        Route { destination: "tempo".into(), exporter: EXPORTER.into(), missing_keys: Vec::new() }
    }

    fn sample(sent: u64, send_failed: u64, queue_size: u64) -> Sample {
        let numbers = Numbers { queue_size, queue_capacity: 100, sent, send_failed, enqueue_failed: 0 };
        Sample::from([(EXPORTER.to_owned(), numbers)])
    }

    #[test]
    fn counters_go_on_over_a_restart() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.enter(&sample(10, 1, 5), now);
        ledger.collector_started();
        assert_eq!(ledger.destination(&route(), now).queue_size, 0);
        ledger.enter(&sample(12, 0, 3), now);
        let destination = ledger.destination(&route(), now);
        assert_eq!((destination.sent_spans, destination.failed_spans, destination.queue_size), (22, 1, 3));
    }

    #[test]
    fn a_decrease_is_a_reset() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.enter(&sample(10, 0, 0), now);
        ledger.enter(&sample(4, 0, 0), now);
        assert_eq!(ledger.destination(&route(), now).sent_spans, 14);
    }

    #[test]
    fn the_age_of_the_last_success_grows_until_the_next() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        ledger.enter(&sample(0, 0, 9), start);
        assert_eq!(ledger.destination(&route(), start).seconds_since_sent, None);
        ledger.enter(&sample(1, 0, 9), at(10));
        ledger.enter(&sample(1, 0, 9), at(20));
        assert_eq!(ledger.destination(&route(), at(25)).seconds_since_sent, Some(15));
    }

    #[test]
    fn spans_that_only_the_log_tells_of_are_failed_ones() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.enter(&sample(0, 2, 0), now);
        ledger.give_up(EXPORTER, 3);
        assert_eq!(ledger.destination(&route(), now).failed_spans, 5);
    }

    #[test]
    fn another_endpoint_begins_anew() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.enter(&sample(10, 0, 0), now);
        let moved = Route { exporter: "otlp_grpc/tempo-89abcdef".into(), ..route() };
        let destination = ledger.destination(&moved, now);
        assert_eq!((destination.sent_spans, destination.seconds_since_sent), (0, None));
    }
}
