//! TCP ports of a pod.

/// The OpenAI API, probes and `/metrics`.
pub const HTTP: u16 = 8000;
/// The engine's admin pages, on 127.0.0.1 alone.
pub const ADMIN: u16 = 8001;
/// The sidecar's state.
pub const SIDECAR: u16 = 8002;
/// The collector's OTLP over gRPC, on 127.0.0.1 alone.
pub const OTLP_GRPC: u16 = 4317;
/// The collector's OTLP over HTTP, on 127.0.0.1 alone.
pub const OTLP_HTTP: u16 = 4318;
/// The collector's own metrics, on 127.0.0.1 alone.
pub const COLLECTOR_METRICS: u16 = 8888;
