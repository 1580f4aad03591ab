//! The rules that are rendered for the collector against [`sojourn_contract::sampling::decide`], in a real collector, for
//! every combination of facts: `SOJOURN_OTELCOL=/path/to/otelcol cargo test -p sojourn-operator --test sampling`.
//! The rates are 0 and 100 %, so that each journey's end is certain.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sojourn_contract::attribute;
use sojourn_contract::journey::{Kind, Outcome, Parent};
use sojourn_contract::sampling::{Decision, Facts, KEPT_BY_RATE, Policy, decide};
use sojourn_operator::cli;
use sojourn_operator::reconcile::render::render;
use sojourn_operator::reconcile::validate::validate;
use sojourn_operator::settings::Settings;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_collector_decides_as_the_contract_says() {
    let every_rule = "keep: {firstTokenSlowerThan: 2s, queuedLongerThan: 1s, slowerThan: 30s}";
    let none = "keep: {errors: false, aborted: false, preempted: false}";
    for rate in ["0%", "100%"] {
        for parents in ["Respect", "Ignore"] {
            for keep in [every_rule, none] {
                check(&format!("{{rate: {rate}, parents: {parents}, {keep}}}")).await;
            }
        }
    }
}

/// Sends every combination of facts through a collector with this sampling and compares what comes out.
async fn check(sampling: &str) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let exported = directory.join("exported.json");
    std::fs::write(&exported, "").unwrap();
    let (policy, configuration) = configuration(sampling, &exported);
    let journeys = every_combination();
    let (http, metrics) = (free_port(), free_port());
    let configuration = configuration
        .replace("127.0.0.1:4317", &format!("127.0.0.1:{}", free_port()))
        .replace("127.0.0.1:4318", &format!("127.0.0.1:{http}"))
        .replace("port: 8888", &format!("port: {metrics}"));
    let file = directory.join("collector.yaml");
    std::fs::write(&file, configuration).unwrap();

    let mut collector = Collector::start(&file);
    collector.listens_on(http);
    for (first, chunk) in journeys.chunks(500).enumerate().map(|(index, chunk)| (index * 500, chunk)) {
        send(http, first, chunk).await;
    }
    collector.stop();

    let kept = kept_by(&exported);
    for (index, facts) in journeys.iter().enumerate() {
        let found = kept.get(&index).map(String::as_str);
        assert_eq!(found, expected(&policy, facts).as_deref(), "{sampling}: {facts:?}");
    }
}

