//! The collector's configuration: receive on localhost, decide, sample, export with one queue for each destination.
//! `{secretKey: KEY}` stays as it is: the supervisor fills it in from the Secret, which the operator never reads.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sojourn_contract::{attribute, collector, path, port};

use super::sampling;
use crate::crd::tracing::{Header, Protocol};
use crate::reconcile::service::{Destination, Exporter, Tracing};

/// Of the memory limit, what all queues together may hold: a span takes several times its encoded size in memory.
const QUEUE_SHARE: u64 = 16;
/// What one queue holds at least: a few thousand journeys.
const LEAST_QUEUE_BYTES: u64 = 1 << 20;
/// Largest export, below the 4 MiB that gRPC servers accept by default.
const LARGEST_BATCH_BYTES: u64 = 2 << 20;

/// The file that the sidecar mounts, YAML.
pub(super) fn configuration(tracing: &Tracing) -> String {
    let exporters: Vec<(String, Value)> =
        tracing.destinations.iter().map(|destination| exporter(destination, tracing)).collect();
    let exporters = if exporters.is_empty() { vec![("nop".to_owned(), json!({}))] } else { exporters };
    let processors = processors(tracing);
    let configuration = json!({
        "receivers": {"otlp": {"protocols": {
            "grpc": {"endpoint": format!("127.0.0.1:{}", port::OTLP_GRPC)},
            "http": {"endpoint": format!("127.0.0.1:{}", port::OTLP_HTTP)},
        }}},
        "processors": processors.iter().cloned().collect::<Map<_, _>>(),
        "exporters": exporters.iter().cloned().collect::<Map<_, _>>(),
        "service": {
            "telemetry": telemetry(),
            "pipelines": {"traces": {
                "receivers": ["otlp"],
                "processors": names(&processors),
                "exporters": names(&exporters),
            }},
        },
    });
    serde_yaml::to_string(&configuration).expect("a configuration is plain data with text keys")
}

fn names(components: &[(String, Value)]) -> Vec<&str> {
    components.iter().map(|(name, _)| name.as_str()).collect()
}

/// In the order of the pipeline. Stateless: nothing waits in a processor, so nothing is lost when the collector restarts.
///
/// A single destination whose queue is full pushes back, and the engine's own queue bridges what it can. Of several none may
/// hold the others up, or make them get a journey twice: a batch processor, which passes everything on at once here, keeps
/// the refusal of one from the receiver, and the exporter counts what it had no room for.
fn processors(tracing: &Tracing) -> Vec<(String, Value)> {
    let span_statements = |statements: Vec<String>| json!({"error_mode": "ignore", "trace_statements": [{"context": "span", "statements": statements}]});
    let tidy = vec![format!(r#"delete_key(span.attributes, "{}")"#, attribute::SAMPLING_PRIORITY)];
    let mut processors = vec![
        ("memory_limiter", json!({"check_interval": "1s", "limit_percentage": 80, "spike_limit_percentage": 20})),
        ("transform/decide", span_statements(sampling::statements(&tracing.policy))),
        ("probabilistic_sampler", json!({"mode": "proportional", "sampling_percentage": tracing.policy.rate_percent})),
        ("transform/tidy", span_statements(tidy)),
    ];
    if !tracing.resource_attributes.is_empty() {
        let actions: Vec<Value> = tracing
            .resource_attributes
            .iter()
            .map(|(key, value)| json!({"key": key, "value": literal(value), "action": "upsert"}))
            .collect();
        processors.push(("resource", json!({"attributes": actions})));
    }
    if tracing.destinations.len() > 1 {
        processors.push(("batch", json!({"timeout": "0s"})));
    }
    processors.into_iter().map(|(name, configuration)| (name.to_owned(), configuration)).collect()
}

/// Name and configuration of a destination's exporter.
fn exporter(destination: &Destination, tracing: &Tracing) -> (String, Value) {
    match &destination.exporter {
        Exporter::Otlp { endpoint, protocol, headers, ca_secret_key } => {
            let type_ = match protocol {
                Protocol::Grpc => "otlp_grpc",
                Protocol::Http => "otlp_http",
            };
            let mut configuration = Map::new();
            configuration.insert(endpoint_field(endpoint, *protocol).into(), literal(endpoint).into());
            configuration.insert("tls".into(), tls(endpoint, ca_secret_key.as_deref()));
            if !headers.is_empty() {
                configuration.insert("headers".into(), headers.iter().map(header).collect::<Map<_, _>>().into());
            }
            configuration.insert("sending_queue".into(), sending_queue(tracing));
            // Without an end: what was kept waits for its destination as long as the queue has room.
            configuration.insert("retry_on_failure".into(), json!({"max_elapsed_time": "0s"}));
            (collector::exporter_id(type_, &destination.name, &digest(endpoint)), configuration.into())
        }
        Exporter::Other { type_, config } => {
            let text = Value::Object(config.clone()).to_string();
            (collector::exporter_id(type_, &destination.name, &digest(&text)), config.clone().into())
        }
    }
}

/// The HTTP exporter appends `/v1/traces` to `endpoint`; a URL that has it already goes into `traces_endpoint`.
fn endpoint_field(endpoint: &str, protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http if endpoint.trim_end_matches('/').ends_with("/v1/traces") => "traces_endpoint",
        _ => "endpoint",
    }
}

fn tls(endpoint: &str, ca_secret_key: Option<&str>) -> Value {
    match (endpoint.starts_with("https://"), ca_secret_key) {
        (false, _) => json!({"insecure": true}),
        (true, None) => json!({"insecure": false}),
        (true, Some(key)) => json!({"insecure": false, "ca_file": format!("{}/{key}", path::TELEMETRY_CREDENTIALS_DIR)}),
    }
}

fn header(header: &Header) -> (String, Value) {
    let value = match &header.secret_key {
        Some(key) => json!({collector::SECRET_KEY: key}),
        None => literal(header.value.as_deref().unwrap_or_default()).into(),
    };
    (header.name.clone(), value)
}

/// In memory: a persistent queue loses spans at a rollout, because the emptyDir dies with the pod.
fn sending_queue(tracing: &Tracing) -> Value {
    let destinations = tracing.destinations.len().max(1) as u64;
    let queue_size = (tracing.collector.memory_limit / QUEUE_SHARE / destinations).max(LEAST_QUEUE_BYTES);
    let batch = json!({
        "flush_timeout": "1s",
        "min_size": LARGEST_BATCH_BYTES.min(queue_size) / 4,
        "max_size": LARGEST_BATCH_BYTES.min(queue_size),
    });
    json!({"sizer": "bytes", "queue_size": queue_size, "batch": batch})
}

/// Metrics for the supervisor, and its log as JSON, from which it takes the last error of each exporter: whole, because what
/// the collector leaves out of many equal lines may be the one that names the exporter.
fn telemetry() -> Value {
    let prometheus = json!({
        "host": "127.0.0.1",
        "port": port::COLLECTOR_METRICS,
        "without_scope_info": true,
        "without_type_suffix": true,
        "without_units": true,
    });
    json!({
        "metrics": {"level": "normal", "readers": [{"pull": {"exporter": {"prometheus": prometheus}}}]},
        "logs": {
            "encoding": "json",
            "sampling": {"enabled": false},
            "output_paths": ["stderr"],
            "error_output_paths": ["stderr"],
        },
    })
}

/// The collector expands `$`; a text of the user's is meant as it stands.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn digest(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

#[cfg(test)]
mod tests;
