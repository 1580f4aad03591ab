//! What a sidecar says of itself at `/telemetry`: numbers and error texts only, never a credential.

use serde::{Deserialize, Serialize};

/// Body of `/telemetry`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// The collector that the supervisor runs.
    pub collector: Collector,
    /// The destinations of the file in effect, in its order.
    pub destinations: Vec<Destination>,
}

/// The supervised collector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Collector {
    /// It runs and accepts spans.
    pub running: bool,
    /// Starts since the supervisor's own.
    pub starts: u64,
    /// Unasked ends since the supervisor's own start.
    pub crashes: u64,
    /// SHA-256 of the mounted file whose content is in effect, 16 hexadecimal digits.
    pub revision: String,
    /// Why the newest mounted file is not in effect, if it is not.
    pub refused: Option<String>,
    /// The collector's last error line.
    pub last_error: Option<String>,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
}

/// One destination of the file in effect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Name in `spec.tracing.destinations`.
    pub name: String,
    /// Keys that the credentials Secret lacks; the destination is left out until they are there.
    pub missing_keys: Vec<String>,
    /// Spans that the next hop acknowledged since the supervisor's start.
    pub sent_spans: u64,
    /// Spans that were given up since the supervisor's start.
    pub failed_spans: u64,
    /// What waits, in the queue's unit (bytes).
    pub queue_size: u64,
    /// What may wait, in the queue's unit (bytes).
    pub queue_capacity: u64,
    /// Seconds since the next hop acknowledged something; absent before the first time.
    pub seconds_since_sent: Option<u64>,
    /// Last error of this exporter in the collector's log.
    pub last_error: Option<String>,
}
