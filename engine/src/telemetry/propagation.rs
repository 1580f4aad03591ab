//! Which headers say who called: `OTEL_PROPAGATORS`. Pure.
//!
//! The formats are read in the order in which they are named, and a later one that says something replaces what an earlier
//! one said, as in OpenTelemetry's SDKs. Headers that do not follow their format are ignored.

use std::sync::Arc;

use http::HeaderMap;
use sojourn_journey::trace::Attributes;

use super::environment::Environment;
use super::{b3, baggage, jaeger, w3c};

/// The span that a request was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// Its trace.
    pub trace_id: u128,
    /// The span itself.
    pub span_id: u64,
    /// Whether the caller records it.
    pub sampled: bool,
    /// W3C `tracestate`, carried on; empty without one.
    pub state: String,
}

/// One way to write a caller's context into headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// W3C Trace Context.
    TraceContext,
    /// W3C Baggage.
    Baggage,
    /// Zipkin's, in one header or in several.
    B3,
    /// Jaeger's.
    Jaeger,
}

/// Reads callers' headers; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propagators(Arc<[Format]>);

impl Default for Propagators {
    fn default() -> Self {
        Self(Arc::new([Format::TraceContext, Format::Baggage]))
    }
}

impl Propagators {
    /// Reads `OTEL_PROPAGATORS`; names that are not known are warned of and left out.
    pub fn read(env: &Environment<'_>) -> Self {
        const NAME: &str = "OTEL_PROPAGATORS";
        let Some(list) = env.get(NAME) else { return Self::default() };
        let mut formats = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let format = match name {
                "tracecontext" => Format::TraceContext,
                "baggage" => Format::Baggage,
                // Both read both, as the specification asks; they differ in what is sent, and nothing is sent from here.
                "b3" | "b3multi" => Format::B3,
                "jaeger" => Format::Jaeger,
                "none" => return Self(Arc::new([])),
                _ => {
                    let known = "tracecontext, baggage, b3, b3multi, jaeger and none";
                    env.warn(format!("{NAME} has '{name}', which is left out: known are {known}"));
                    continue;
                }
            };
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        Self(formats.into())
    }

    /// Who called; `None` where no header says it.
    pub fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let read = |format: &Format| match format {
            Format::TraceContext => w3c::caller(headers),
            Format::B3 => b3::caller(headers),
            Format::Jaeger => jaeger::caller(headers),
            Format::Baggage => None,
        };
        self.0.iter().rev().find_map(read)
    }

    /// The wanted members of the caller's baggage.
    pub fn baggage(&self, headers: &HeaderMap, wanted: &[String]) -> Attributes {
        if self.0.contains(&Format::Baggage) { baggage::members(headers, wanted) } else { Attributes::default() }
    }
}

/// A number of exactly so many lower-case hexadecimal digits.
pub(super) fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let valid = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if valid { u128::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W3C: (&str, &str) = ("traceparent", "00-00000000000000000000000000000001-0000000000000001-01");
    const B3: (&str, &str) = ("b3", "0000000000000002-0000000000000002-1");
    const JAEGER: (&str, &str) = ("uber-trace-id", "3:3:0:1");

    fn read(value: &str) -> (Propagators, Vec<String>) {
        let lookup = |name: &str| (name == "OTEL_PROPAGATORS").then(|| value.to_owned());
        let environment = Environment::new(&lookup);
        (Propagators::read(&environment), environment.into_warnings())
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn trace(propagators: &str, pairs: &[(&str, &str)]) -> Option<u128> {
        read(propagators).0.caller(&headers(pairs)).map(|caller| caller.trace_id)
    }

    #[test]
    fn unset_is_w3c_with_baggage() {
        assert_eq!(read("").0, Propagators::default());
        assert_eq!(read("").0, read("tracecontext, baggage").0);
        assert_eq!(trace("", &[W3C, B3, JAEGER]), Some(1));
        assert_eq!(trace("", &[B3, JAEGER]), None);
    }

    #[test]
    fn only_the_named_formats_are_read() {
        assert_eq!(trace("b3", &[W3C, B3]), Some(2));
        assert_eq!(trace("b3multi", &[B3]), Some(2));
        assert_eq!(trace("jaeger", &[W3C, B3, JAEGER]), Some(3));
        assert_eq!(trace("none", &[W3C, B3, JAEGER]), None);
        assert_eq!(trace("baggage", &[W3C]), None);
    }

    #[test]
    fn a_later_format_replaces_what_an_earlier_one_said() {
        assert_eq!(trace("tracecontext,b3", &[W3C, B3]), Some(2));
        assert_eq!(trace("b3,tracecontext", &[W3C, B3]), Some(1));
        assert_eq!(trace("tracecontext,b3", &[W3C, ("b3", "nonsense")]), Some(1));
    }

    #[test]
    fn baggage_is_read_where_it_is_named() {
        let (headers, wanted) = (headers(&[("baggage", "k=v")]), ["k".to_owned()]);
        let count = |propagators| read(propagators).0.baggage(&headers, &wanted).0.len();
        assert_eq!((count("b3,baggage"), count("tracecontext"), count("none")), (1, 0, 0));
    }

    #[test]
    fn unknown_names_are_left_out_with_a_warning_that_lists_the_known_ones() {
        let (propagators, warnings) = read("xray,b3,b3multi");
        assert_eq!(propagators, read("b3").0);
        let expected =
            "OTEL_PROPAGATORS has 'xray', which is left out: known are tracecontext, baggage, b3, b3multi, jaeger and none";
        assert_eq!(warnings, [expected]);
    }
}
