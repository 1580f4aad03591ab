//! One span after each start of the collector, which shows that the way to the destinations works before any request does.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HOST};
use serde_json::{Value, json};
use sojourn_contract::journey::{Kind, Outcome, Parent, SCOPE_SIDECAR, SIDECAR_PROBE};
use sojourn_contract::{attribute, env};

use crate::exchange::exchange;

/// Tries, a second apart; a collector that just came up may still refuse.
const TRIES: usize = 5;

/// A probe: how long a collector took from its start to its first answer.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// 16 bytes of trace id, 8 bytes of span id.
    pub ids: [u8; 24],
    /// When the collector was started.
    pub started: SystemTime,
    /// How long it took to answer.
    pub took: Duration,
}

/// A probe that no try could deliver.
#[derive(Debug, thiserror::Error)]
#[error("the collector does not take the probe span: {0}")]
pub struct Undelivered(String);

/// Reads random ids from the kernel.
pub fn random_ids() -> io::Result<[u8; 24]> {
    let mut ids = [0; 24];
    File::open("/dev/urandom")?.read_exact(&mut ids)?;
    Ok(ids)
}

/// Sends a probe to the collector's OTLP over HTTP.
pub async fn send(address: SocketAddr, probe: &Probe) -> Result<(), Undelivered> {
    let body = Bytes::from(probe.to_json().to_string());
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    let mut reason = String::new();
    for _ in 0..TRIES {
        interval.tick().await;
        let request = Request::post("/v1/traces")
            .header(HOST, address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))
            .map_err(|error| Undelivered(error.to_string()))?;
        match exchange(address, request).await {
            Ok(_) => return Ok(()),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(Undelivered(reason))
}

impl Probe {
    /// The OTLP request, in its JSON form.
    pub fn to_json(&self) -> Value {
        let (trace_id, span_id) = self.ids.split_at(16);
        let nanoseconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
        let attributes = [
            (attribute::KIND, json!({"stringValue": Kind::Probe.as_str()})),
            (attribute::OUTCOME, json!({"stringValue": Outcome::Ok.as_str()})),
            (attribute::PARENT, json!({"stringValue": Parent::None.as_str()})),
            (attribute::DURATION_SECONDS, json!({"doubleValue": self.took.as_secs_f64()})),
        ];
        let span = json!({
            "traceId": hex(trace_id),
            "spanId": hex(span_id),
            "name": SIDECAR_PROBE,
            "kind": 1,
            "startTimeUnixNano": nanoseconds(self.started),
            "endTimeUnixNano": nanoseconds(self.started + self.took),
            "attributes": attributes.map(|(key, value)| json!({"key": key, "value": value})),
        });
        let resource = self.resource.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
        let resource: Vec<Value> = resource.collect();
        json!({"resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{"scope": {"name": SCOPE_SIDECAR, "version": env!("CARGO_PKG_VERSION")}, "spans": [span]}],
        }]})
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The attributes of the pod's resource from the values of `OTEL_SERVICE_NAME`, which wins, and `OTEL_RESOURCE_ATTRIBUTES`.
pub fn resource(service_name: Option<&str>, attributes: Option<&str>) -> Vec<(String, String)> {
    let mut resource: Vec<(String, String)> = Vec::new();
    let pairs = attributes.unwrap_or_default().split(',').filter_map(|pair| pair.split_once('='));
    let named = service_name.filter(|name| !name.is_empty()).map(|name| (attribute::SERVICE_NAME.to_owned(), name.to_owned()));
    for (key, value) in pairs.map(|(key, value)| (percent_decoded(key.trim()), percent_decoded(value.trim()))).chain(named) {
        resource.retain(|(known, _)| *known != key);
        resource.push((key, value));
    }
    resource
}

/// The resource of this process's environment.
pub fn resource_of_environment() -> Vec<(String, String)> {
    let read = |name: &str| std::env::var(name).ok();
    resource(read(env::OTEL_SERVICE_NAME).as_deref(), read(env::OTEL_RESOURCE_ATTRIBUTES).as_deref())
}

/// Replaces `%41` by `A`; a percent sign that begins no number stays.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = if *first == b'%' { hex_byte(tail) } else { None };
        decoded.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The byte that two hexadecimal digits at the beginning say.
fn hex_byte(text: &[u8]) -> Option<u8> {
    let digits = text.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(resource: &[(String, String)]) -> Vec<(&str, &str)> {
        resource.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn a_resource_is_percent_decoded_and_the_service_name_wins() {
        let resource =
            resource(Some("smollm"), Some("service.name=other, team=a%2Cb%3D%C3%A9 ,k8s.pod.name=p,odd,rate=5%,p=%+1"));
        let expected = [("team", "a,b=é"), ("k8s.pod.name", "p"), ("rate", "5%"), ("p", "%+1"), ("service.name", "smollm")];
        assert_eq!(pairs(&resource), expected);
    }

    #[test]
    fn the_last_of_two_equal_keys_wins() {
        assert_eq!(pairs(&resource(None, Some("team=a,team=b"))), [("team", "b")]);
        assert!(resource(Some(""), None).is_empty());
    }

    #[test]
    fn a_probe_says_that_it_is_one_and_how_long_the_start_took() {
        let ids: [u8; 24] = std::array::from_fn(|index| index as u8);
        let started = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let probe =
            Probe { resource: vec![("service.name".into(), "smollm".into())], ids, started, took: Duration::from_millis(1500) };
        let expected = json!({"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "smollm"}}]},
            "scopeSpans": [{"scope": {"name": "sojourn.sidecar", "version": env!("CARGO_PKG_VERSION")}, "spans": [{
                "traceId": "000102030405060708090a0b0c0d0e0f",
                "spanId": "1011121314151617",
                "name": "sidecar_probe",
                "kind": 1,
                "startTimeUnixNano": "1700000000000000000",
                "endTimeUnixNano": "1700000001500000000",
                "attributes": [
                    {"key": "journey.kind", "value": {"stringValue": "probe"}},
                    {"key": "journey.outcome", "value": {"stringValue": "ok"}},
                    {"key": "journey.parent", "value": {"stringValue": "none"}},
                    {"key": "journey.duration_seconds", "value": {"doubleValue": 1.5}},
                ],
            }]}],
        }]});
        assert_eq!(probe.to_json(), expected);
    }
}
