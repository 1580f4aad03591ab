//! Journeys on the admin port: while they run, afterwards, and who may look.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sojourn_contract::journey::{Kind, Outcome};
use sojourn_contract::metric;
use sojourn_engine::admin::{Admin, router};
use sojourn_engine::backend::scripted::Script;
use sojourn_engine::journeys::view::View;
use sojourn_engine::metrics::Exposition;
use sojourn_journey::check::check;
use sojourn_journey::trace::Trace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::{chat, chat_body, raw, send};
use super::engine::{Engine, HISTORY, SOON, Setup};

/// The admin port of an engine.
struct Port(SocketAddr);

impl Port {
    async fn of(engine: &Engine) -> Self {
        let api = engine.api.clone();
        let resource = [("service.name", "smollm")].into_iter().collect();
        let view = engine.registry.clone().map(|registry| View::new(registry, api.served.clone(), api.clock, resource));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(Arc::new(Admin { api, view }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self(address)
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "host: localhost").await
    }

    async fn list(&self, query: &str) -> Value {
        let (status, body) = self.get(&format!("/journeys.json{query}")).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The journey that is as wanted, as soon as there is one. A journey ends when the kernel has its answer, which the client
    /// may have before: those of neighbours may end in any order.
    async fn find(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let list = self.list("").await;
                if let Some(found) = list["journeys"].as_array().and_then(|all| all.iter().find(|journey| wanted(journey))) {
                    return found.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(SOON, found).await;
        match found {
            Ok(journey) => journey,
            Err(_) => panic!("no journey comes to be as wanted: {}", self.list("").await),
        }
    }

    async fn ids(&self, query: &str) -> Vec<String> {
        let list = self.list(query).await;
        let journeys = list["journeys"].as_array().unwrap();
        journeys.iter().map(|journey| journey["request_id"].as_str().unwrap().to_owned()).collect()
    }
}

async fn ask_as(engine: &Engine, id: &str, body: Value) {
    send(engine.address, http::Method::POST, "/v1/chat/completions", &[("x-request-id", id)], &body.to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_seen_while_it_runs_and_when_it_has_ended() {
    let engine = Setup::slow(100_000, Duration::from_millis(1)).start().await;
    let port = Port::of(&engine).await;
    let client = raw(engine.address, "/v1/chat/completions", &chat_body("hi", json!({"max_tokens": 8000}))).await;
    let running = port.find(|journey| journey["output_tokens"].as_u64() > Some(3)).await;
    assert_eq!((&running["outcome"], &running["phase"]), (&Value::Null, &json!("decode")));
    assert!(running["time_to_first_token_seconds"].is_f64(), "{running}");
    let parts: Vec<&str> = running["parts"].as_array().unwrap().iter().map(|part| part["part"].as_str().unwrap()).collect();
    assert_eq!(parts, ["api", "queue", "prefill", "decode"]);
    let id = running["request_id"].as_str().unwrap();
    let (status, page) = port.get(&format!("/journeys/{id}")).await;
    assert_eq!(status, 200);
    assert!(page.contains("data-live=\"on\"") && page.contains("so far was"), "{page}");

    drop(client);
    let ended = port.find(|journey| journey["outcome"] == "aborted").await;
    assert_eq!((&ended["span_id"], &ended["abort_reason"]), (&running["span_id"], &json!("client_disconnect")));
    let list = port.list("").await;
    assert_eq!((&list["in_flight"], &list["kept"], &list["history"]), (&json!(0), &json!(1), &json!(HISTORY)));
    let (_, page) = port.get(&format!("/journeys/{id}")).await;
    assert!(page.contains("data-live=\"done\"") && page.contains("the client went away"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_does_not_come_back_is_on_the_page_and_in_the_metrics() {
    let script = Script { hang: Duration::from_secs(600), ..Script::default() };
    let engine = Setup { script, stall_timeout: Duration::from_millis(20), ..Setup::default() }.start().await;
    let port = Port::of(&engine).await;
    let _client = raw(engine.address, "/v1/chat/completions", &chat_body("[hang]", json!({}))).await;
    let running = port.find(|journey| journey["phase"] == "prefill").await;
    let stalled = async {
        loop {
            let list = port.list("").await;
            if !list["stalled_step"].is_null() {
                return list["stalled_step"].clone();
            }
        }
    };
    let stalled = tokio::time::timeout(SOON, stalled).await.expect("the step counts as stalled");
    assert_eq!((&stalled["step"], &stalled["request_ids"][0]), (&json!(1), &running["request_id"]));
    assert!(port.get("/journeys").await.1.contains("Step 1 of the model has not come back"));
    let metrics = engine.api.metrics.encode(Exposition::Prometheus).unwrap();
    let gauge = metrics.lines().find(|line| line.starts_with(&metric::STEP_STALLED.series())).unwrap();
    assert!(gauge.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() > 0.0, "{gauge}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_of_a_journey_is_a_trace_that_passes_the_check() {
    let engine = Setup::default().start().await;
    let port = Port::of(&engine).await;
    let answer = chat(engine.address, chat_body("hi", json!({"n": 2}))).await;
    port.find(|journey| journey["outcome"] == "ok").await;
    let request_id = answer.header("x-request-id").unwrap();
    let ids: Vec<&str> = answer.header("traceresponse").unwrap().split('-').collect();
    for id in [request_id, ids[1], ids[2]] {
        let (status, body) = port.get(&format!("/journeys/{id}.json")).await;
        assert_eq!(status, 200, "{id}");
        let trace = &Trace::read(&body).unwrap()[0];
        let report = check(trace);
        assert!(report.journeys == 1 && report.is_legal(), "{report}");
        assert_eq!(trace.spans.iter().filter(|span| span.name == "llm_core").count(), 2);
        assert_eq!(trace.spans[0].resource.text("service.name"), Some("smollm"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_the_oldest_are_forgotten() {
    // Room for one of the two sequences of the long one: the later one is evicted when they have grown.
    let script = Script { length: 400, block: 16, blocks: 40, ..Script::default() };
    let engine = Setup { script, ..Setup::default() }.start().await;
    let port = Port::of(&engine).await;
    ask_as(&engine, "wrong", json!({"model": "scripted"})).await;
    ask_as(&engine, "failed", chat_body("[fail]", json!({"max_tokens": 3}))).await;
    ask_as(&engine, "good", chat_body("hi", json!({"max_tokens": 3}))).await;
    port.find(|journey| journey["outcome"] == "ok" && journey["request_id"] == "good").await;
    ask_as(&engine, "long", chat_body("hi", json!({"max_tokens": 500, "n": 2}))).await;
    port.find(|journey| journey["outcome"] == "ok" && journey["request_id"] == "long").await;
    assert_eq!(port.ids("?filter=rejected").await, ["wrong"]);
    assert_eq!(port.ids("?filter=error").await, ["failed"]);
    assert_eq!(port.ids("?filter=preempted").await, ["long"]);
    assert_eq!(port.ids("?filter=slow").await, ["long"]);
    assert_eq!(port.ids("?limit=1").await, port.ids("").await[..1]);
    assert!(port.ids("?filter=running").await.is_empty() && port.ids("?filter=aborted").await.is_empty());
    assert_eq!(port.get("/journeys.json?filter=fast").await.0, 400);
    for filter in ["", "?filter=preempted", "?filter=aborted"] {
        assert_eq!(port.get(&format!("/journeys{filter}")).await.0, 200);
    }
    for index in 0..HISTORY {
        let id = format!("new/{index}");
        ask_as(&engine, &id, chat_body("hi", json!({"max_tokens": 1}))).await;
        port.find(|journey| journey["outcome"] == "ok" && journey["request_id"] == id.as_str()).await;
    }
    let last = format!("new/{}", HISTORY - 1);
    assert_eq!(port.ids("").await.len(), HISTORY);
    assert_eq!(port.get("/journeys/wrong").await.0, 404);
    let (status, page) = port.get(&format!("/journeys/{last}")).await;
    assert!(status == 200 && page.contains(&last));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said() {
    let engine = Setup::default().start().await;
    let port = Port::of(&engine).await;
    let (status, page) = port.get("/journeys").await;
    assert!(status == 200 && page.contains("No request yet"), "{page}");
    let (status, page) = port.get("/journeys/%3Cscript%3E").await;
    assert!(status == 404 && page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
    let (status, body) = port.get("/journeys/nobody.json").await;
    assert!(status == 404 && body.contains("--journey-history"), "{body}");
    assert_eq!(port.get("/v1/models").await.0, 404);
    let engine = Setup { tracing: false, ..Setup::default() }.start().await;
    let port = Port::of(&engine).await;
    for path in ["/journeys", "/journeys.json", "/journeys/some"] {
        assert!(port.get(path).await.1.contains("--enable-journey-tracing"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_cannot_look() {
    let engine = Setup::default().start().await;
    let port = Port::of(&engine).await;
    for headers in ["host: evil.example:8001", "host: localhost\r\norigin: https://evil.example"] {
        assert_eq!(port.ask("GET", "/journeys.json", headers).await.0, 403, "{headers}");
        assert_eq!(port.ask("POST", "/canary", headers).await.0, 403, "{headers}");
    }
    assert_eq!(port.ask("GET", "/journeys.json", "host: 127.0.0.1:8001").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_goes_through_the_whole_engine() {
    let mut setup = Setup::default();
    setup.settings.api_key = Some("secret".to_owned());
    let mut engine = setup.start().await;
    let port = Port::of(&engine).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers = format!("host: localhost:8001\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01");
    let (status, body) = port.ask("POST", "/canary", &headers).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["outcome"], &answer["trace_id"]), (200, &json!("ok"), &json!(trace)), "{body}");
    let told = engine.journey().await;
    assert_eq!((told.journey.kind, told.end().0), (Kind::Canary, Outcome::Ok));
    assert_eq!(answer["request_id"], json!(told.journey.request_id));
    assert_eq!(answer["span_id"], json!(format!("{:016x}", told.request.span_id)));
    assert_eq!(told.journey.cores[0].last().unwrap().progress.decode_done, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_says_why_there_is_no_answer() {
    let engine = Setup { loaded: false, ..Setup::default() }.start().await;
    let (status, body) = Port::of(&engine).await.ask("POST", "/canary", "host: localhost").await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["outcome"]), (503, &json!("rejected")));
    assert!(answer["error"].as_str().unwrap().contains("the weights"), "{body}");
    let engine = Setup { tracing: false, ..Setup::default() }.start().await;
    let (status, body) = Port::of(&engine).await.ask("POST", "/canary", "host: localhost").await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["outcome"], &answer["trace_id"]), (200, &json!("ok"), &Value::Null));
}
