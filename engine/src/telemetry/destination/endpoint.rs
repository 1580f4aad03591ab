//! Where a receiver is: `--otlp-traces-endpoint` and the `OTEL_EXPORTER_OTLP_ENDPOINT` variables. Pure.

use http::Uri;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use sojourn_contract::{flag, port};

use super::Protocol;
use crate::telemetry::TelemetryError;
use crate::telemetry::environment::Environment;

/// Path of OTLP over HTTP.
const TRACES_PATH: &str = "/v1/traces";

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// The flag, the variable for traces (both as they are, by the specification), the variable for all signals, the default.
///
/// # Errors
/// What is written there is no endpoint.
pub fn endpoint(flag: Option<&str>, env: &Environment<'_>, protocol: Protocol) -> Result<Uri, TelemetryError> {
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

#[cfg(test)]
mod tests {
    use super::super::Receiver;
    use super::*;

    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317/base");
    const HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");

    fn read(flag: Option<&str>, pairs: &[(&str, &str)]) -> Result<Receiver, TelemetryError> {
        let lookup = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let environment = Environment::new(&lookup);
        let receiver = Receiver::read(flag, &environment);
        assert_eq!(environment.into_warnings(), Vec::<String>::new());
        receiver
    }

    fn endpoint(flag: Option<&str>, pairs: &[(&str, &str)]) -> String {
        read(flag, pairs).unwrap().endpoint.to_string()
    }

    fn error(flag: Option<&str>, pairs: &[(&str, &str)]) -> String {
        read(flag, pairs).unwrap_err().to_string()
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
}