/// `journey.kept_by` of a journey that is kept.
fn expected(policy: &Policy, facts: &Facts) -> Option<String> {
    match decide(policy, facts) {
        Decision::Always => Some(facts.kind.to_string()),
        Decision::Keep(rules) => Some(rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
        Decision::Draw => (policy.rate_percent == 100.0).then(|| KEPT_BY_RATE.to_owned()),
        Decision::Drop => None,
    }
}

fn configuration(sampling: &str, exported: &Path) -> (Policy, String) {
    let text = format!(
        "apiVersion: sojourn.dev/v1alpha1\nkind: InferenceService\nmetadata: {{name: chat}}\nspec: {{model: {{uri: pvc://m/x}}, \
         tracing: {{sampling: {sampling}, destinations: [{{name: file, exporter: {{type: file, config: {{path: '{}'}}}}}}]}}}}\n",
        exported.display()
    );
    let service = validate(&cli::parse(&text).unwrap().remove(0), &Settings::default()).unwrap();
    let config_map = render(&service, &Settings::default()).unwrap().config_map.unwrap();
    let policy = service.tracing.unwrap().policy;
    (policy, config_map.data.unwrap().remove("collector.yaml").unwrap())
}

fn every_combination() -> Vec<Facts> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        for outcome in Outcome::ALL {
            for parent in Parent::ALL {
                for num_preemptions in [0, 2] {
                    for time_to_first_token in [None, Some(2.0), Some(2.1)] {
                        for time_in_queue in [None, Some(1.0), Some(1.1)] {
                            for duration in [0.5, 2.5, 31.0] {
                                all.push(Facts {
                                    kind: *kind,
                                    outcome: *outcome,
                                    parent: *parent,
                                    num_preemptions,
                                    time_to_first_token,
                                    time_in_queue,
                                    duration,
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    all
}

/// Sends journeys as one OTLP request; the span id is the journey's number, and every span claims a priority of its own.
async fn send(port: u16, first: usize, journeys: &[Facts]) {
    let spans: Vec<Value> = journeys
        .iter()
        .enumerate()
        .map(|(offset, facts)| {
            let number = first + offset;
            json!({
                "traceId": format!("{:032x}", number + 1),
                "spanId": format!("{:016x}", number + 1),
                "name": "llm_request",
                "startTimeUnixNano": "1",
                "endTimeUnixNano": "2",
                "attributes": attributes(facts),
            })
        })
        .collect();
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string();
    let request = http::Request::post(format!("http://127.0.0.1:{port}/v1/traces"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
    let status = response.status();
    let said = response.into_body().collect().await.unwrap().to_bytes();
    assert!(status.is_success(), "{status}: {said:?}");
}

fn attributes(facts: &Facts) -> Vec<Value> {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let seconds = |key: &str, value: f64| json!({"key": key, "value": {"doubleValue": value}});
    let mut attributes = vec![
        text(attribute::KIND, facts.kind.as_str()),
        text(attribute::OUTCOME, facts.outcome.as_str()),
        text(attribute::PARENT, facts.parent.as_str()),
        json!({"key": attribute::JOURNEY_NUM_PREEMPTIONS, "value": {"intValue": facts.num_preemptions.to_string()}}),
        seconds(attribute::DURATION_SECONDS, facts.duration),
        text(attribute::SAMPLING_PRIORITY, if facts.num_preemptions > 0 { "0" } else { "1" }),
    ];
    attributes.extend(facts.time_to_first_token.map(|value| seconds(attribute::TIME_TO_FIRST_TOKEN, value)));
    attributes.extend(facts.time_in_queue.map(|value| seconds(attribute::TIME_IN_QUEUE, value)));
    attributes
}

/// `journey.kept_by` of each exported journey, by its number.
fn kept_by(exported: &Path) -> BTreeMap<usize, String> {
    let text = std::fs::read_to_string(exported).unwrap();
    let mut kept = BTreeMap::new();
    for line in text.lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        let resources = request["resourceSpans"].as_array().unwrap();
        let scopes = resources.iter().flat_map(|resource| resource["scopeSpans"].as_array().unwrap());
        for span in scopes.flat_map(|scope| scope["spans"].as_array().unwrap()) {
            let attribute = |key: &str| {
                let attributes = span["attributes"].as_array().unwrap();
                attributes.iter().find(|attribute| attribute["key"] == key).map(|attribute| attribute["value"].clone())
            };
            assert_eq!(attribute(attribute::SAMPLING_PRIORITY), None, "{span}");
            let number = usize::from_str_radix(span["spanId"].as_str().unwrap(), 16).unwrap() - 1;
            let rules = attribute(attribute::KEPT_BY).unwrap()["stringValue"].as_str().unwrap().to_owned();
            kept.insert(number, rules);
        }
    }
    kept
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running collector; it is killed with the test.
struct Collector(Child);

impl Collector {
    fn start(configuration: &Path) -> Self {
        let binary = std::env::var_os("SOJOURN_OTELCOL").expect("set SOJOURN_OTELCOL to an OpenTelemetry Collector");
        let log = std::fs::File::create(configuration.with_extension("log")).unwrap();
        let config = format!("--config={}", configuration.display());
        Self(Command::new(binary).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn listens_on(&mut self, port: u16) {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(self.0.try_wait().unwrap().is_none(), "the collector has ended");
            assert!(begun.elapsed() < PATIENCE, "the collector does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end, which flushes, and waits for its end.
    fn stop(mut self) {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Already ended after `stop`; otherwise the test has failed and its collector goes with it.
        let _ended = self.0.kill().is_err();
        let _reaped = self.0.wait().is_ok();
    }
}
