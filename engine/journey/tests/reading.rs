//! Traces as backends give them.

mod journeys;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use sojourn_contract::attribute;
use sojourn_contract::journey::Detail;
use sojourn_journey::check::check;
use sojourn_journey::draw::{Style, draw};
use sojourn_journey::read::{ReadError, otlp};
use sojourn_journey::recover;
use sojourn_journey::trace::{Attributes, Span, SpanKind, Status, Trace, Value};

use journeys::model::journeys as random_journeys;

fn good() -> Trace {
    journeys::trace(&journeys::preempted(), Detail::Phases, Some(200))
}

fn read(document: &Json) -> Vec<Trace> {
    Trace::read(&document.to_string()).expect("traces")
}

/// The trace as Jaeger's `/api/traces/ID` answers, by its translator and its sorting: fields as tags, microseconds, lists as
/// JSON texts, tags sorted by key and events by name.
fn jaeger(trace: &Trace) -> Json {
    let span = |span: &Span| {
        let mut tags = tags(&span.attributes);
        tags.push(tag("otel.scope.name", "string", json!(span.scope)));
        if span.kind != SpanKind::Unspecified {
            tags.push(tag("span.kind", "string", json!(format!("{:?}", span.kind).to_lowercase())));
        }
        if let Status::Error(message) = &span.status {
            tags.push(tag("otel.status_code", "string", json!("ERROR")));
            tags.push(tag("error", "bool", json!(true)));
            tags.push(tag("otel.status_description", "string", json!(message)));
        }
        tags.sort_by_key(|tag| tag["key"].to_string());
        let mut events = span.events.clone();
        events.sort_by(|a, b| a.name.cmp(&b.name));
        let log = |event: &sojourn_journey::trace::Event| {
            let mut fields = self::tags(&event.attributes);
            fields.push(tag("event", "string", json!(event.name)));
            json!({"timestamp": event.unix_nanos / 1000, "fields": fields})
        };
        let trace_id = format!("{:032x}", span.trace_id);
        let parent = |parent: u64| json!({"refType": "CHILD_OF", "traceID": trace_id, "spanID": format!("{parent:016x}")});
        json!({
            "traceID": trace_id,
            "spanID": format!("{:016x}", span.span_id),
            "operationName": span.name,
            "references": span.parent_span_id.map(parent).into_iter().collect::<Vec<_>>(),
            "startTime": span.start_unix_nanos / 1000,
            "duration": (span.end_unix_nanos - span.start_unix_nanos) / 1000,
            "tags": tags,
            "logs": events.iter().map(log).collect::<Vec<_>>(),
            "processID": "p1",
            "warnings": null,
        })
    };
    let spans: Vec<Json> = trace.spans.iter().map(span).collect();
    let processes = json!({"p1": {"serviceName": "smollm", "tags": []}});
    json!({"data": [{"traceID": "ignored", "spans": spans, "processes": processes, "warnings": null}], "errors": null})
}

fn tags(attributes: &Attributes) -> Vec<Json> {
    let one = |(key, value): &(std::borrow::Cow<'static, str>, Value)| match value {
        Value::Bool(value) => tag(key, "bool", json!(value)),
        Value::Int(value) => tag(key, "int64", json!(value)),
        // Go writes a whole float without a point.
        Value::Float(value) if value.fract() == 0.0 => tag(key, "float64", json!(*value as i64)),
        Value::Float(value) => tag(key, "float64", json!(value)),
        Value::String(text) => tag(key, "string", json!(text)),
        Value::Strings(texts) => tag(key, "string", json!(json!(texts).to_string())),
        Value::Other(text) => tag(key, "string", json!(text)),
    };
    attributes.0.iter().map(one).collect()
}

fn tag(key: &str, form: &str, value: Json) -> Json {
    json!({"key": key, "type": form, "value": value})
}

proptest! {
    #[test]
    fn a_legal_journey_stays_legal_in_jaegers_answer(journey in random_journeys()) {
        let trace = journeys::trace(&journey, Detail::Phases, None);
        let report = check(&read(&jaeger(&trace))[0]);
        prop_assert_eq!(report.journeys, 1);
        prop_assert!(report.is_legal(), "{}", report);
    }

    #[test]
    fn no_edit_of_a_file_makes_reading_checking_or_drawing_panic(
        journey in random_journeys(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..8), 1..6),
    ) {
        let mut document = otlp::write(&[journeys::trace(&journey, Detail::Phases, None)]);
        for (index, edit) in edits {
            let mut leaves = Vec::new();
            collect(&mut document, &mut leaves);
            let count = leaves.len();
            *leaves.swap_remove(index.index(count)) = strange(edit);
        }
        for trace in Trace::read(&document.to_string()).unwrap_or_default() {
            let report = check(&trace);
            prop_assert!(!report.to_string().is_empty());
            let drawing = draw(&trace, Style { width: 0, color: false });
            prop_assert!(!drawing.is_empty());
        }
    }
}

fn collect<'a>(json: &'a mut Json, leaves: &mut Vec<&'a mut Json>) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(|item| collect(item, leaves)),
        Json::Object(members) => members.values_mut().for_each(|member| collect(member, leaves)),
        leaf => leaves.push(leaf),
    }
}

fn strange(which: usize) -> Json {
    let values =
        [json!("18446744073709551615"), json!(0), json!(-1), json!(""), json!("NaN"), json!(null), json!({}), json!(1e300)];
    values[which].clone()
}

