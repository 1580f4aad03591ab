//! The OTLP receiver that `OTEL_EXPORTER_OTLP_*` and their `TRACES` forms, which win, describe. Pure.

mod endpoint;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::TelemetryError;
use super::environment::{Environment, percent_decode};

/// Longest wait for an answer, by the specification's default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// An OTLP receiver, and how to talk to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Receiver {
    /// URL with scheme `http` or `https`; over HTTP with its path.
    pub endpoint: Uri,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Sent along; their values are secrets.
    pub headers: HeaderMap,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Whether requests are compressed with gzip.
    pub gzip: bool,
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
    /// Authorities to trust instead of the system's.
    pub certificate: Option<String>,
    /// Our own certificate and its key.
    pub client: Option<(String, String)>,
}

impl Receiver {
    /// A receiver without anything special.
    pub fn new(endpoint: Uri, protocol: Protocol) -> Self {
        let (headers, tls) = (HeaderMap::new(), TlsFiles::default());
        Self { endpoint, protocol, headers, timeout: DEFAULT_TIMEOUT, gzip: false, tls }
    }

    /// Reads `--otlp-traces-endpoint` and the variables.
    ///
    /// # Errors
    /// Protocol or endpoint are not known or not complete, so that journeys would go elsewhere or nowhere.
    pub fn read(flag: Option<&str>, env: &Environment<'_>) -> Result<Self, TelemetryError> {
        let protocol = protocol(env)?;
        let receiver = Self::new(endpoint::endpoint(flag, env, protocol)?, protocol);
        let timeout = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let compression = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
        // In any case of letters, as the exporter reads it too.
        let gzip = |value: &str| match value.to_ascii_lowercase().as_str() {
            "gzip" => Some(true),
            "none" => Some(false),
            _ => None,
        };
        Ok(Self {
            headers: headers(env),
            timeout: env.milliseconds(&timeout).filter(|timeout| !timeout.is_zero()).unwrap_or(DEFAULT_TIMEOUT),
            gzip: env.parsed(&compression, "'gzip' or 'none'", gzip).unwrap_or(false),
            tls: TlsFiles::read(env),
            ..receiver
        })
    }

    /// Who it is, for people: without a password that somebody may have put into the URL.
    pub fn name(&self) -> String {
        let authority = self.endpoint.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{}://{host}{}", self.endpoint.scheme_str().unwrap_or_default(), self.endpoint.path())
    }
}

