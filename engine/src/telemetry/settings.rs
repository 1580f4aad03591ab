//! Where traces go and how: the flag, and the `OTEL_*` variables of the specification. Pure: the environment is an argument.
//!
//! Headers, timeout and compression (`OTEL_EXPORTER_OTLP[_TRACES]_{HEADERS,TIMEOUT,COMPRESSION,INSECURE}`) are read by the
//! exporter itself; what it does not read is here.

use std::time::Duration;

use sojourn_contract::port;

use super::TelemetryError;
use super::sampler::Sampler;

/// Variables of the specification that are read here.
mod variable {
    pub const SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
    pub const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";
    pub const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    pub const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    pub const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    pub const COMPRESSION: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
    pub const CERTIFICATE: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
    pub const CLIENT_CERTIFICATE: [&str; 2] =
        ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
    pub const CLIENT_KEY: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];
    pub const SCHEDULE_DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
    pub const MAX_QUEUE_SIZE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
    pub const MAX_EXPORT_BATCH_SIZE: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
}

/// How journeys leave the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where they go; `None` where the specification's variables say that nothing is exported.
    pub destination: Option<Destination>,
    /// Which journeys are exported at all.
    pub sampler: Sampler,
    /// Longest time that a journey waits for others to travel with.
    pub schedule_delay: Duration,
    /// Journeys that may wait (`OTEL_BSP_MAX_QUEUE_SIZE` counts journeys here, not spans).
    pub queue: usize,
    /// Journeys in one request (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE` counts journeys here, not spans).
    pub batch: usize,
}

/// An OTLP receiver.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// URL; for HTTP with its path.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// PEM files for TLS.
    pub tls: TlsFiles,
}

/// OTLP's transports that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`, the default.
    Grpc,
    /// `http/protobuf`.
    Http,
}

/// PEM files named by the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities to trust besides the system's.
    pub certificate: Option<String>,
    /// Our own certificate and key.
    pub client: Option<(String, String)>,
}

impl Settings {
    /// Reads `--otlp-traces-endpoint` and the environment.
    pub fn read(flag: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<Self, TelemetryError> {
        let env = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let disabled = env(variable::SDK_DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let exporter = env(variable::TRACES_EXPORTER).unwrap_or_else(|| "otlp".to_owned());
        let destination = match exporter.as_str() {
            _ if disabled => None,
            "none" => None,
            "otlp" => Some(Destination::read(flag, &env)?),
            other => return Err(wrong(variable::TRACES_EXPORTER, other, "write 'otlp' or 'none'")),
        };
        Ok(Self {
            destination,
            sampler: Sampler::read(env)?,
            schedule_delay: Duration::from_millis(number(&env, variable::SCHEDULE_DELAY)?.unwrap_or(1_000)),
            queue: size(number(&env, variable::MAX_QUEUE_SIZE)?.unwrap_or(4_096)),
            batch: size(number(&env, variable::MAX_EXPORT_BATCH_SIZE)?.unwrap_or(256)),
        })
    }
}

impl Destination {
    fn read(flag: Option<&str>, env: &impl Fn(&str) -> Option<String>) -> Result<Self, TelemetryError> {
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| env(name).map(|value| (name, value)));
        let protocol = match first(variable::PROTOCOL) {
            None => Protocol::Grpc,
            Some((_, value)) if value == "grpc" => Protocol::Grpc,
            Some((_, value)) if value == "http/protobuf" => Protocol::Http,
            Some((name, value)) => return Err(wrong(name, &value, "write 'grpc' or 'http/protobuf'")),
        };
        if let Some((name, value)) = first(variable::COMPRESSION).filter(|(_, value)| value != "none") {
            return Err(wrong(name, &value, "compression is the collector's part; unset it"));
        }
        let tls = TlsFiles {
            certificate: first(variable::CERTIFICATE).map(|(_, file)| file),
            client: first(variable::CLIENT_CERTIFICATE).zip(first(variable::CLIENT_KEY)).map(|((_, c), (_, k))| (c, k)),
        };
        if protocol == Protocol::Http && tls != TlsFiles::default() {
            let name = "OTEL_EXPORTER_OTLP_PROTOCOL";
            return Err(wrong(name, "http/protobuf", "certificates of your own need 'grpc'"));
        }
        Ok(Self { endpoint: endpoint(flag, env, protocol), protocol, tls })
    }
}

/// The flag, the variable for traces (both as they are, by the specification), the variable for all signals, the default.
fn endpoint(flag: Option<&str>, env: &impl Fn(&str) -> Option<String>, protocol: Protocol) -> String {
    let flag = flag.map(|flag| if protocol == Protocol::Http { with_default_path(flag) } else { flag.to_owned() });
    let general = || {
        let (port, path) = match protocol {
            Protocol::Grpc => (port::OTLP_GRPC, ""),
            Protocol::Http => (port::OTLP_HTTP, TRACES_PATH),
        };
        let base = env(variable::ENDPOINT).unwrap_or_else(|| format!("http://localhost:{port}"));
        if path.is_empty() { base } else { format!("{}{path}", base.trim_end_matches('/')) }
    };
    flag.or_else(|| env(variable::TRACES_ENDPOINT)).unwrap_or_else(general)
}

/// Path of OTLP over HTTP.
const TRACES_PATH: &str = "/v1/traces";

/// `http://host:4318` in the flag means OTLP's usual path there.
fn with_default_path(url: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    match authority.split_once('/') {
        Some((_, path)) if !path.is_empty() => url.to_owned(),
        _ => format!("{}{TRACES_PATH}", url.trim_end_matches('/')),
    }
}

fn number(env: &impl Fn(&str) -> Option<String>, name: &'static str) -> Result<Option<u64>, TelemetryError> {
    let parsed = env(name).map(|value| value.parse().map_err(|_| wrong(name, &value, "write a whole number")));
    parsed.transpose()
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX).clamp(1, 1 << 20)
}

