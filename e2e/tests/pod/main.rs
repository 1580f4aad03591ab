//! A pod without a cluster: engine, supervisor and collector as they are, and destinations in this process.
//! `make pod`, or `SOJOURN_OTELCOL=$(sandbox collector) cargo test --test pod`.

mod bounded;
mod change;
mod destinations;
mod draw;
mod ready;
mod sampling;
mod supervisor;
mod traffic;