impl TlsFiles {
    fn read(env: &Environment<'_>) -> Self {
        let file = |names: [&'static str; 2]| env.first(&names).map(|(_, file)| file);
        let certificate_names = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
        let key = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];
        let client = match (file(certificate_names), file(key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (certificate, _) => {
                let missing = if certificate.is_some() { key[1] } else { certificate_names[1] };
                env.warn(format!("a client certificate needs {missing} too: none is used"));
                None
            }
        };
        let authority = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
        Self { certificate: file(authority), client }
    }
}

fn protocol(env: &Environment<'_>) -> Result<Protocol, TelemetryError> {
    match env.first(&["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
        None => Ok(Protocol::Grpc),
        Some((_, value)) if value == "grpc" => Ok(Protocol::Grpc),
        Some((_, value)) if value == "http/protobuf" => Ok(Protocol::Http),
        Some((name, value)) => Err(TelemetryError::variable(name, &value, "write 'grpc' or 'http/protobuf'")),
    }
}

/// Pairs `key=value`, comma-separated and percent-encoded. A wrong one is left out and warned of without its value, which is
/// a secret.
fn headers(env: &Environment<'_>) -> HeaderMap {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
    let Some((variable, text)) = env.first(&names) else { return HeaderMap::new() };
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = percent_decode(name.trim()).parse::<HeaderName>().ok()?;
        let mut value = percent_decode(value.trim()).parse::<HeaderValue>().ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    let mut headers = HeaderMap::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        match header(pair) {
            Some((name, value)) => drop(headers.append(name, value)),
            None => {
                let name = pair.split('=').next().unwrap_or_default().trim();
                env.warn(format!("{variable}: the header '{name}' is left out: write name=value, percent-encoded"));
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");

    fn with_warnings(pairs: &[(&str, &str)]) -> (Result<Receiver, TelemetryError>, Vec<String>) {
        let lookup = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let environment = Environment::new(&lookup);
        (Receiver::read(None, &environment), environment.into_warnings())
    }

    fn read(pairs: &[(&str, &str)]) -> Receiver {
        let (receiver, warnings) = with_warnings(pairs);
        assert_eq!(warnings, Vec::<String>::new());
        receiver.unwrap()
    }

    fn error(pairs: &[(&str, &str)]) -> String {
        with_warnings(pairs).0.unwrap_err().to_string()
    }

    #[test]
    fn the_protocol_of_traces_wins_over_that_of_all_signals() {
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        assert_eq!(read(&[HTTP, traces]).protocol, Protocol::Grpc);
        assert_eq!(read(&[HTTP]).protocol, Protocol::Http);
        let expected = "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json': write 'grpc' or 'http/protobuf'";
        assert_eq!(error(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]), expected);
    }

    #[test]
    fn headers_are_percent_decoded_and_those_of_traces_win() {
        let all = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a%3Db, X-Tenant = t ,");
        let headers = read(&[all]).headers;
        assert!(headers["authorization"] == "Bearer a=b" && headers["x-tenant"] == "t", "{headers:?}");
        assert!(headers["authorization"].is_sensitive());
        let headers = read(&[all, ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-tenant=u")]).headers;
        assert!(headers.len() == 1 && headers["x-tenant"] == "u", "{headers:?}");
    }

    #[test]
    fn a_wrong_header_is_left_out_and_its_value_stays_secret() {
        let wrong = ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b c=secret,api-key=sec%0Aret");
        let (receiver, warnings) = with_warnings(&[wrong]);
        assert_eq!(receiver.unwrap().headers.len(), 1);
        assert_eq!(warnings.len(), 2);
        assert!(warnings.iter().all(|warning| !warning.contains("ret:") && !warning.contains("secret")), "{warnings:?}");
    }

    #[test]
    fn timeout_and_compression_are_read_and_those_of_traces_win() {
        let plain = read(&[]);
        assert_eq!((plain.timeout, plain.gzip), (Duration::from_secs(10), false));
        let all = [("OTEL_EXPORTER_OTLP_TIMEOUT", "300"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
        let traces = [("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "200"), ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none")];
        let general = read(&all);
        assert_eq!((general.timeout.as_millis(), general.gzip), (300, true));
        let own = read(&[all, traces].concat());
        assert_eq!((own.timeout.as_millis(), own.gzip), (200, false));
        assert!(read(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP")]).gzip);
        let (receiver, warnings) = with_warnings(&[("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"), all[1]]);
        assert!(receiver.unwrap().gzip);
        let expected = "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION is 'zstd', which counts as unset: write 'gzip' or 'none'";
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn certificates_are_files_and_a_client_needs_both_of_its_own() {
        let all = [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/me.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/me.key"),
        ];
        let files = read(&all).tls;
        assert_eq!(files.certificate.as_deref(), Some("/ca.pem"));
        assert_eq!(files.client, Some(("/me.pem".into(), "/me.key".into())));
        let own = [
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces-ca.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/traces.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/traces.key"),
        ];
        let files = read(&[all, own].concat()).tls;
        assert_eq!(files.certificate.as_deref(), Some("/traces-ca.pem"));
        assert_eq!(files.client, Some(("/traces.pem".into(), "/traces.key".into())));
        let (receiver, warnings) = with_warnings(&all[1..2]);
        assert_eq!(receiver.unwrap().tls.client, None);
        assert!(warnings[0].contains("OTEL_EXPORTER_OTLP_CLIENT_KEY"), "{warnings:?}");
    }

    #[test]
    fn a_name_for_people_holds_no_password() {
        let receiver = Receiver::new(Uri::from_static("https://me:secret@collector:4318/v1/traces"), Protocol::Http);
        assert_eq!(receiver.name(), "https://collector:4318/v1/traces");
    }
}
