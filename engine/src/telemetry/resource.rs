//! The resource of every span: who emitted it. Pure: the environment is an argument. (opentelemetry's own detector does
//! not decode percent-encoded values, as the specification asks.)

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;
use sojourn_contract::attribute;
use sojourn_contract::env::{OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME};

/// Name of the service where nobody gave it one.
pub const DEFAULT_SERVICE_NAME: &str = "sojourn-engine";

/// Builds the resource from `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, which win over the defaults in this order.
pub fn resource(env: impl Fn(&str) -> Option<String>) -> Resource {
    let mut attributes = vec![
        KeyValue::new(attribute::SERVICE_NAME, DEFAULT_SERVICE_NAME),
        KeyValue::new(attribute::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        KeyValue::new("telemetry.sdk.language", "rust"),
    ];
    if let Some(text) = env(OTEL_RESOURCE_ATTRIBUTES) {
        attributes.extend(parse(&text));
    }
    if let Some(name) = env(OTEL_SERVICE_NAME).filter(|name| !name.is_empty()) {
        attributes.push(KeyValue::new(attribute::SERVICE_NAME, name));
    }
    // Of several values of a key the last one counts.
    Resource::builder_empty().with_attributes(attributes).build()
}

/// Pairs `key=value`, comma-separated; pairs of another form are left out.
fn parse(text: &str) -> impl Iterator<Item = KeyValue> {
    text.split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let key = percent_decode(key.trim());
        (!key.is_empty()).then(|| KeyValue::new(Key::from(key), percent_decode(value.trim())))
    })
}

/// Decodes `%41`; what is no valid escape stays as it is, what is no UTF-8 becomes U+FFFD.
pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(pairs: &[(&str, &str)], key: &'static str) -> Option<String> {
        let env = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        resource(env).get(&Key::from_static_str(key)).map(|v| v.to_string())
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
        assert_eq!(value(&[list, (OTEL_SERVICE_NAME, "")], "team").as_deref(), Some("search"));
    }

    #[test]
    fn values_are_percent_decoded() {
        let pairs = [(OTEL_RESOURCE_ATTRIBUTES, "a=x%2Cy%3Dz, b = Gr%C3%BC%C3%9Fe ,c=100%,nonsense,d=")];
        assert_eq!(value(&pairs, "a").as_deref(), Some("x,y=z"));
        assert_eq!(value(&pairs, "b").as_deref(), Some("Grüße"));
        assert_eq!(value(&pairs, "c").as_deref(), Some("100%"));
        assert_eq!(value(&pairs, "d").as_deref(), Some(""));
        assert_eq!(value(&pairs, "nonsense"), None);
    }
}
