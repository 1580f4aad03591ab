//! Reads typed values from attributes, and says what is wrong with those that cannot be read.

use std::str::FromStr;

use sojourn_contract::attribute;
use sojourn_contract::journey::UnknownWord;

use crate::record::Stamp;
use crate::trace::{Attributes, Event, Span, Value};

/// Why a span cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Flaw {
    /// An event that its span does not have.
    #[error("{name} is no event of {span}")]
    UnknownEvent {
        /// The event.
        name: String,
        /// The span.
        span: &'static str,
    },
    /// An attribute that must be there is not.
    #[error("{place} has no {key}, which must be {expected}")]
    Missing {
        /// The span or the event.
        place: String,
        /// Name of the attribute.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
        /// The place is an event.
        on_event: bool,
    },
    /// An attribute has a value of another type.
    #[error("{key} on {place} is '{found}', but must be {expected}")]
    WrongType {
        /// The span or the event.
        place: String,
        /// Name of the attribute.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
        /// The place is an event.
        on_event: bool,
    },
    /// A text is none of the words that it may be.
    #[error("{key} on {place}: {word}")]
    UnknownWord {
        /// The span or the event.
        place: String,
        /// Name of the attribute.
        key: &'static str,
        /// What it is, and what it may be.
        word: UnknownWord,
    },
}

/// Reads typed values from the attributes of one place, and remembers what it could not read.
pub(super) struct Reader<'a> {
    place: &'a str,
    on_event: bool,
    attributes: &'a Attributes,
    /// What could not be read.
    pub(super) flaws: Vec<Flaw>,
}

impl<'a> Reader<'a> {
    pub(super) fn of_span(span: &'a Span) -> Self {
        Self { place: &span.name, on_event: false, attributes: &span.attributes, flaws: Vec::new() }
    }

    pub(super) fn of_event(event: &'a Event) -> Self {
        Self { place: &event.name, on_event: true, attributes: &event.attributes, flaws: Vec::new() }
    }

    pub(super) fn unknown_event<T>(&mut self, span: &'static str) -> Option<T> {
        self.flaws.push(Flaw::UnknownEvent { name: self.place.to_owned(), span });
        None
    }

    pub(super) fn stamp(&mut self, event: &Event) -> Option<Stamp> {
        let monotonic = self.seconds(attribute::TS_MONOTONIC)?;
        Some(Stamp { unix_nanos: event.unix_nanos, monotonic })
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        self.value(key, "a text", |value| match value {
            Value::String(text) => Some(text.as_ref()),
            _ => None,
        })
    }

    pub(super) fn count<N: TryFrom<i64>>(&mut self, key: &'static str) -> Option<N> {
        self.value(key, "a whole number, not negative", |value| match value {
            Value::Int(number) => N::try_from(*number).ok(),
            _ => None,
        })
    }

    pub(super) fn seconds(&mut self, key: &'static str) -> Option<f64> {
        self.value(key, "a floating-point number of seconds", |value| match value {
            Value::Float(seconds) if seconds.is_finite() => Some(*seconds),
            _ => None,
        })
    }

    pub(super) fn word<T: FromStr<Err = UnknownWord>>(&mut self, key: &'static str) -> Option<T> {
        let text = self.text(key)?;
        self.parsed(key, text)
    }

    pub(super) fn words<T: FromStr<Err = UnknownWord>>(&mut self, key: &'static str) -> Option<Vec<T>> {
        let texts = self.value(key, "a list of texts", |value| match value {
            Value::Strings(texts) => Some(texts),
            _ => None,
        })?;
        texts.iter().map(|text| self.parsed(key, text)).collect()
    }

    fn parsed<T: FromStr<Err = UnknownWord>>(&mut self, key: &'static str, text: &str) -> Option<T> {
        let word = text.parse().map_err(|word| Flaw::UnknownWord { place: self.place.to_owned(), key, word });
        word.map_err(|flaw| self.flaws.push(flaw)).ok()
    }

    pub(super) fn if_present<T>(&mut self, key: &'static str, read: fn(&mut Self, &'static str) -> Option<T>) -> Option<T> {
        self.attributes.get(key).is_some().then(|| read(self, key)).flatten()
    }

    fn value<T>(&mut self, key: &'static str, expected: &'static str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let (place, on_event) = (self.place.to_owned(), self.on_event);
        let Some(value) = self.attributes.get(key) else {
            self.flaws.push(Flaw::Missing { place, key, expected, on_event });
            return None;
        };
        let read = read(value);
        if read.is_none() {
            self.flaws.push(Flaw::WrongType { place, key, expected, found: value.to_string(), on_event });
        }
        read
    }
}
