//! The one clock of the engine: a monotonic reading and the wall time that belongs to it, so that every event of a journey
//! lies on one axis whatever NTP does meanwhile.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sojourn_journey::record::Stamp;

/// Reads both clocks from one anchor.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Instant,
    anchor_unix_nanos: u64,
}

impl Clock {
    /// Anchors the clock at this moment.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { anchor: Instant::now(), anchor_unix_nanos: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// The present moment.
    pub fn now(&self) -> Stamp {
        self.at(Instant::now())
    }

    /// The stamp of an instant that was read elsewhere; instants before the anchor count as the anchor.
    pub fn at(&self, instant: Instant) -> Stamp {
        let elapsed = instant.saturating_duration_since(self.anchor);
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        Stamp { unix_nanos: self.anchor_unix_nanos.saturating_add(nanos), monotonic: elapsed.as_secs_f64() }
    }
}
