//! How many bytes spans take in an OTLP request, told without encoding them: as many as it is or a few more. Pure.

use opentelemetry::trace::{Event, Status};
use opentelemetry::{Array, Key, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;

/// What every span has: ids (18, 10 and 10 bytes), times (9 each), flags (6) and kind (2).
const SPAN: usize = 64;
/// A field of eight bytes with its tag.
const FIXED64: usize = 9;

/// A span in its message.
pub fn span(span: &SpanData) -> usize {
    let state = span.span_context.trace_state().into_iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    let events = span.events.events.iter().map(event).sum::<usize>();
    let counts = count(span.dropped_attributes_count) + count(span.events.dropped_count);
    let own = SPAN + bytes(state) + bytes(span.name.len()) + counts + status(&span.status);
    bytes(own + attributes(&span.attributes) + events)
}

/// A resource in its message.
pub fn resource(resource: &Resource) -> usize {
    bytes(resource.iter().map(|(key, value)| attribute(key, value)).sum())
}

fn event(event: &Event) -> usize {
    let own = FIXED64 + bytes(event.name.len()) + count(event.dropped_attributes_count);
    bytes(own + attributes(&event.attributes))
}

fn status(status: &Status) -> usize {
    let description = if let Status::Error { description } = status { description.len() } else { 0 };
    bytes(2 + bytes(description))
}

fn attributes(attributes: &[KeyValue]) -> usize {
    attributes.iter().map(|pair| attribute(&pair.key, &pair.value)).sum()
}

fn attribute(key: &Key, value: &Value) -> usize {
    bytes(bytes(key.as_str().len()) + any_value(value))
}

fn any_value(value: &Value) -> usize {
    bytes(match value {
        Value::Bool(_) => 2,
        Value::I64(number) => 1 + varint(number.cast_unsigned()),
        Value::F64(_) => FIXED64,
        Value::String(text) => bytes(text.as_str().len()),
        Value::Array(Array::String(texts)) => bytes(texts.iter().map(|text| bytes(bytes(text.as_str().len()))).sum()),
        // Nobody makes others, which are lists of numbers; a number takes no more than 13 bytes, and at least one in this text.
        other => bytes(13 * other.as_str().len()),
    })
}

/// A count, which is left out where it is zero.
fn count(count: u32) -> usize {
    if count == 0 { 0 } else { 1 + varint(count.into()) }
}

/// A field of so many bytes, with its tag and its length.
fn bytes(length: usize) -> usize {
    1 + varint(length as u64) + length
}

/// A number as protobuf writes it, in groups of seven bits.
fn varint(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span as Message};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message as _;
    use sojourn_journey::trace::{self, Attributes, Span, Text};

    use super::*;
    use crate::telemetry::limits::Limits;
    use crate::telemetry::resource;
    use crate::telemetry::spans::convert;

    /// Texts whose lengths need one, two and three bytes.
    fn text() -> impl Strategy<Value = String> {
        let length = prop_oneof![8 => 0_usize..40, 4 => 120_usize..140, 1 => 16_370_usize..16_390];
        (length, any::<char>()).prop_map(|(length, character)| character.to_string().repeat(length))
    }

    fn value() -> impl Strategy<Value = trace::Value> {
        prop_oneof![
            any::<bool>().prop_map(trace::Value::Bool),
            any::<i64>().prop_map(trace::Value::Int),
            (0_i64..300).prop_map(trace::Value::Int),
            any::<f64>().prop_map(trace::Value::Float),
            text().prop_map(|text| trace::Value::String(text.into())),
            vec(text(), 0..4).prop_map(trace::Value::Strings),
            text().prop_map(trace::Value::Other),
        ]
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        vec((text().prop_map(Text::from), value()), 0..6).prop_map(Attributes)
    }

    prop_compose! {
        fn event()(name in text(), unix_nanos in any::<u64>(), attributes in attributes()) -> trace::Event {
            trace::Event { name: name.into(), unix_nanos, attributes }
        }
    }

    prop_compose! {
        fn described()(
            name in text(),
            parent_span_id in any::<Option<u64>>(),
            trace_state in prop_oneof![Just(""), Just("ot=th:8"), Just("a=b,c@d=e")],
            error in proptest::option::of(text()),
            dropped_events in any::<u32>(),
            attributes in attributes(),
            events in vec(event(), 0..4),
        ) -> Span {
            let status = error.map_or(trace::Status::Unset, trace::Status::Error);
            let (trace_id, span_id, end_unix_nanos) = (1, 2, u64::MAX);
            let (name, trace_state) = (name.into(), trace_state.to_owned());
            let ids = Span { trace_id, span_id, parent_span_id, trace_state, end_unix_nanos, ..Span::default() };
            Span { name, status, attributes, events, dropped_events, ..ids }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_size_is_never_less_than_what_is_sent_and_little_more(described in described(), is_limited in any::<bool>()) {
            let few = Limits { span_attributes: 1, event_attributes: 1, events: 1, ..Limits::default() };
            let span = convert(described, &if is_limited { few } else { Limits::default() });
            let events = span.events.events.len();
            let told = super::span(&span);
            let sent = ScopeSpans { spans: vec![Message::from(span)], ..ScopeSpans::default() }.encoded_len();
            prop_assert!((sent..=sent + 40 + 16 * events).contains(&told), "{told} for {sent}");
        }
    }

    #[test]
    fn a_list_of_numbers_is_no_longer_than_is_told() {
        let longest = Value::Array(Array::I64(vec![-1; 50]));
        let sent = opentelemetry_proto::tonic::common::v1::AnyValue::from(longest.clone()).encoded_len();
        assert!(any_value(&longest) >= sent);
    }

    #[test]
    fn a_resource_is_as_long_as_it_is_told() {
        let attributes = [("service.name", "smollm"), ("team", "Größe")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let resource = resource::resource(attributes.into());
        let sent = opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema::from(&resource);
        let sent = opentelemetry_proto::tonic::resource::v1::Resource { attributes: sent.attributes.0, ..Default::default() };
        assert_eq!(super::resource(&resource), 2 + sent.encoded_len());
    }
}
