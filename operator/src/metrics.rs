//! What the operator counts of itself: reconciles by outcome, and how long they take. Labels come from closed sets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What the operator counts of itself.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Outcome, Counter>,
    seconds: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Upper bounds in seconds: a reconcile from memory, one with writes, one that waits for a busy API server.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sojourn_operator");
        let reconciles = Family::<Outcome, Counter>::default();
        let seconds = Histogram::new(BUCKETS);
        registry.register("reconciles", "Reconciles by outcome", reconciles.clone());
        registry.register("reconcile_duration_seconds", "Duration of reconciles", seconds.clone());
        Self { registry, reconciles, seconds }
    }
}

impl Metrics {
    /// Counts one reconcile; `outcome` is a word of a closed set.
    pub fn reconciled(&self, outcome: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&Outcome { outcome }).inc();
        self.seconds.observe(seconds);
    }

    /// All of it in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconcile_is_counted_by_its_outcome() {
        let metrics = Metrics::default();
        metrics.reconciled("ok", 0.003);
        let text = metrics.text();
        assert!(text.contains(r#"sojourn_operator_reconciles_total{outcome="ok"} 1"#), "{text}");
        assert!(text.contains("sojourn_operator_reconcile_duration_seconds_count 1"), "{text}");
    }
}
