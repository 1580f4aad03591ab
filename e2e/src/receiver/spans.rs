//! What an OTLP request says, in the words of `sojourn_journey`. Pure.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, status::StatusCode};
use sojourn_journey::trace::{Attributes, Event, Span, SpanKind, Status, Trace, Value};

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
