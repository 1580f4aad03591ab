//! An OTLP receiver in this process: keeps every request as it came, acknowledges it, and does nothing else meanwhile, so
//! that it takes as little of the machine as it can from what is measured.

use std::convert::Infallible;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, status::StatusCode};
use prost::Message;
use sojourn_journey::trace::{Attributes, Event, Span, SpanKind, Status, Trace, Value};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Length of gRPC's frame head: a compression flag and four bytes of length.
const GRPC_HEAD: usize = 5;

/// Takes OTLP over gRPC on a free port of loopback until it is dropped.
pub struct Receiver {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    received: Arc<Mutex<Vec<Bytes>>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Starts one that takes everything.
    pub async fn start() -> Result<Self> {
        Self::answering("0").await
    }

    /// Starts one that keeps everything and refuses it for good (INVALID_ARGUMENT).
    pub async fn refusing() -> Result<Self> {
        Self::answering("3").await
    }

    async fn answering(status: &'static str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot open a port for OTLP")?;
        let url = format!("http://{}", listener.local_addr()?);
        let received = Arc::<Mutex<Vec<Bytes>>>::default();
        let of_task = received.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let received = of_task.clone();
                let service = service_fn(move |request| answer(request, received.clone(), status));
                tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { url, received, task })
    }

    /// The requests that came since the last call, decoded.
    pub fn take(&self) -> Result<Vec<ExportTraceServiceRequest>> {
        let received = std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner));
        received.into_iter().map(decode).collect()
    }
}

/// One gRPC message, which may be compressed.
fn decode(mut body: Bytes) -> Result<ExportTraceServiceRequest> {
    let compressed = body.first() == Some(&1);
    body.advance(GRPC_HEAD.min(body.len()));
    if compressed {
        let mut plain = Vec::new();
        GzDecoder::new(&body[..]).read_to_end(&mut plain).context("what came is no gzip")?;
        body = plain.into();
    }
    ExportTraceServiceRequest::decode(body).context("what came is no OTLP")
}

async fn answer(
    request: Request<Incoming>,
    received: Arc<Mutex<Vec<Bytes>>>,
    status: &'static str,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    received.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))]);
    let empty_message = Full::new(Bytes::from_static(&[0; GRPC_HEAD])).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(empty_message.boxed_unsync());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// The spans of a request as traces, each once.
pub fn traces(request: &ExportTraceServiceRequest) -> Vec<Trace> {
    let mut traces: Vec<Trace> = Vec::new();
    for resource_spans in &request.resource_spans {
        let resource = resource_spans.resource.as_ref().map(|resource| attributes(&resource.attributes)).unwrap_or_default();
        for scope_spans in &resource_spans.scope_spans {
            let scope = scope_spans.scope.as_ref().map(|scope| scope.name.clone()).unwrap_or_default();
            for span in &scope_spans.spans {
                let schema_url = Some(scope_spans.schema_url.clone()).filter(|url| !url.is_empty()).map(Into::into);
                let span = Span { scope: scope.clone().into(), schema_url, resource: resource.clone(), ..read_span(span) };
                match traces.iter_mut().find(|trace| trace.id() == span.trace_id) {
                    Some(trace) => trace.spans.push(span),
                    None => traces.push(Trace { spans: vec![span] }),
                }
            }
        }
    }
    traces
}

fn read_span(span: &OtlpSpan) -> Span {
    let status = span.status.as_ref().map_or(Status::Unset, |status| match status.code() {
        StatusCode::Unset => Status::Unset,
        StatusCode::Ok => Status::Ok,
        StatusCode::Error => Status::Error(status.message.clone()),
    });
    let kinds = [SpanKind::Unspecified, SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer];
    Span {
        trace_id: number(&span.trace_id),
        span_id: number(&span.span_id) as u64,
        parent_span_id: Some(number(&span.parent_span_id) as u64).filter(|parent| *parent != 0),
        trace_state: span.trace_state.clone(),
        name: span.name.clone().into(),
        kind: usize::try_from(span.kind).ok().and_then(|kind| kinds.get(kind)).copied().unwrap_or(SpanKind::Consumer),
        start_unix_nanos: span.start_time_unix_nano,
        end_unix_nanos: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        events: span
            .events
            .iter()
            .map(|event| Event {
                name: event.name.clone().into(),
                unix_nanos: event.time_unix_nano,
                attributes: attributes(&event.attributes),
            })
            .collect(),
        dropped_events: span.dropped_events_count,
        status,
        ..Span::default()
    }
}

/// An id, big-endian; 0 for an empty one.
fn number(id: &[u8]) -> u128 {
    id.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn attributes(list: &[KeyValue]) -> Attributes {
    list.iter().filter_map(|pair| Some((pair.key.clone(), value(pair.value.as_ref()?)?))).collect()
}

fn value(value: &AnyValue) -> Option<Value> {
    Some(match value.value.as_ref()? {
        any_value::Value::BoolValue(value) => Value::Bool(*value),
        any_value::Value::IntValue(value) => Value::Int(*value),
        any_value::Value::DoubleValue(value) => Value::Float(*value),
        any_value::Value::StringValue(text) => Value::from(text.clone()),
        any_value::Value::ArrayValue(list) => {
            let texts = list.values.iter().map(|value| match value.value.as_ref() {
                Some(any_value::Value::StringValue(text)) => Some(text.clone()),
                _ => None,
            });
            texts.collect::<Option<_>>().map_or_else(|| Value::Other(format!("{list:?}")), Value::Strings)
        }
        other => Value::Other(format!("{other:?}")),
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    use super::*;

    #[test]
    fn the_spans_of_a_trace_come_together_whatever_their_scope() {
        let span = |trace: u8, id: u8| OtlpSpan {
            trace_id: vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, trace],
            span_id: vec![0, 0, 0, 0, 0, 0, 0, id],
            kind: 2,
            ..OtlpSpan::default()
        };
        let scope = |spans| ScopeSpans { spans, ..ScopeSpans::default() };
        let scope_spans = vec![scope(vec![span(1, 1), span(2, 2)]), scope(vec![span(1, 3)])];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let traces = traces(&ExportTraceServiceRequest { resource_spans });
        let ids: Vec<Vec<u64>> = traces.iter().map(|trace| trace.spans.iter().map(|span| span.span_id).collect()).collect();
        assert_eq!(ids, [vec![1, 3], vec![2]]);
        assert_eq!((traces[0].id(), traces[0].spans[0].kind), (0x0101, SpanKind::Server));
    }
}
