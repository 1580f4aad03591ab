//! Log lines: the ids that tie them to their journey, one line a step where it was asked for, and never what people wrote.

use std::io::Write;
use std::sync::{Arc, Mutex, Once};

use http::Method;
use serde_json::{Value, json};
use sojourn_engine::backend::architecture::Tokens;
use sojourn_engine::logging;
use sojourn_engine::metrics::steps::{StepLoad, Steps};
use tracing::subscriber::{DefaultGuard, Interest, set_default, set_global_default};
use tracing::{Metadata, Subscriber, info, info_span, warn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{EnvFilter, Registry};

use super::client::{chat_body, send};
use super::engine::Setup;

/// What was written.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Keeps every place that logs undecided about whether anybody listens. Without this, one that is first passed on another
/// thread, at the moment when this one begins to listen, can take that nobody does for the final answer.
pub fn ask_every_time() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| set_global_default(Registry::default().with(Undecided)).expect("nobody else listens globally"));
}

struct Undecided;

impl<S: Subscriber> Layer<S> for Undecided {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>, _: Context<'_, S>) -> bool {
        false
    }
}

/// Lines that this thread logs from now on.
fn capture(filter: &str) -> (Page, DefaultGuard) {
    ask_every_time();
    let page = Page::default();
    let writer = page.clone();
    let guard = set_default(logging::json(EnvFilter::new(filter), move || writer.clone()));
    (page, guard)
}

#[tokio::test]
async fn a_request_that_fails_has_its_ids_on_its_line() {
    let (page, _guard) = capture("sojourn_engine=info");
    let mut engine = Setup::default().start().await;
    let body = chat_body("[fail] the secret", json!({})).to_string();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("x-request-id", "order-7"), ("traceparent", parent)];
    send(engine.address, Method::POST, "/v1/chat/completions", &headers, &body).await;
    let told = engine.journey().await;
    let lines = page.lines();
    let line = lines.iter().find(|line| line["message"] == "request failed").unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(line["request_id"], "order-7");
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(line["span_id"], format!("{:016x}", told.request.span_id));
    assert_eq!((&line["level"], &line["reason"]), (&json!("WARN"), &json!("generation_error")));
}

#[tokio::test]
async fn no_line_of_ours_has_a_prompt_or_a_completion() {
    let (page, _guard) = capture("sojourn_engine=trace");
    let mut engine = Setup::default().start().await;
    for content in ["the secret", "[fail] the secret"] {
        let body = chat_body(content, json!({"max_tokens": 9})).to_string();
        send(engine.address, Method::POST, "/v1/chat/completions", &[], &body).await;
        engine.journey().await;
    }
    let text = page.text();
    assert!(text.contains("answered") && text.contains("request failed"), "{text}");
    assert!(!text.contains("secret") && !text.contains("The quick"), "{text}");
}

#[tokio::test]
async fn a_step_is_one_line_where_it_was_asked_for() {
    let (page, _guard) = capture("info");
    let engine = Setup::default().start().await;
    let load = StepLoad {
        step: 7,
        batch: 3,
        prefill: Tokens::of_sequence(0, 30, true),
        decode: Tokens { computed: 2, attended: 90, rows: 2 },
        running: 3,
        waiting: 1,
        kv_usage: 0.25,
    };
    let steps = |log| Steps::new(engine.api.metrics.scheduler().clone(), None, log);
    steps(false).stepped(&load, 0.5, 1.0);
    steps(true).stepped(&load, 0.001_234_567, 1.0);
    let lines = page.lines();
    let lines: Vec<&Value> = lines.iter().filter(|line| line["target"] == "iteration").collect();
    let expected = json!({
        "timestamp": lines[0]["timestamp"], "level": "INFO", "target": "iteration", "message": "step",
        "step": 7, "batch": 3, "tokens": 32, "prefill_tokens": 30, "decode_tokens": 2,
        "running": 3, "waiting": 1, "kv_usage": 0.25, "step_ms": 1.235,
    });
    assert_eq!(lines, [&expected]);
}

#[test]
fn ids_of_a_span_are_top_level_fields_of_the_lines_in_it() {
    let (page, _guard) = capture("info");
    let (request_id, trace_id, span_id) = ("r-1", Some("4bf9"), Some("00f0"));
    let _inside = info_span!("request", request_id, trace_id, span_id).entered();
    let _deeper = info_span!("step", number = 7).entered();
    warn!(count = 3, part = 0.5, fine = true, error = %"no \"room\"\n", "it happened");
    let lines = page.lines();
    let line = &lines[0];
    let expected = json!({
        "timestamp": line["timestamp"], "level": "WARN", "target": line["target"], "message": "it happened",
        "request_id": "r-1", "trace_id": "4bf9", "span_id": "00f0", "number": 7,
        "count": 3, "part": 0.5, "fine": true, "error": "no \"room\"\n",
    });
    assert_eq!((lines.len(), line), (1, &expected));
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn an_events_own_word_counts_more_than_that_of_its_span() {
    let (page, _guard) = capture("info");
    let _inside = info_span!("request", request_id = "outer", trace_id = None::<&str>).entered();
    info!(request_id = "own", "line");
    let lines = page.lines();
    assert_eq!((lines[0]["request_id"].as_str(), lines[0].get("trace_id")), (Some("own"), None));
}

#[test]
fn a_line_for_people_names_the_ids_too() {
    ask_every_time();
    let page = Page::default();
    let writer = page.clone();
    let _guard = set_default(logging::text(EnvFilter::new("info"), move || writer.clone(), false));
    let _inside = info_span!("request", request_id = "r-1", trace_id = "4bf9", span_id = "00f0").entered();
    info!("line");
    let text = page.text();
    assert!(text.contains("request_id=\"r-1\" trace_id=\"4bf9\" span_id=\"00f0\"") && text.ends_with("line\n"), "{text}");
}
