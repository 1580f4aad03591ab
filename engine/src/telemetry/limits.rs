//! The specification's limits on what a span holds (`OTEL_SPAN_*`, `OTEL_ATTRIBUTE_*`, `OTEL_EVENT_*`). Pure.
//!
//! The journey's facts come first among a span's attributes and its end is the last of its events, so that what sampling
//! rules and readers need most goes last. Spans have no links here, so their limits have nothing to do.

use sojourn_journey::trace::{Attributes, Event, Value};

use super::environment::Environment;

/// Most attributes and events, by the specification's default.
const DEFAULT_COUNT: usize = 128;

/// What a span may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attributes of a span.
    pub span_attributes: usize,
    /// Events of a span.
    pub events: usize,
    /// Attributes of an event.
    pub event_attributes: usize,
    /// Characters of a text among a span's attributes; `None` for no limit.
    pub span_value_length: Option<usize>,
    /// Characters of a text among an event's attributes; `None` for no limit.
    pub event_value_length: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            span_attributes: DEFAULT_COUNT,
            events: DEFAULT_COUNT,
            event_attributes: DEFAULT_COUNT,
            span_value_length: None,
            event_value_length: None,
        }
    }
}

impl Limits {
    /// Reads the variables; those of spans and events win over those of all attributes.
    pub fn read(env: &Environment<'_>) -> Self {
        const COUNT: &str = "OTEL_ATTRIBUTE_COUNT_LIMIT";
        const LENGTH: &str = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT";
        Self {
            span_attributes: env.count(&["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", COUNT]).unwrap_or(DEFAULT_COUNT),
            events: env.count(&["OTEL_SPAN_EVENT_COUNT_LIMIT"]).unwrap_or(DEFAULT_COUNT),
            event_attributes: env.count(&["OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", COUNT]).unwrap_or(DEFAULT_COUNT),
            span_value_length: env.count(&["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", LENGTH]),
            event_value_length: env.count(&[LENGTH]),
        }
    }

    /// Bounds a span's attributes; answers how many were dropped.
    pub fn bound_span(&self, attributes: &mut Attributes) -> u32 {
        bound(attributes, self.span_attributes, self.span_value_length)
    }

    /// Bounds an event's attributes; answers how many were dropped.
    pub fn bound_event(&self, attributes: &mut Attributes) -> u32 {
        bound(attributes, self.event_attributes, self.event_value_length)
    }

    /// Bounds a span's events; the last one stays, which says how the span ended. Answers how many were dropped.
    pub fn bound_events(&self, events: &mut Vec<Event>) -> u32 {
        let dropped = events.len().saturating_sub(self.events);
        if dropped > 0 {
            let last = events.len() - usize::from(self.events > 0);
            events.drain(last - dropped.min(last)..last);
        }
        u32::try_from(dropped).unwrap_or(u32::MAX)
    }
}

fn bound(attributes: &mut Attributes, count: usize, length: Option<usize>) -> u32 {
    let dropped = attributes.0.len().saturating_sub(count);
    attributes.0.truncate(count);
    if let Some(length) = length {
        attributes.0.iter_mut().for_each(|(_, value)| shorten(value, length));
    }
    u32::try_from(dropped).unwrap_or(u32::MAX)
}

fn shorten(value: &mut Value, characters: usize) {
    let cut = |text: &str| text.char_indices().nth(characters).map(|(end, _)| text[..end].to_owned());
    match value {
        Value::String(text) => {
            if let Some(shorter) = cut(text) {
                *text = shorter.into();
            }
        }
        Value::Strings(texts) => {
            for text in texts {
                if let Some(shorter) = cut(text) {
                    *text = shorter;
                }
            }
        }
        // Numbers have no length, and JSON that is cut is none.
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Other(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(pairs: &[(&str, &str)]) -> Limits {
        let lookup = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Limits::read(&Environment::new(&lookup))
    }

    #[test]
    fn unset_is_128_of_everything_and_texts_of_any_length() {
        assert_eq!(limits(&[]), Limits::default());
        assert_eq!((Limits::default().span_attributes, Limits::default().span_value_length), (128, None));
    }

    #[test]
    fn the_limit_of_spans_wins_over_that_of_all_attributes() {
        let all = [("OTEL_ATTRIBUTE_COUNT_LIMIT", "10"), ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5")];
        let read = limits(&all);
        assert_eq!((read.span_attributes, read.event_attributes), (10, 10));
        assert_eq!((read.span_value_length, read.event_value_length), (Some(5), Some(5)));
        let own = [
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3"),
            ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2"),
            ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "4"),
            ("OTEL_SPAN_EVENT_COUNT_LIMIT", "6"),
        ];
        let read = limits(&[all.as_slice(), own.as_slice()].concat());
        assert_eq!((read.span_attributes, read.event_attributes, read.events), (3, 4, 6));
        assert_eq!((read.span_value_length, read.event_value_length), (Some(2), Some(5)));
    }

    #[test]
    fn attributes_beyond_the_limit_are_dropped_from_the_end_and_texts_are_cut_at_a_character() {
        let limits = Limits { span_attributes: 2, span_value_length: Some(2), ..Limits::default() };
        let long = Value::Strings(vec!["abc".into(), "é".into()]);
        let mut attributes: Attributes = [("a", Value::from("ééé")), ("b", long), ("c", Value::Int(1))].into_iter().collect();
        assert_eq!(limits.bound_span(&mut attributes), 1);
        let expected = [("a", Value::from("éé")), ("b", Value::Strings(vec!["ab".into(), "é".into()]))];
        assert_eq!(attributes, expected.into_iter().collect());
    }

    #[test]
    fn of_too_many_events_the_last_one_stays() {
        let event = |name: &'static str| Event { name: name.into(), ..Event::default() };
        for (most, expected) in [(0, vec![]), (1, vec!["d"]), (2, vec!["a", "d"]), (4, vec!["a", "b", "c", "d"])] {
            let mut events = ["a", "b", "c", "d"].map(event).to_vec();
            let dropped = Limits { events: most, ..Limits::default() }.bound_events(&mut events);
            let names: Vec<&str> = events.iter().map(|event| event.name.as_ref()).collect();
            assert_eq!((names, dropped as usize), (expected, 4 - most));
        }
    }
}
