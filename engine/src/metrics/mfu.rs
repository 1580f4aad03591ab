//! Model FLOPs utilisation: the arithmetic that the model needed for its tokens, against what the device can do. What it
//! really did may be more (padding, tokens of a step that failed) or of another kind (integers of quantised weights).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use sojourn_contract::journey::Phase;
use sojourn_contract::metric::{self, label};

use super::steps::StepLoad;
use super::{Metrics, write};
use crate::backend::architecture::Architecture;
use crate::clock::Clock;

/// Seconds that utilisation is averaged over.
const WINDOW: u64 = 10;

/// What the device can do at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Floating-point operations a second.
    pub flops: f64,
    /// Where the number comes from.
    pub source: PeakSource,
}

/// Where a peak comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeakSource {
    /// `--peak-flops`
    Stated,
    /// A product of matrices that was timed at start.
    Measured,
}

impl PeakSource {
    /// The word of its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stated => "stated",
            Self::Measured => "measured",
        }
    }
}

/// Counts model FLOPs; a clone counts into the same.
#[derive(Clone)]
pub struct Mfu(Arc<Inner>);

struct Inner {
    architecture: Architecture,
    /// Without one there is no utilisation.
    peak: Option<Peak>,
    clock: Clock,
    prefill: Counter,
    decode: Counter,
    window: Mutex<Window>,
}

impl Mfu {
    /// Begins to count, and adds the counts to the page.
    pub fn start(metrics: &Metrics, architecture: Architecture, peak: Option<Peak>, clock: Clock) -> Self {
        let (prefill, decode) = (Counter::default(), Counter::default());
        let mfu = Self(Arc::new(Inner { architecture, peak, clock, prefill, decode, window: Mutex::default() }));
        metrics.register(|registry| registry.register_collector(Box::new(mfu.clone())));
        mfu
    }

    /// Counts a step that ended at `now`.
    pub(super) fn stepped(&self, load: &StepLoad, now: f64) {
        let inner = &self.0;
        let (prefill, decode) = (inner.architecture.flops(load.prefill), inner.architecture.flops(load.decode));
        inner.prefill.inc_by(prefill);
        inner.decode.inc_by(decode);
        inner.window.lock().unwrap_or_else(PoisonError::into_inner).add(now, prefill + decode);
    }
}

impl fmt::Debug for Mfu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mfu")
    }
}

impl Collector for Mfu {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let inner = &self.0;
        let counts = [(Phase::Prefill, inner.prefill.clone()), (Phase::Decode, inner.decode.clone())];
        let counts = counts.map(|(phase, count)| ([(label::PHASE, phase.as_str())], count));
        write(&mut encoder, &metric::MODEL_FLOPS, counts)?;
        let Some(peak) = inner.peak else { return Ok(()) };
        let labels = [(label::SOURCE, peak.source.as_str())];
        write(&mut encoder, &metric::PEAK_FLOPS, [(labels, ConstGauge::new(peak.flops))])?;
        let rate = inner.window.lock().unwrap_or_else(PoisonError::into_inner).rate(inner.clock.now().monotonic);
        let no_labels: [(&str, &str); 0] = [];
        write(&mut encoder, &metric::MODEL_FLOPS_UTILIZATION, [(no_labels, ConstGauge::new(rate / peak.flops))])
    }
}

/// What was done in each of the last seconds.
#[derive(Debug, Default)]
struct Window(VecDeque<(u64, u64)>);

impl Window {
    fn add(&mut self, now: f64, flops: u64) {
        let second = now as u64;
        match self.0.back_mut() {
            Some((last, sum)) if *last == second => *sum += flops,
            _ => self.0.push_back((second, flops)),
        }
        while self.0.front().is_some_and(|(first, _)| first + WINDOW < second) {
            self.0.pop_front();
        }
    }

    /// FLOPs a second over the last whole seconds; the one that goes on does not count yet.
    fn rate(&self, now: f64) -> f64 {
        let second = now as u64;
        let in_window = self.0.iter().filter(|(at, _)| *at < second && at + WINDOW >= second);
        in_window.map(|(_, flops)| *flops as f64).sum::<f64>() / WINDOW as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_last_whole_seconds() {
        let mut window = Window::default();
        window.add(0.5, 100);
        window.add(0.9, 100);
        assert_eq!(window.rate(0.9), 0.0);
        assert_eq!(window.rate(1.0), 20.0);
        window.add(1.2, 300);
        assert_eq!(window.rate(2.0), 50.0);
        assert_eq!(window.rate(10.9), 50.0);
        // The first second has left the window, then the other.
        assert_eq!(window.rate(11.0), 30.0);
        assert_eq!(window.rate(12.0), 0.0);
    }

    #[test]
    fn the_window_forgets() {
        let mut window = Window::default();
        (0..1000).for_each(|second| window.add(f64::from(second), 1));
        assert_eq!(window.0.len(), 11);
        assert_eq!(window.rate(1000.0), 1.0);
    }
}
