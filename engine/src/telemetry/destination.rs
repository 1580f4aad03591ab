//! The OTLP receiver that `OTEL_EXPORTER_OTLP_*` and their `TRACES` forms, which win, describe. Pure.

use std::time::Duration;

use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use sojourn_contract::{flag, port};

use super::TelemetryError;
use super::environment::{Environment, percent_decode};

/// Longest wait for an answer, by the specification's default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Path of OTLP over HTTP.
const TRACES_PATH: &str = "/v1/traces";

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

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
        let receiver = Self::new(endpoint(flag, env, protocol)?, protocol);
        let timeout = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let compression = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
        let gzip = |value: &str| match value {
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

/// The flag, the variable for traces (both as they are, by the specification), the variable for all signals, the default.
fn endpoint(flag: Option<&str>, env: &Environment<'_>, protocol: Protocol) -> Result<Uri, TelemetryError> {
    let (port, path) = match protocol {
        Protocol::Grpc => (port::OTLP_GRPC, ""),
        Protocol::Http => (port::OTLP_HTTP, TRACES_PATH),
    };
    if let Some(text) = flag {
        // `http://host:4318` in the flag means OTLP's usual path there.
        return url(text, protocol, env, |own| if own.len() > 1 { own.to_owned() } else { path.to_owned() })
            .map_err(|advice| TelemetryError::variable(&format!("--{}", flag::OTLP_TRACES_ENDPOINT), text, advice));
    }
    if let Some(text) = env.get(TRACES_ENDPOINT) {
        return url(&text, protocol, env, str::to_owned)
            .map_err(|advice| TelemetryError::variable(TRACES_ENDPOINT, &text, advice));
    }
    let base = env.get(ENDPOINT).unwrap_or_else(|| format!("http://localhost:{port}"));
    url(&base, protocol, env, |own| format!("{}{path}", own.trim_end_matches('/')))
        .map_err(|advice| TelemetryError::variable(ENDPOINT, &base, advice))
}

/// A complete URL from what somebody wrote, with its path changed by `path`, or what to write instead.
fn url(text: &str, protocol: Protocol, env: &Environment<'_>, path: impl FnOnce(&str) -> String) -> Result<Uri, &'static str> {
    const ADVICE: &str = "write a URL such as http://collector:4317 or https://collector:4318";
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => (Scheme::HTTP, rest),
        Some(("https", rest)) => (Scheme::HTTPS, rest),
        // `grpc://` is what vLLM's documentation writes; it says nothing of TLS.
        Some(("grpc", rest)) if protocol == Protocol::Grpc => (without_scheme(env), rest),
        None if protocol == Protocol::Grpc => (without_scheme(env), text),
        _ => return Err(ADVICE),
    };
    let (authority, own_path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let authority: Authority = authority.parse().map_err(|_| ADVICE)?;
    let whole_path = path(own_path);
    let whole_path = if whole_path.is_empty() { "/".to_owned() } else { whole_path };
    let mut parts = Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority).filter(|authority| !authority.host().is_empty());
    parts.path_and_query = Some(PathAndQuery::try_from(whole_path).map_err(|_| ADVICE)?);
    Uri::from_parts(parts).map_err(|_| ADVICE)
}

/// What an endpoint without a scheme means, by `OTEL_EXPORTER_OTLP_INSECURE`.
fn without_scheme(env: &Environment<'_>) -> Scheme {
    let insecure = env.truth(&["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"]);
    if insecure.unwrap_or(false) { Scheme::HTTP } else { Scheme::HTTPS }
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

    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317/base");
    const HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");

    fn with_warnings(flag: Option<&str>, pairs: &[(&str, &str)]) -> (Result<Receiver, TelemetryError>, Vec<String>) {
        let lookup = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let environment = Environment::new(&lookup);
        (Receiver::read(flag, &environment), environment.into_warnings())
    }

    fn read(flag: Option<&str>, pairs: &[(&str, &str)]) -> Receiver {
        let (receiver, warnings) = with_warnings(flag, pairs);
        assert_eq!(warnings, Vec::<String>::new());
        receiver.unwrap()
    }

    fn endpoint(flag: Option<&str>, pairs: &[(&str, &str)]) -> String {
        read(flag, pairs).endpoint.to_string()
    }

    fn error(flag: Option<&str>, pairs: &[(&str, &str)]) -> String {
        with_warnings(flag, pairs).0.unwrap_err().to_string()
    }

    #[test]
    fn the_flag_wins_over_the_variables_and_those_over_the_default() {
        assert_eq!(endpoint(Some("http://flag:4317"), &[TRACES, ALL]), "http://flag:4317/");
        assert_eq!(endpoint(None, &[TRACES, ALL]), "http://traces:4317/base");
        assert_eq!(endpoint(None, &[ALL]), "http://all:4317/");
        assert_eq!(endpoint(None, &[]), "http://localhost:4317/");
        assert_eq!(endpoint(None, &[(TRACES.0, " "), ALL]), "http://all:4317/");
    }

    #[test]
    fn http_has_its_own_port_and_path() {
        assert_eq!(endpoint(None, &[HTTP]), "http://localhost:4318/v1/traces");
        assert_eq!(endpoint(None, &[HTTP, ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1/b/")]), "http://a:1/b/v1/traces");
        assert_eq!(endpoint(None, &[HTTP, TRACES]), "http://traces:4317/base");
        assert_eq!(endpoint(None, &[HTTP, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a:1")]), "http://a:1/");
        assert_eq!(endpoint(Some("http://flag:4318"), &[HTTP]), "http://flag:4318/v1/traces");
        assert_eq!(endpoint(Some("http://flag:4318/"), &[HTTP]), "http://flag:4318/v1/traces");
        assert_eq!(endpoint(Some("http://flag/x?y=z"), &[HTTP]), "http://flag/x?y=z");
    }

    #[test]
    fn the_protocol_of_traces_wins_over_that_of_all_signals() {
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        assert_eq!(read(None, &[HTTP, traces]).protocol, Protocol::Grpc);
        assert_eq!(read(None, &[HTTP]).protocol, Protocol::Http);
        let expected = "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json': write 'grpc' or 'http/protobuf'";
        assert_eq!(error(None, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]), expected);
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_encrypted_unless_it_is_said_to_be_insecure() {
        let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
        let traces_secure = ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "false");
        for written in ["collector:4317", "grpc://collector:4317"] {
            assert_eq!(endpoint(Some(written), &[]), "https://collector:4317/");
            assert_eq!(endpoint(Some(written), &[insecure]), "http://collector:4317/");
            assert_eq!(endpoint(Some(written), &[insecure, traces_secure]), "https://collector:4317/");
        }
        assert_eq!(endpoint(Some("https://collector"), &[insecure]), "https://collector/");
    }

    #[test]
    fn an_endpoint_that_is_none_is_refused() {
        let advice = "write a URL such as http://collector:4317 or https://collector:4318";
        for (written, pairs) in [("ftp://a", [].as_slice()), ("http://", &[]), ("a b", &[]), ("collector:4318", &[HTTP])] {
            let expected = format!("--otlp-traces-endpoint is '{written}': {advice}");
            assert_eq!(error(Some(written), pairs), expected);
        }
        let expected = format!("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is '://': {advice}");
        assert_eq!(error(None, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "://")]), expected);
    }

    #[test]
    fn headers_are_percent_decoded_and_those_of_traces_win() {
        let all = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a%3Db, X-Tenant = t ,");
        let headers = read(None, &[all]).headers;
        assert!(headers["authorization"] == "Bearer a=b" && headers["x-tenant"] == "t", "{headers:?}");
        assert!(headers["authorization"].is_sensitive());
        let headers = read(None, &[all, ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-tenant=u")]).headers;
        assert!(headers.len() == 1 && headers["x-tenant"] == "u", "{headers:?}");
    }

    #[test]
    fn a_wrong_header_is_left_out_and_its_value_stays_secret() {
        let wrong = ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b c=secret,api-key=sec%0Aret");
        let (receiver, warnings) = with_warnings(None, &[wrong]);
        assert_eq!(receiver.unwrap().headers.len(), 1);
        assert_eq!(warnings.len(), 2);
        assert!(warnings.iter().all(|warning| !warning.contains("ret:") && !warning.contains("secret")), "{warnings:?}");
    }

    #[test]
    fn timeout_and_compression_are_read_and_those_of_traces_win() {
        let plain = read(None, &[]);
        assert_eq!((plain.timeout, plain.gzip), (Duration::from_secs(10), false));
        let all = [("OTEL_EXPORTER_OTLP_TIMEOUT", "300"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
        let traces = [("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "200"), ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none")];
        let general = read(None, &all);
        assert_eq!((general.timeout.as_millis(), general.gzip), (300, true));
        let own = read(None, &[all, traces].concat());
        assert_eq!((own.timeout.as_millis(), own.gzip), (200, false));
        let (receiver, warnings) = with_warnings(None, &[("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"), all[1]]);
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
        let files = read(None, &all).tls;
        assert_eq!(files.certificate.as_deref(), Some("/ca.pem"));
        assert_eq!(files.client, Some(("/me.pem".into(), "/me.key".into())));
        let own = [
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces-ca.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/traces.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/traces.key"),
        ];
        let files = read(None, &[all, own].concat()).tls;
        assert_eq!(files.certificate.as_deref(), Some("/traces-ca.pem"));
        assert_eq!(files.client, Some(("/traces.pem".into(), "/traces.key".into())));
        let (receiver, warnings) = with_warnings(None, &all[1..2]);
        assert_eq!(receiver.unwrap().tls.client, None);
        assert!(warnings[0].contains("OTEL_EXPORTER_OTLP_CLIENT_KEY"), "{warnings:?}");
    }

    #[test]
    fn a_name_for_people_holds_no_password() {
        let receiver = Receiver::new(Uri::from_static("https://me:secret@collector:4318/v1/traces"), Protocol::Http);
        assert_eq!(receiver.name(), "https://collector:4318/v1/traces");
    }
}
