//! `/metrics`: exact counts for every outcome, the same times as the journeys tell, both forms, and no name that the contract
//! does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use serde_json::json;
use sojourn_contract::journey::{AbortReason, Bottleneck};
use sojourn_contract::metric::{self, Kind, Metric};
use sojourn_engine::backend::architecture::Architecture;
use sojourn_engine::backend::scripted::Script;
use sojourn_engine::clock::Clock;
use sojourn_engine::metrics::Exposition;
use sojourn_engine::metrics::mfu::{Mfu, Peak, PeakSource};

use super::client::{chat, chat_body, completion, completion_body, get, raw, send};
use super::engine::{Engine, SOON, Setup};

const TICK: Duration = Duration::from_millis(1);
const PATH: &str = "/v1/completions";

/// Series with their values.
struct Page(BTreeMap<String, f64>);

impl Page {
    fn of(engine: &Engine) -> Self {
        let text = engine.api.metrics.encode(Exposition::Prometheus).unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
        Self(series.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    /// Waits until a series has this value.
    async fn until(engine: &Engine, series: &str, value: f64) -> Self {
        let reached = async {
            loop {
                let page = Self::of(engine);
                if page.0.get(series) == Some(&value) {
                    return page;
                }
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(SOON, reached).await;
        reached.unwrap_or_else(|_| panic!("{series} is {:?}", Self::of(engine).0.get(series)))
    }

    #[track_caller]
    fn assert(&self, series: &str, value: f64) {
        assert_eq!(self.0.get(series), Some(&value), "{series}\n{:#?}", self.0);
    }

    fn get(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("there is no {series}"))
    }

    /// Series of a metric whose value is not zero.
    fn counted(&self, metric: &Metric) -> Vec<(&str, f64)> {
        let name = metric.series();
        let of_metric = self.0.iter().filter(|(series, value)| series.split('{').next() == Some(&name) && **value != 0.0);
        of_metric.map(|(series, value)| (&series[name.len()..], *value)).collect()
    }

    fn sum_of_part(&self, part: Bottleneck) -> f64 {
        self.get(&format!("sojourn_request_part_seconds_sum{{part=\"{part}\"}}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_a_rejection_and_a_failure_are_counted_exactly() {
    let mut engine = Setup::default().start().await;
    let answer = chat(engine.address, chat_body("hi", json!({"max_tokens": 3}))).await.json();
    engine.journey().await;
    chat(engine.address, chat_body("hi", json!({"max_tokens": "many"}))).await;
    engine.journey().await;
    chat(engine.address, chat_body("[fail]", json!({}))).await;
    engine.journey().await;
    let page = Page::of(&engine);
    let requests = page.counted(&metric::REQUESTS);
    let expected = [
        (r#"{operation="chat",outcome="error",reason="generation_error"}"#, 1.0),
        (r#"{operation="chat",outcome="ok",reason=""}"#, 1.0),
        (r#"{operation="chat",outcome="rejected",reason="validation_error"}"#, 1.0),
    ];
    assert_eq!(requests, expected);
    let aborts = page.counted(&metric::ABORTS);
    let expected =
        [(r#"{reason="generation_error",phase="prefill"}"#, 1.0), (r#"{reason="validation_error",phase="api"}"#, 1.0)];
    assert_eq!(aborts, expected);
    let prompt = answer["usage"]["prompt_tokens"].as_f64().unwrap();
    page.assert(r#"vllm:prompt_tokens_total{model_name="scripted"}"#, prompt);
    page.assert(r#"vllm:generation_tokens_total{model_name="scripted"}"#, 3.0);
    page.assert(r#"vllm:request_success_total{model_name="scripted",finished_reason="length"}"#, 1.0);
    page.assert(r#"vllm:request_success_total{model_name="scripted",finished_reason="error"}"#, 1.0);
    page.assert(r#"sojourn_sequences_finished_total{status="length"}"#, 1.0);
    page.assert(r#"vllm:time_to_first_token_seconds_count{model_name="scripted"}"#, 1.0);
    page.assert(r#"vllm:inter_token_latency_seconds_count{model_name="scripted"}"#, 2.0);
    page.assert(r#"vllm:request_time_per_output_token_seconds_count{model_name="scripted"}"#, 1.0);
    page.assert(r#"vllm:e2e_request_latency_seconds_count{model_name="scripted"}"#, 1.0);
    page.assert(r#"vllm:request_prompt_tokens_sum{model_name="scripted"}"#, prompt);
    page.assert(r#"vllm:request_generation_tokens_sum{model_name="scripted"}"#, 3.0);
    // The failed one was in the core too, and got no token.
    for (part, count) in [("api", 3.0), ("queue", 2.0), ("prefill", 2.0), ("decode", 1.0), ("preempted", 0.0), ("client", 2.0)]
    {
        page.assert(&format!("sojourn_request_part_seconds_count{{part=\"{part}\"}}"), count);
    }
    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="sojourn",gen_ai_request_model="scripted""#;
    page.assert(&format!("gen_ai_server_request_duration_seconds_count{{{labels},error_type=\"\"}}"), 1.0);
    page.assert(&format!("gen_ai_server_request_duration_seconds_count{{{labels},error_type=\"generation_error\"}}"), 1.0);
    page.assert(&format!("gen_ai_server_time_to_first_token_seconds_count{{{labels}}}"), 1.0);
    page.assert(&format!("gen_ai_server_time_per_output_token_seconds_count{{{labels}}}"), 1.0);
    page.assert(r#"sojourn_requests_in_flight{operation="chat"}"#, 0.0);
    page.assert("sojourn_step_duration_seconds_count", page.get("sojourn_steps_total"));
    assert!(page.get("sojourn_steps_total") >= 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_is_shown_and_who_leaves_it_is_counted_where_it_was() {
    let mut setup = Setup::slow(10_000, TICK).one_at_a_time();
    setup.limits.max_queue_size = 1;
    let mut engine = setup.start().await;
    let body = completion_body("x", json!({"max_tokens": 5000, "stream": true}));
    let running = raw(engine.address, PATH, &body).await;
    engine.load(1, 0).await;
    let waiting = raw(engine.address, PATH, &body).await;
    engine.load(1, 1).await;
    let page = Page::until(&engine, r#"sojourn_requests_in_flight{operation="text_completion"}"#, 2.0).await;
    page.assert(r#"vllm:num_requests_running{model_name="scripted"}"#, 1.0);
    page.assert(r#"vllm:num_requests_waiting{model_name="scripted"}"#, 1.0);
    page.assert(r#"vllm:cache_config_info{model_name="scripted",block_size="16",num_gpu_blocks="1024"}"#, 1.0);
    assert!(page.get(r#"vllm:kv_cache_usage_perc{model_name="scripted"}"#) > 0.0);

    assert_eq!(completion(engine.address, body).await.status, 429);
    engine.journey().await;
    drop(waiting);
    engine.journey().await;
    Page::until(&engine, r#"vllm:time_to_first_token_seconds_count{model_name="scripted"}"#, 1.0).await;
    drop(running);
    engine.journey().await;
    let page = Page::of(&engine);
    let expected = [
        (r#"{reason="client_disconnect",phase="decode"}"#, 1.0),
        (r#"{reason="client_disconnect",phase="waiting"}"#, 1.0),
        (r#"{reason="overloaded",phase="api"}"#, 1.0),
    ];
    assert_eq!(page.counted(&metric::ABORTS), expected);
    page.assert(r#"sojourn_requests_total{operation="text_completion",outcome="aborted",reason="client_disconnect"}"#, 2.0);
    page.assert(r#"sojourn_requests_total{operation="text_completion",outcome="rejected",reason="overloaded"}"#, 1.0);
    page.assert(r#"sojourn_sequences_finished_total{status="aborted"}"#, 2.0);
    page.assert(r#"vllm:e2e_request_latency_seconds_count{model_name="scripted"}"#, 0.0);
    page.assert(r#"sojourn_requests_in_flight{operation="text_completion"}"#, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_and_a_shutdown_are_errors() {
    let mut setup = Setup::slow(100_000, TICK);
    setup.settings.request_timeout = Some(Duration::from_millis(100));
    let mut engine = setup.start().await;
    let body = completion_body("x", json!({"max_tokens": 7000}));
    completion(engine.address, body.clone()).await;
    engine.journey().await;
    Page::of(&engine).assert(r#"sojourn_requests_total{operation="text_completion",outcome="error",reason="timeout"}"#, 1.0);

    let mut setup = Setup::slow(100_000, TICK);
    setup.settings.drain_timeout = Duration::from_millis(50);
    let mut engine = setup.start().await;
    let answer = tokio::spawn(completion(engine.address, body));
    engine.load(1, 0).await;
    engine.stop();
    answer.await.unwrap();
    engine.journey().await;
    let page = Page::of(&engine);
    assert_eq!(page.counted(&metric::REQUESTS).len(), 1);
    page.assert(r#"sojourn_requests_total{operation="text_completion",outcome="error",reason="shutdown"}"#, 1.0);
}

/// Two requests that need more KV than there is.
fn crowded() -> Setup {
    let script = Script { length: 200, blocks: 6, step: TICK, ..Script::default() };
    Setup { script, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_of_parts_are_what_the_journeys_say() {
    let mut engine = crowded().start().await;
    let body = completion_body("0123456789", json!({"max_tokens": 60, "ignore_eos": true}));
    let both = [0, 1].map(|_| tokio::spawn(completion(engine.address, body.clone())));
    for answer in both {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    let facts = [engine.journey().await.journey.facts(), engine.journey().await.journey.facts()];
    let page = Page::of(&engine);
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    for part in Bottleneck::ALL {
        near(page.sum_of_part(*part), facts.iter().map(|facts| facts.seconds_in(*part)).sum());
    }
    let durations: f64 = facts.iter().map(|facts| facts.duration).sum();
    near(Bottleneck::ALL.iter().map(|part| page.sum_of_part(*part)).sum(), durations);
    near(page.get(r#"vllm:e2e_request_latency_seconds_sum{model_name="scripted"}"#), facts.iter().map(|facts| facts.e2e).sum());
    let first_tokens = facts.iter().filter_map(|facts| facts.time_to_first_token).sum();
    near(page.get(r#"vllm:time_to_first_token_seconds_sum{model_name="scripted"}"#), first_tokens);
    near(page.get(r#"vllm:request_queue_time_seconds_sum{model_name="scripted"}"#), page.sum_of_part(Bottleneck::Queue));

    let preemptions: u32 = facts.iter().map(|facts| facts.num_preemptions).sum();
    assert!(preemptions > 0, "{facts:?}");
    page.assert(r#"sojourn_preemptions_total{reason="kv_exhausted"}"#, preemptions.into());
    page.assert(r#"vllm:num_preemptions_total{model_name="scripted"}"#, preemptions.into());
    let recomputed: u32 = facts.iter().filter_map(|facts| facts.recomputed_tokens).sum();
    page.assert("sojourn_recomputed_tokens_total", recomputed.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_measured_with_tracing_off_too() {
    let engine = Setup { tracing: false, ..Setup::default() }.start().await;
    completion(engine.address, completion_body("x", json!({"max_tokens": 4}))).await;
    let ok = r#"sojourn_requests_total{operation="text_completion",outcome="ok",reason=""}"#;
    let page = Page::until(&engine, ok, 1.0).await;
    for (part, count) in [("api", 1.0), ("queue", 1.0), ("prefill", 1.0), ("decode", 1.0), ("preempted", 0.0), ("client", 1.0)]
    {
        page.assert(&format!("sojourn_request_part_seconds_count{{part=\"{part}\"}}"), count);
    }
    page.assert(r#"vllm:generation_tokens_total{model_name="scripted"}"#, 4.0);
    assert_eq!(page.counted(&metric::JOURNEYS_EXPORTED), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_are_served_as_they_are_asked_for() {
    let engine = Setup::default().start().await;
    let page = get(engine.address, "/metrics").await;
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    for line in ["# TYPE vllm:prompt_tokens_total counter", "# TYPE vllm:cache_config_info gauge"] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("# EOF"));

    let accept = [("accept", "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3")];
    let page = send(engine.address, Method::GET, "/metrics", &accept, "").await;
    assert_eq!(page.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    for line in ["# TYPE vllm:prompt_tokens counter", "# TYPE vllm:cache_config info"] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_names_what_is_exported_and_nothing_else() {
    let mut engine = Setup::default().start().await;
    engine.api.metrics.model_loaded("scripted", 1.5);
    let architecture = Architecture { body_parameters: 1, head_parameters: 1, attention_flops: 1 };
    let peak = Peak { flops: 1e12, source: PeakSource::Stated };
    Mfu::start(&engine.api.metrics, architecture, Some(peak), Clock::start());
    chat(engine.address, chat_body("hi", json!({"max_tokens": 3}))).await;
    chat(engine.address, chat_body("hi", json!({"max_tokens": -3}))).await;
    engine.journey().await;
    engine.journey().await;

    let text = engine.api.metrics.encode(Exposition::OpenMetrics).unwrap();
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Info => "info",
    };
    let named: BTreeSet<String> = metric::ALL.iter().map(|metric| format!("{} {}", metric.name, kind(metric.kind))).collect();
    let exported: BTreeSet<String> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ").map(str::to_owned)).collect();
    assert_eq!(exported, named);

    for metric in metric::ALL {
        let series = metric.series();
        let of_metric: Vec<BTreeSet<&str>> = text.lines().filter_map(|line| labels(line, &series)).collect();
        assert!(!of_metric.is_empty(), "no series of {series}\n{text}");
        let expected: BTreeSet<&str> = metric.labels.iter().copied().collect();
        assert!(of_metric.iter().all(|labels| *labels == expected), "{series}: {of_metric:?}");
        assert!(text.contains(&format!("# HELP {} {}.", metric.name, metric.help)));
    }
}

/// Names of the labels of a line of this metric, without a histogram's own.
fn labels<'a>(line: &'a str, series: &str) -> Option<BTreeSet<&'a str>> {
    let rest = line.strip_prefix(series)?;
    let rest = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| rest.strip_prefix(suffix)).unwrap_or(rest);
    if rest.starts_with(' ') {
        return Some(BTreeSet::new());
    }
    let inside = rest.strip_prefix('{')?.split_once("} ")?.0;
    let names = inside.split("\",").filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
    Some(names.filter(|name| *name != "le").collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_that_a_rate_needs_is_there_before_the_first_request() {
    let engine = Setup::default().start().await;
    engine.api.metrics.model_loaded("scripted", 1.5);
    let page = Page::of(&engine);
    for reason in AbortReason::ALL {
        let outcome = reason.outcome();
        page.assert(&format!("sojourn_requests_total{{operation=\"chat\",outcome=\"{outcome}\",reason=\"{reason}\"}}"), 0.0);
    }
    page.assert(r#"sojourn_preemptions_total{reason="priority"}"#, 0.0);
    page.assert(r#"sojourn_aborts_total{reason="client_disconnect",phase="waiting"}"#, 0.0);
    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="sojourn",gen_ai_request_model="scripted""#;
    page.assert(&format!("gen_ai_server_time_to_first_token_seconds_count{{{labels}}}"), 0.0);
    page.assert(&format!("gen_ai_server_request_duration_seconds_count{{{labels},error_type=\"\"}}"), 0.0);
    page.assert(r#"vllm:request_success_total{model_name="scripted",finished_reason="stop"}"#, 0.0);
}
