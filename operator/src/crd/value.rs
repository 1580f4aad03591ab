//! Values with a grammar, kept as the text that the user wrote: durations, percentages, amounts. The schema refuses what
//! does not parse; reading them again never fails a watch.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A span of time as Kubernetes writes it: `500ms`, `2s`, `1m30s`, `2h`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub String);

impl Span {
    /// Its length in seconds; `None` for a text of another form.
    pub fn seconds(&self) -> Option<f64> {
        let parsed: kube::core::Duration = self.0.parse().ok()?;
        (!self.0.is_empty() && !parsed.is_negative()).then(|| std::time::Duration::from(parsed).as_secs_f64())
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",
                "message": "write a duration such as 500ms, 2s, 1m30s or 2h",
            }],
        })
    }
}

/// A percentage as text, `0%` to `100%`, with up to four decimals: a float in YAML would not say what it is a part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percentage(pub String);

impl Percentage {
    /// Its number, 0 to 100; `None` for a text of another form.
    pub fn percent(&self) -> Option<f64> {
        let digits = self.0.strip_suffix('%')?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let number: f64 = digits.parse().ok()?;
        (plain && decimals <= 4 && (0.0..=100.0).contains(&number)).then_some(number)
    }
}

impl JsonSchema for Percentage {
    fn schema_name() -> Cow<'static, str> {
        "Percentage".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 16,
            "x-kubernetes-validations": [{
                "rule": r"self.matches('^(100([.]0{1,4})?|[0-9]{1,2}([.][0-9]{1,4})?)%$')",
                "message": "write a percentage from 0% to 100% with at most four decimals, for example 10% or 0.5%",
            }],
        })
    }
}

/// A quantity (`500m`, `1Gi`) or a count; YAML's numbers are taken as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Amount(pub String);

impl Amount {
    /// As a resource quantity.
    pub fn quantity(&self) -> Quantity {
        Quantity(self.0.clone())
    }

    /// As a number of pods or a percentage of them.
    pub fn int_or_string(&self) -> IntOrString {
        self.0.parse().map_or_else(|_| IntOrString::String(self.0.clone()), IntOrString::Int)
    }

    /// Whether it is 0 or 0 %.
    pub fn is_zero(&self) -> bool {
        matches!(self.0.as_str(), "0" | "0%")
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            other => Err(serde::de::Error::custom(format!("a number or a text is needed, not {other}"))),
        }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}

/// Schema of an object whose fields the API server does not look at.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_seconds() {
        for (text, seconds) in [("500ms", 0.5), ("2s", 2.0), ("1m30s", 90.0), ("2h", 7200.0), ("1.5s", 1.5)] {
            assert_eq!(Span(text.into()).seconds(), Some(seconds), "{text}");
        }
        for text in ["", "2", "two seconds", "-1s"] {
            assert_eq!(Span(text.into()).seconds(), None, "{text}");
        }
    }

    #[test]
    fn a_percentage_has_its_number_and_at_most_four_decimals() {
        for (text, number) in [("0%", 0.0), ("100%", 100.0), ("0.0001%", 0.0001), ("10%", 10.0)] {
            assert_eq!(Percentage(text.into()).percent(), Some(number), "{text}");
        }
        for text in ["10", "101%", "-1%", "0.00001%", "1e1%", "%"] {
            assert_eq!(Percentage(text.into()).percent(), None, "{text}");
        }
    }

    #[test]
    fn an_amount_is_a_text_or_a_number() {
        let amounts: Vec<Amount> = serde_json::from_str(r#"["500m", 2, 0.5, 4294967296]"#).unwrap();
        let texts: Vec<&str> = amounts.iter().map(|amount| amount.0.as_str()).collect();
        assert_eq!(texts, ["500m", "2", "0.5", "4294967296"]);
    }
}
