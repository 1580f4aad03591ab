//! How the supervisor of a sidecar is called, and what it says of itself at `/telemetry`: numbers and error texts only,
//! never a credential.

use serde::{Deserialize, Serialize};

/// Command that copies the supervisor: `sojourn-sidecar install DIR`.
pub const INSTALL: &str = "install";
/// Command that supervises a collector: `sojourn-sidecar run [flags] -- COMMAND...`, which gets `--config=FILE` appended.
pub const RUN: &str = "run";
/// Flag of [`RUN`]: time from SIGTERM to its end, `14s` for instance; the kubelet kills it with the grace period.
pub const SHUTDOWN_TIMEOUT: &str = "shutdown-timeout";

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
    /// SHA-256 of the mounted file that the running collector was started with, 16 hexadecimal digits; empty without one.
    pub revision: String,
    /// Why the newest mounted file is not in effect, if it is not.
    pub refused: Option<String>,
    /// The collector's last error line, how it ended unasked, why it was renewed, or why it could not be started; forgotten
    /// when the mounted files change.
    pub last_error: Option<String>,
    /// Resident memory of collector and supervisor, bytes.
    pub memory_bytes: u64,
}

/// One destination of the file in effect. The numbers are those of its exporter: with another endpoint they begin anew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Name in `spec.tracing.destinations`.
    pub name: String,
    /// Keys that the credentials Secret lacks; the destination is left out until they are there.
    pub missing_keys: Vec<String>,
    /// Spans that the next hop acknowledged since the supervisor's start.
    pub sent_spans: u64,
    /// Spans that were given up since the supervisor's start: sending failed for good, the queue was full, or the collector
    /// was stopped with them.
    pub failed_spans: u64,
    /// What waits, in the queue's unit (bytes).
    pub queue_size: u64,
    /// What may wait, in the queue's unit (bytes).
    pub queue_capacity: u64,
    /// Seconds since the next hop acknowledged something; absent before the first time.
    pub seconds_since_sent: Option<u64>,
    /// Last error of this exporter in the collector's log; forgotten when the mounted files change.
    pub last_error: Option<String>,
}
