//! The resource of every span: who emitted it. Pure: the environment is an argument. (opentelemetry's own detector does not
//! decode percent-encoded values, as the specification asks.)

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use sojourn_contract::attribute;
use sojourn_contract::env::{OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME};

use super::environment::{Environment, percent_decode};

/// Name of the service where nobody gave it one.
pub const DEFAULT_SERVICE_NAME: &str = "sojourn-engine";

/// The resource of exported spans.
pub fn resource(attributes: Vec<(String, String)>) -> Resource {
    let attributes = attributes.into_iter().map(|(key, value)| KeyValue::new(key, value));
    Resource::builder_empty().with_attributes(attributes).build()
}

/// Reads the resource's attributes from `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, which win over the defaults in this
/// order.
pub fn attributes(env: &Environment<'_>) -> Vec<(String, String)> {
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let defaults = [
        (attribute::SERVICE_NAME, DEFAULT_SERVICE_NAME),
        (attribute::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.language", "rust"),
    ];
    let listed = env.get(OTEL_RESOURCE_ATTRIBUTES).map(|text| parse(&text, env)).unwrap_or_default();
    let named = env.get(OTEL_SERVICE_NAME).map(|name| (attribute::SERVICE_NAME.to_owned(), name));
    let mut attributes: Vec<(String, String)> = Vec::new();
    // Of several values of a key the last one counts.
    for (key, value) in defaults.map(own).into_iter().chain(listed).chain(named) {
        match attributes.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => attributes.push((key, value)),
        }
    }
    attributes
}

/// Pairs `key=value`, comma-separated and percent-encoded; what is no pair is warned of and left out.
fn parse(text: &str, env: &Environment<'_>) -> Vec<(String, String)> {
    let pair = |text: &str| {
        let pair = text.split_once('=').map(|(key, value)| (percent_decode(key.trim()), percent_decode(value.trim())));
        let pair = pair.filter(|(key, _)| !key.is_empty());
        if pair.is_none() {
            env.warn(format!("{OTEL_RESOURCE_ATTRIBUTES} has '{}', which is left out: write key=value", text.trim()));
        }
        pair
    };
    text.split(',').filter(|text| !text.trim().is_empty()).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Vec<(String, String)>, Vec<String>) {
        let lookup = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let environment = Environment::new(&lookup);
        let read = resource(attributes(&environment));
        let read = read.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        (read, environment.into_warnings())
    }

    fn value(pairs: &[(&str, &str)], key: &str) -> Option<String> {
        let mut values = read(pairs).0.into_iter().filter(|(known, _)| known == key);
        let value = values.next().map(|(_, value)| value);
        assert_eq!(values.next(), None, "a key is unique");
        value
    }

    #[test]
    fn the_service_has_a_name_without_any_variable() {
        assert_eq!(value(&[], "service.name").as_deref(), Some("sojourn-engine"));
    }

    #[test]
    fn the_variable_of_the_name_wins_over_the_list() {
        let list = (OTEL_RESOURCE_ATTRIBUTES, "service.name=listed,team=search");
        assert_eq!(value(&[list], "service.name").as_deref(), Some("listed"));
        assert_eq!(value(&[list, (OTEL_SERVICE_NAME, "smollm")], "service.name").as_deref(), Some("smollm"));
        assert_eq!(value(&[list, (OTEL_SERVICE_NAME, "")], "service.name").as_deref(), Some("listed"));
        assert_eq!(value(&[list, (OTEL_SERVICE_NAME, "smollm")], "team").as_deref(), Some("search"));
    }

    #[test]
    fn values_are_percent_decoded_and_what_is_no_pair_is_named() {
        let pairs = [(OTEL_RESOURCE_ATTRIBUTES, "a=x%2Cy%3Dz, b = Gr%C3%BC%C3%9Fe ,c=100%,nonsense,d=,")];
        assert_eq!(value(&pairs, "a").as_deref(), Some("x,y=z"));
        assert_eq!(value(&pairs, "b").as_deref(), Some("Grüße"));
        assert_eq!(value(&pairs, "c").as_deref(), Some("100%"));
        assert_eq!(value(&pairs, "d").as_deref(), Some(""));
        assert_eq!(value(&pairs, "nonsense"), None);
        assert_eq!(read(&pairs).1, ["OTEL_RESOURCE_ATTRIBUTES has 'nonsense', which is left out: write key=value"]);
    }
}
