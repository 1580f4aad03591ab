//! W3C baggage in request headers: the members that were asked for become attributes of the journey. Pure.

use http::{HeaderMap, HeaderName};
use sojourn_journey::trace::{Attributes, Value};

use super::environment::percent_decode;

/// Header with what the caller put beside its trace context.
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Longest value that is copied, in bytes; a longer one is cut at a character.
const MAX_VALUE_BYTES: usize = 256;
/// Most members that are read, and most bytes of all headers together: what the specification asks everybody to carry.
const MAX_MEMBERS: usize = 64;
const MAX_BYTES: usize = 8192;

/// The wanted members that the caller sent, each once, in the order of `wanted`. What does not follow the specification is
/// ignored, and so are a member's properties.
pub fn members(headers: &HeaderMap, wanted: &[String]) -> Attributes {
    let lines = headers.get_all(BAGGAGE).iter().filter_map(|line| line.to_str().ok());
    let mut bytes = 0;
    let within = lines.flat_map(|line| line.split(',')).take_while(|member| {
        bytes += member.len() + 1;
        bytes <= MAX_BYTES + 1
    });
    let sent: Vec<(&str, &str)> = within.take(MAX_MEMBERS).filter_map(member).collect();
    let value = |name: &String| sent.iter().find(|(sent, _)| sent == name).map(|(_, value)| bounded(percent_decode(value)));
    wanted.iter().filter_map(|name| Some((name.clone(), Value::from(value(name)?)))).collect()
}

fn member(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split(';').next()?.split_once('=')?;
    Some((name.trim(), value.trim()))
}

fn bounded(mut value: String) -> String {
    let end = (0..=MAX_VALUE_BYTES.min(value.len())).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
    value.truncate(end);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], wanted: &[&str]) -> Vec<(String, String)> {
        let headers = lines.iter().map(|line| (BAGGAGE, line.parse().unwrap())).collect();
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let text = |value: &Value| if let Value::String(text) = value { text.to_string() } else { panic!("{value:?}") };
        members(&headers, &wanted).0.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn only_what_is_wanted_is_copied() {
        let lines = ["session.id=a%20b;secret=1 , user=u", "tenant.id = t"];
        assert_eq!(read(&lines, &["tenant.id", "session.id"]), [pair("tenant.id", "t"), pair("session.id", "a b")]);
        assert_eq!(read(&lines, &[]), []);
    }

    #[test]
    fn what_is_no_member_is_ignored_and_the_first_of_a_name_counts() {
        assert_eq!(read(&["nonsense,,=x,k=1,k=2"], &["k", "nonsense"]), [pair("k", "1")]);
    }

    #[test]
    fn a_value_is_bounded_and_no_character_is_split() {
        let line = format!("k={}", "%C3%A9".repeat(200));
        assert_eq!(read(&[&line], &["k"]), [pair("k", &"é".repeat(128))]);
    }

    #[test]
    fn what_is_beyond_the_specifications_limits_is_not_read() {
        let many = |others: usize| [vec!["a=b"; others].join(","), "k=v".to_owned()].join(",");
        assert_eq!(read(&[&many(63)], &["k"]).len(), 1);
        assert_eq!(read(&[&many(64)], &["k"]).len(), 0);
        let long = |bytes: usize| format!("a={},k=v", "x".repeat(bytes - "a=,k=v".len()));
        assert_eq!(read(&[&long(8192)], &["k"]).len(), 1);
        assert_eq!(read(&[&long(8193)], &["k"]).len(), 0);
    }
}
