//! Bytes that a kept journey costs on the way to the backend.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message;
use serde_json::json;
use sojourn_contract::attribute;
use sojourn_contract::journey::LLM_REQUEST;
use tokio::task::JoinSet;

use super::prompts::Prompts;
use super::report::{Bound, Section, Table, Unit, Verdict};
use super::subject::{Subject, Tracing};
use super::{Part, Plan, say};
use crate::chat::{Caller, Chat, Question};
use crate::statistics::Spread;
use crate::wait::{self, Look};

/// Prompts are bytes to the scripted model, and answers as long as it says.
const MODEL: &str = "scripted:batch=16,block=16,blocks=65536,length=200";
const CLIENTS: usize = 8;
/// Spans in one request to the backend, at least: the batch size that the OpenTelemetry SDKs have by default.
const BATCH_SPANS: usize = 512;
const EXPORT_PATIENCE: Duration = Duration::from_secs(20);

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Size {
    journeys: usize,
    spans: usize,
    encoded: usize,
    compressed: Option<usize>,
}

/// Measures it.
pub async fn measure(plan: &Plan) -> Result<Section> {
    let mut table =
        Table::new(&["detail", "journeys", "spans a journey", "bytes a journey", "bytes a journey, gzip", "of one span, gzip"]);
    let mut verdicts = Vec::new();
    for (tracing, bound) in [(Tracing::Journey, 500.0), (Tracing::Phases, 1_000.0)] {
        say(&format!("bytes of a kept journey, {}", tracing.name()));
        let size = size(&requests(plan, tracing).await?)?;
        let each = |bytes: usize, of: usize| bytes as f64 / of.max(1) as f64;
        let compressed = size.compressed.map(|bytes| each(bytes, size.journeys));
        table.rows.push(vec![
            tracing.name().to_owned(),
            size.journeys.to_string(),
            Unit::Plain("").write(each(size.spans, size.journeys)),
            Unit::Whole("").write(each(size.encoded, size.journeys)),
            compressed.map_or("–".to_owned(), |bytes| Unit::Whole("").write(bytes)),
            size.compressed.map_or("–".to_owned(), |bytes| Unit::Whole("").write(each(bytes, size.spans))),
        ]);
        verdicts.push(Verdict {
            target: format!("a kept journey with {} in fewer than {bound:.0} bytes", tracing.name()),
            measured: compressed.and_then(|bytes| Spread::of(&[bytes])),
            bound: Bound::Below(bound),
            unit: Unit::Whole(" bytes"),
            limit: "Ids, times and durations, which differ in every journey, are what gzip cannot shrink.".into(),
        });
    }
    Ok(Section {
        title: Part::ExportSize.title(),
        how: format!(
            "Streamed chat answers of 20 to 200 tokens by the scripted model, half of them within a caller's trace, from an\n\
             engine with the resource attributes that the operator gives. What the engine sent was put together as the\n\
             sidecar's exporter does it: `journey.kept_by` and the sampler's `tracestate` on each span, requests joined until\n\
             there are {BATCH_SPANS} spans, one gzip stream (level 6) for each batch. HTTP/2's framing is not counted."
        ),
        tables: vec![table],
        verdicts,
        notes: Vec::new(),
    })
}

/// What the engine sends for the plan's number of journeys.
async fn requests(plan: &Plan, tracing: Tracing) -> Result<Vec<ExportTraceServiceRequest>> {
    let subject = Subject::start(MODEL, tracing, &[]).await?;
    let mut prompts = Prompts::default();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let questions: Vec<Question> = (0..plan.journeys / CLIENTS).map(|i| question(i, &prompts.draw())).collect();
        let chat = Chat::new(&subject.engine.url, "bench");
        clients.spawn(async move {
            for question in questions {
                chat.ask(question, |_| {}).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let mut requests = Vec::new();
    let wanted = plan.journeys / CLIENTS * CLIENTS;
    wait::quietly("all journeys have come", EXPORT_PATIENCE, async || {
        requests.extend(subject.receiver().take()?);
        let found = requests.iter().map(journeys).sum::<usize>();
        Ok(if found >= wanted { Look::Holds(()) } else { Look::NotYet(format!("{found} have come")) })
    })
    .await?;
    subject.engine.terminate().await?;
    Ok(requests)
}

fn question(index: usize, prompt: &str) -> Question {
    let tokens = 20 + (index * 37) % 181;
    let question = Question::new(prompt).with("max_tokens", json!(tokens)).streaming();
    if index.is_multiple_of(2) { question.within(&Caller::new(true)) } else { question }
}

fn spans(request: &ExportTraceServiceRequest) -> impl Iterator<Item = &Span> {
    request.resource_spans.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans)
}

fn journeys(request: &ExportTraceServiceRequest) -> usize {
    spans(request).filter(|span| span.name == LLM_REQUEST).count()
}

/// What the sidecar's sampler leaves on a span that the rate kept.
fn mark(mut resource_spans: ResourceSpans) -> ResourceSpans {
    for span in resource_spans.scope_spans.iter_mut().flat_map(|scope| &mut scope.spans) {
        let value = any_value::Value::StringValue("rate".to_owned());
        let kept_by = KeyValue {
            key: attribute::KEPT_BY.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        span.attributes.push(kept_by);
        span.trace_state = "ot=th:e668".to_owned();
    }
    resource_spans
}

/// Joins requests into batches, encodes and compresses each. Pure.
fn size(requests: &[ExportTraceServiceRequest]) -> Result<Size> {
    let mut size = Size::default();
    let mut batch = ExportTraceServiceRequest::default();
    let mut compressed = 0;
    for (index, request) in requests.iter().enumerate() {
        size.journeys += journeys(request);
        size.spans += spans(request).count();
        batch.resource_spans.extend(request.resource_spans.iter().cloned().map(mark));
        if spans(&batch).count() >= BATCH_SPANS || index + 1 == requests.len() {
            let encoded = std::mem::take(&mut batch).encode_to_vec();
            size.encoded += encoded.len();
            compressed += gzip(&encoded)?;
        }
    }
    size.compressed = (size.journeys > 0).then_some(compressed);
    Ok(size)
}

fn gzip(bytes: &[u8]) -> Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).context("cannot compress")?;
    Ok(encoder.finish().context("cannot compress")?.len())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

    use super::*;

    fn request(spans: usize) -> ExportTraceServiceRequest {
        let span = |i: usize| Span {
            name: if i.is_multiple_of(2) { LLM_REQUEST.into() } else { "llm_core".into() },
            ..Span::default()
        };
        let scope_spans = vec![ScopeSpans { spans: (0..spans).map(span).collect(), ..ScopeSpans::default() }];
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
    }

    #[test]
    fn small_requests_travel_together() {
        let many = size(&vec![request(2); 300]).unwrap();
        assert_eq!((many.journeys, many.spans), (300, 600));
        let one = size(&[request(2)]).unwrap();
        let each = |size: Size| size.compressed.unwrap() as f64 / size.journeys as f64;
        assert!(each(many) < each(one) / 4.0, "{many:?} {one:?}");
    }

    #[test]
    fn what_the_sampler_leaves_is_counted() {
        let marked = mark(request(1).resource_spans.remove(0));
        let span = &marked.scope_spans[0].spans[0];
        assert_eq!(span.attributes[0].key, attribute::KEPT_BY);
        assert!(size(&[request(1)]).unwrap().encoded > request(1).encoded_len());
    }

    #[test]
    fn no_journey_is_no_size() {
        assert_eq!(size(&[]).unwrap().compressed, None);
    }
}
