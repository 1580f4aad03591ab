//! The supervisor in front of the OpenTelemetry Collector: the first process of the sidecar's container.
//!
//! The kubelet renews the mounted configuration and the credentials; the supervisor makes one file of them, runs any
//! collector on it, and outlives it, so that a collector that breaks neither restarts nor unreadies the engine.
//!
//! ```text
//! mount ──> effective ──┐                        ┌──> process   start, SIGTERM, SIGKILL, reap
//! observe ─> metrics ───┼──> supervise (pure) ───┼──> probe     one span after each start
//! process ─> log ───────┘     events in, actions └──> exit
//!            metrics, log ──> ledger ──> state ──> serve         /telemetry, exposition: /metrics
//! ```
//!
//! `effective`, `exposition`, `metrics`, `log`, `ledger`, `supervise` and `state` are pure; `run` is the one loop that joins them to the
//! rest.

#![warn(missing_docs)]

pub mod effective;
pub mod exposition;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod state;
pub mod supervise;

pub mod exchange;
pub mod install;
pub mod memory;
pub mod mount;
pub mod observe;
pub mod probe;
pub mod process;
pub mod run;
pub mod serve;