fn wrong(name: &str, value: &str, advice: &'static str) -> TelemetryError {
    TelemetryError::Variable { name: name.to_owned(), value: value.to_owned(), advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flag: Option<&str>, pairs: &[(&str, &str)]) -> Result<Settings, TelemetryError> {
        Settings::read(flag, |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    fn destination(flag: Option<&str>, pairs: &[(&str, &str)]) -> (String, Protocol) {
        let destination = read(flag, pairs).unwrap().destination.unwrap();
        (destination.endpoint, destination.protocol)
    }

    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317/base");
    const HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");

    #[test]
    fn the_flag_wins_over_the_variables_and_those_over_the_default() {
        let grpc = |endpoint: &str| (endpoint.to_owned(), Protocol::Grpc);
        assert_eq!(destination(Some("http://flag:4317"), &[TRACES, ALL]), grpc("http://flag:4317"));
        assert_eq!(destination(None, &[TRACES, ALL]), grpc("http://traces:4317/base"));
        assert_eq!(destination(None, &[ALL]), grpc("http://all:4317"));
        assert_eq!(destination(None, &[]), grpc("http://localhost:4317"));
    }

    #[test]
    fn http_has_its_own_port_and_path() {
        let http = |endpoint: &str| (endpoint.to_owned(), Protocol::Http);
        assert_eq!(destination(None, &[HTTP]), http("http://localhost:4318/v1/traces"));
        assert_eq!(
            destination(None, &[HTTP, ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1/b/")]),
            http("http://a:1/b/v1/traces")
        );
        assert_eq!(destination(None, &[HTTP, TRACES]), http("http://traces:4317/base"));
        assert_eq!(destination(Some("http://flag:4318"), &[HTTP]), http("http://flag:4318/v1/traces"));
        assert_eq!(destination(Some("http://flag:4318/"), &[HTTP]), http("http://flag:4318/v1/traces"));
        assert_eq!(destination(Some("http://flag/x"), &[HTTP]), http("http://flag/x"));
    }

    #[test]
    fn the_protocol_of_traces_wins_over_that_of_all_signals() {
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        assert_eq!(destination(None, &[HTTP, traces]).1, Protocol::Grpc);
    }

    #[test]
    fn an_export_that_is_switched_off_has_no_destination() {
        assert_eq!(read(None, &[("OTEL_SDK_DISABLED", "TRUE")]).unwrap().destination, None);
        assert_eq!(read(Some("http://flag"), &[("OTEL_TRACES_EXPORTER", "none")]).unwrap().destination, None);
    }

    #[test]
    fn a_wrong_variable_is_named_with_what_to_write() {
        let error = read(None, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).unwrap_err().to_string();
        assert_eq!(error, "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json': write 'grpc' or 'http/protobuf'");
        let error = read(None, &[("OTEL_BSP_SCHEDULE_DELAY", "1s")]).unwrap_err().to_string();
        assert_eq!(error, "OTEL_BSP_SCHEDULE_DELAY is '1s': write a whole number");
    }

    #[test]
    fn empty_variables_count_as_unset() {
        assert_eq!(destination(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", ""), ("OTEL_TRACES_EXPORTER", " ")]).1, Protocol::Grpc);
    }
}