#[test]
fn lists_kinds_and_scopes_come_back_from_jaegers_tags() {
    let [trace] = &read(&jaeger(&good()))[..] else { panic!("one trace") };
    let request = &trace.spans[0];
    assert_eq!((request.kind, request.scope.as_ref()), (SpanKind::Server, "sojourn.api"));
    let reasons = request.attributes.get(attribute::PREEMPT_REASONS);
    assert_eq!(reasons, Some(&Value::Strings(vec!["kv_exhausted".into()])));
    assert_eq!(request.attributes.get("span.kind"), None);
    assert_eq!(request.resource.text(attribute::SERVICE_NAME), Some("smollm"));
}

#[test]
fn an_error_comes_back_from_jaegers_tags() {
    let trace = journeys::trace(&journeys::failed(), Detail::Phases, Some(500));
    let [read] = &read(&jaeger(&trace))[..] else { panic!("one trace") };
    assert_eq!(read.spans[0].status, trace.spans[0].status);
}

#[test]
fn events_at_one_instant_are_told_in_the_order_of_the_lifecycle() {
    let core = journeys::Core::new(1, 4)
        .queued(1.0)
        .scheduled(1.0, 1)
        .first_token(1.0, 1)
        .preempted(1.0, 1, 1)
        .resumed(1.0, 2, 0, 1)
        .preempted(1.0, 2, 1)
        .resumed(1.0, 3, 1, 0)
        .finished(1.0, 3, 4, sojourn_contract::journey::FinishStatus::Length);
    let api = vec![
        journeys::api(0.0, sojourn_journey::record::ApiEvent::Arrived),
        journeys::api(1.0, sojourn_journey::record::ApiEvent::HandoffToCore),
        journeys::api(1.0, sojourn_journey::record::ApiEvent::FirstResponseFromCore),
        journeys::api(1.0, sojourn_journey::record::ApiEvent::Departed),
    ];
    let journey = journeys::journey(api, vec![core]);
    let trace = read(&jaeger(&journeys::trace(&journey, Detail::Phases, Some(200)))).remove(0);
    let report = check(&trace);
    assert!(report.is_legal(), "{report}");
    assert_eq!(recover::journeys(&trace)[0].journey().expect("a journey").cores, journey.cores);
}

#[test]
fn jaegers_third_api_and_tempo_wrap_otlp() {
    let otlp = otlp::write(&[good()]);
    let batches = otlp["resourceSpans"].clone();
    let answers =
        [json!({"result": otlp}), json!({"trace": otlp}), json!({"trace": {"batches": batches}}), json!({"batches": batches})];
    for answer in answers {
        assert_eq!(recover::journeys(&read(&answer)[0]).len(), 1);
    }
}

#[test]
fn protobufs_own_json_has_ids_in_base64_and_enums_in_words() {
    let span = json!({
        "traceId": "S/kvNXezTaajzpKdDg5HNg==",
        "spanId": "AQIDBAUGBwg=",
        "name": "llm_request",
        "kind": "SPAN_KIND_SERVER",
        "startTimeUnixNano": 5,
        "endTimeUnixNano": "6",
        "status": {"code": "STATUS_CODE_ERROR", "message": "no"},
    });
    let [trace] = &read(&json!({"batches": [{"scopeSpans": [{"spans": [span]}]}]}))[..] else { panic!("one trace") };
    let span = &trace.spans[0];
    assert_eq!((span.trace_id, span.span_id), (journeys::TRACE_ID, journeys::REQUEST_SPAN_ID));
    assert_eq!((span.kind, &span.status), (SpanKind::Server, &Status::Error("no".into())));
    assert_eq!((span.start_unix_nanos, span.end_unix_nanos, span.parent_span_id), (5, 6, None));
}

#[test]
fn a_file_of_the_collector_has_one_request_a_line() {
    let trace = good();
    let line = |spans: &[Span]| otlp::write(&[Trace { spans: spans.to_vec() }]).to_string();
    let mut other = trace.spans[0].clone();
    other.trace_id = 7;
    let text = [line(&trace.spans[..2]), line(&[other]), line(&trace.spans[2..])].join("\n");
    let traces = Trace::read(&text).expect("traces");
    assert_eq!(traces.iter().map(Trace::id).collect::<Vec<_>>(), [journeys::TRACE_ID, 7]);
    assert!(check(&traces[0]).is_legal());
}

#[test]
fn what_is_no_trace_is_refused_with_what_was_expected() {
    let message = |text: &str| Trace::read(text).expect_err("no trace").to_string();
    assert!(matches!(Trace::read(" \n"), Err(ReadError::Empty)));
    assert!(matches!(Trace::read("{\"data\": ["), Err(ReadError::Syntax(_))));
    assert!(matches!(Trace::read("{}"), Err(ReadError::NoSpans)));
    assert!(matches!(Trace::read(r#"{"resourceSpans": 3}"#), Err(ReadError::Malformed { form: "OTLP JSON", .. })));
    assert!(message(r#"{"kind": "List", "items": []}"#).ends_with("found an object with kind, items"));
    assert!(message("[]").contains("Zipkin"));
    let refusal = r#"{"data": null, "errors": [{"code": 404, "msg": "trace not found"}]}"#;
    assert_eq!(message(refusal), "the backend answered with an error instead of a trace: trace not found");
}

/// `preempted.json`, posted to a collector 0.161 (OTLP over HTTP) and written by its file exporter.
#[test]
fn what_a_collector_wrote_is_the_journey_that_it_got() {
    let [sent] = &Trace::read(include_str!("traces/preempted.json")).expect("a trace")[..] else { panic!("one trace") };
    let [kept] = &Trace::read(include_str!("traces/collector-0.161.json")).expect("a trace")[..] else { panic!("one trace") };
    assert_eq!(kept, sent);
    assert_eq!(check(kept).to_string(), "1 journey, legal");
}
