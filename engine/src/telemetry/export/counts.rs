//! What has become of journeys and of their spans: every one that was taken is counted here once, as exported or as dropped.

use std::ops::AddAssign;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// So many journeys of so many spans. The trace of a start has spans and is no journey.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Journeys.
    pub journeys: u64,
    /// Spans.
    pub spans: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.journeys += other.journeys;
        self.spans += other.spans;
    }
}

/// Why something was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The queue had no room: requests end faster than the receiver takes their journeys.
    QueueFull,
    /// The receiver was not there, or put us off, for too long.
    Undeliverable,
    /// The receiver will never take it.
    Refused,
    /// The receiver took the request, but not these spans of it.
    PartialSuccess,
    /// One journey alone is larger than a request may be.
    TooLarge,
    /// The engine ended first.
    Shutdown,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::QueueFull, Self::Undeliverable, Self::Refused, Self::PartialSuccess, Self::TooLarge, Self::Shutdown];

    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Undeliverable => "undeliverable",
            Self::Refused => "refused",
            Self::PartialSuccess => "partial_success",
            Self::TooLarge => "too_large",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The label of what was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DropLabels {
    reason: &'static str,
}

/// Counters for `/metrics`; cheap to clone.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Journeys that the receiver took.
    pub exported_journeys: Counter,
    /// Spans that the receiver took.
    pub exported_spans: Counter,
    /// Journeys that it did not get, or perhaps not whole.
    pub dropped_journeys: Family<DropLabels, Counter>,
    /// Spans that it did not get.
    pub dropped_spans: Family<DropLabels, Counter>,
    /// Journeys that wait in the queue; the queue says it.
    pub queued: Gauge,
}

impl Default for Counts {
    /// Nothing yet; every reason is there with a zero, so that a rate can be taken from its first one on.
    fn default() -> Self {
        let (dropped_journeys, dropped_spans) = (Family::default(), Family::default());
        for reason in DropReason::ALL {
            let labels = DropLabels { reason: reason.as_str() };
            drop(dropped_journeys.get_or_create(&labels));
            drop(dropped_spans.get_or_create(&labels));
        }
        Self {
            exported_journeys: Counter::default(),
            exported_spans: Counter::default(),
            dropped_journeys,
            dropped_spans,
            queued: Gauge::default(),
        }
    }
}

impl Counts {
    pub(super) fn exported(&self, tally: Tally) {
        self.exported_journeys.inc_by(tally.journeys);
        self.exported_spans.inc_by(tally.spans);
    }

    pub(super) fn dropped(&self, reason: DropReason, tally: Tally) {
        let labels = DropLabels { reason: reason.as_str() };
        self.dropped_journeys.get_or_create(&labels).inc_by(tally.journeys);
        self.dropped_spans.get_or_create(&labels).inc_by(tally.spans);
    }

    /// What was dropped for one reason.
    pub fn dropped_for(&self, reason: DropReason) -> Tally {
        let labels = DropLabels { reason: reason.as_str() };
        let count = |family: &Family<DropLabels, Counter>| family.get_or_create(&labels).get();
        Tally { journeys: count(&self.dropped_journeys), spans: count(&self.dropped_spans) }
    }

    /// What was dropped for any reason.
    pub fn dropped_in_all(&self) -> Tally {
        let mut all = Tally::default();
        DropReason::ALL.into_iter().for_each(|reason| all += self.dropped_for(reason));
        all
    }

    /// Journeys that were dropped so far, for people: `queue_full 3, refused 2`, or `none`.
    pub fn dropped_by_reason(&self) -> String {
        let count = |reason: DropReason| (reason.as_str(), self.dropped_for(reason).journeys);
        let some = DropReason::ALL.map(count).into_iter().filter(|(_, journeys)| *journeys > 0);
        let parts: Vec<String> = some.map(|(reason, journeys)| format!("{reason} {journeys}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }

    /// What the receiver took.
    pub fn exported_in_all(&self) -> Tally {
        Tally { journeys: self.exported_journeys.get(), spans: self.exported_spans.get() }
    }
}
