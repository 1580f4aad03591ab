//! One streaming request on the real model, from the client's own trace to the backend and back.

use anyhow::Result;
use kube::ResourceExt;
use sojourn_contract::{attribute, event, journey};
use sojourn_e2e::chat::{Caller, Question};
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::Manifest;
use sojourn_journey::check::check;

#[tokio::test]
async fn traces_a_request_end_to_end() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("trace-end-to-end").await?;
    let service = namespace.apply(&Manifest::smollm("smollm").with("tracing.baggage", vec!["session.id"]).yaml()).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    let (chat, tunnel) = service.chat().await?;

    let caller = Caller::new(true);
    let answer =
        chat.ask(Question::new("Why is the sky blue?").streaming().within(&caller).carrying("session.id=s-1"), |_| {}).await?;
    assert_eq!((answer.status, answer.trace_id.as_str()), (200, caller.trace_id.as_str()));

    let trace = lab.jaeger.trace(&caller.trace_id, 1).await?;
    let request = trace.spans.iter().find(|span| span.name == journey::LLM_REQUEST).expect("waited for");
    let core = trace.spans.iter().find(|span| span.name == journey::LLM_CORE).expect("a core span");
    assert_eq!(request.parent_span_id.map(|id| format!("{id:016x}")), Some(caller.span_id));
    assert_eq!(core.parent_span_id, Some(request.span_id));

    let report = check(&trace);
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    let names = |span: &sojourn_journey::trace::Span| {
        span.events_in_order().iter().map(|event| event.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(request), [event::ARRIVED, event::HANDOFF_TO_CORE, event::FIRST_RESPONSE_FROM_CORE, event::DEPARTED]);
    assert_eq!(names(core), [event::QUEUED, event::SCHEDULED, event::FIRST_TOKEN, event::FINISHED]);

    let usage = answer.usage.expect("asked for");
    assert_eq!(request.attributes.int(attribute::USAGE_INPUT_TOKENS), usage["prompt_tokens"].as_i64());
    assert_eq!(request.attributes.int(attribute::USAGE_OUTPUT_TOKENS), usage["completion_tokens"].as_i64());
    let finished = *core.events_in_order().last().expect("four events");
    assert_eq!(finished.attributes.int(attribute::DECODE_DONE_TOKENS), usage["completion_tokens"].as_i64());

    assert_eq!(request.attributes.text("session.id"), Some("s-1"));
    let pod = service.pod().await?;
    let resource = |key| request.resource.text(key).map(str::to_owned);
    assert_eq!(resource(attribute::SERVICE_NAME).as_deref(), Some("smollm"));
    assert_eq!(resource(attribute::K8S_POD_NAME), Some(pod.name_any()));
    assert_eq!(resource(attribute::K8S_POD_UID), pod.metadata.uid.clone());
    assert_eq!(resource(attribute::SERVICE_INSTANCE_ID), Some(format!("{}.{}.main", namespace.name, pod.name_any())));
    assert_eq!(resource(attribute::SERVICE_VERSION).as_deref(), Some("dev"));

    service.becomes("TelemetryReady", Lab::PATIENCE, |_| {}).await?;
    drop(tunnel);
    namespace.delete().await
}
