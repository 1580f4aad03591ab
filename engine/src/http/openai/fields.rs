//! Fields of a JSON object, taken one by one: null counts as absent, and what is of another type or out of range is an
//! error that names the field and says what to write. Values are never echoed: they may be somebody's prompt.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::super::error::ApiError;

/// The fields that nobody has taken yet.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Parses a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::invalid_json("the body must be a JSON object")),
            Err(error) => Err(ApiError::invalid_json(format!("the body is not JSON: {error}"))),
        }
    }

    /// The fields of an object.
    pub fn of(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// Any value.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(must_be(name, "a string")),
        }
    }

    /// True or false.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(must_be(name, "true or false")),
        }
    }

    /// A number in a range.
    pub fn number(&mut self, name: &'static str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
        let number = self.take(name).map(|value| value.as_f64().filter(|number| range.contains(number)));
        match number {
            None => Ok(None),
            Some(Some(number)) => Ok(Some(number as f32)),
            Some(None) => Err(must_be(name, format!("a number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A whole number in a range; `1.0` is one too.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match whole(&value).filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None if *range.end() == i64::MAX => Err(must_be(name, format!("a whole number from {}", range.start()))),
            None => Err(must_be(name, format!("a whole number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A count: a whole number from `least` that fits 32 bits.
    pub fn count(&mut self, name: &'static str, least: u32) -> Result<Option<u32>, ApiError> {
        let count = self.integer(name, i64::from(least)..=i64::from(u32::MAX))?;
        Ok(count.and_then(|count| u32::try_from(count).ok()))
    }

    /// An object.
    pub fn object(&mut self, name: &'static str) -> Result<Option<Map<String, Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(must_be(name, "an object")),
        }
    }

    /// A list.
    pub fn list(&mut self, name: &'static str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(must_be(name, "an array")),
        }
    }

    /// Refuses a field unless its value asks for nothing.
    pub fn refuse(&mut self, name: &'static str, harmless: impl FnOnce(&Value) -> bool) -> Result<(), ApiError> {
        match self.take(name) {
            Some(value) if !harmless(&value) => {
                Err(ApiError::unsupported(name, format!("'{name}' is not supported by this engine yet; leave it out")))
            }
            _ => Ok(()),
        }
    }
}

/// The error of a field with a wrong value.
pub fn must_be(name: &'static str, what: impl Display) -> ApiError {
    ApiError::invalid(name, format!("'{name}' must be {what}"))
}

/// A number without a fraction.
pub fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9.0e15)?;
        Some(number as i64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn null_counts_as_absent() {
        let mut fields = fields(r#"{"a": null}"#);
        assert_eq!(fields.text("a").unwrap(), None);
        assert_eq!(fields.text("b").unwrap(), None);
    }

    #[test]
    fn a_wrong_value_names_its_field_and_what_to_write() {
        let mut fields = fields(r#"{"t": 3, "n": 1.5, "s": 1, "m": -1}"#);
        let messages = [
            fields.number("t", 0.0..=2.0).unwrap_err().message,
            fields.integer("n", 1..=8).unwrap_err().message,
            fields.text("s").unwrap_err().message,
            fields.count("m", 0).unwrap_err().message,
        ];
        assert_eq!(
            messages,
            [
                "'t' must be a number from 0 to 2",
                "'n' must be a whole number from 1 to 8",
                "'s' must be a string",
                "'m' must be a whole number from 0 to 4294967295",
            ]
        );
    }

    #[test]
    fn a_whole_float_is_an_integer() {
        assert_eq!(fields(r#"{"n": 2.0}"#).integer("n", 1..=8).unwrap(), Some(2));
    }

    #[test]
    fn a_field_that_asks_for_nothing_is_not_refused() {
        let mut fields = fields(r#"{"a": [], "b": [1]}"#);
        let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        assert!(fields.refuse("a", empty).is_ok());
        assert_eq!(fields.refuse("b", empty).unwrap_err().code, "unsupported_parameter");
        assert!(fields.refuse("c", empty).is_ok());
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        for body in ["", "[1]", "\"a\"", "{\"a\":"] {
            assert_eq!(Fields::parse(body.as_bytes()).err().map(|error| error.code), Some("invalid_json"), "{body}");
        }
    }
}
