//! Zipkin's B3 in headers: one header `b3`, or several `x-b3-*`. Pure.
//!
//! A caller that leaves the decision open counts as one that does not record, as in OpenTelemetry's SDKs. A decision without
//! ids names no caller.

use http::HeaderMap;

use super::propagation::{Caller, lower_hex};

/// Reads the caller; the single header goes first.
pub fn caller(headers: &HeaderMap) -> Option<Caller> {
    one(headers, "b3").and_then(|text| single(&text)).or_else(|| several(headers))
}

/// `{TraceId}-{SpanId}[-{SamplingState}[-{ParentSpanId}]]`
fn single(text: &str) -> Option<Caller> {
    let parts: Vec<&str> = text.split('-').collect();
    let (ids, state) = match parts.as_slice() {
        [trace_id, span_id] => ((*trace_id, *span_id), None),
        [trace_id, span_id, state] => ((*trace_id, *span_id), Some(*state)),
        [trace_id, span_id, state, parent] => {
            span(parent)?;
            ((*trace_id, *span_id), Some(*state))
        }
        _ => return None,
    };
    let sampled = match state {
        None | Some("0") => false,
        Some("1" | "d") => true,
        Some(_) => return None,
    };
    Some(Caller { trace_id: trace(ids.0)?, span_id: span(ids.1)?, sampled, state: String::new() })
}

fn several(headers: &HeaderMap) -> Option<Caller> {
    let (trace_id, span_id) = (one(headers, "x-b3-traceid")?, one(headers, "x-b3-spanid")?);
    let debug = one(headers, "x-b3-flags").is_some_and(|flags| flags == "1");
    // Old clients write words.
    let sampled = one(headers, "x-b3-sampled").is_some_and(|sampled| sampled == "1" || sampled.eq_ignore_ascii_case("true"));
    Some(Caller { trace_id: trace(&trace_id)?, span_id: span(&span_id)?, sampled: debug || sampled, state: String::new() })
}

/// A header that is there exactly once.
fn one(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { Some(value.trim().to_owned()) }
}

/// 64 or 128 bits; zero is none.
fn trace(text: &str) -> Option<u128> {
    lower_hex(text, 32).or_else(|| lower_hex(text, 16)).filter(|id| *id != 0)
}

fn span(text: &str) -> Option<u64> {
    lower_hex(text, 16).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";
    const PARENT: &str = "05e3ac9a4f6e3b90";

    fn read(pairs: &[(&str, &str)]) -> Option<Caller> {
        caller(&pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect())
    }

    fn sampled(value: &str) -> Option<bool> {
        read(&[("b3", value)]).map(|caller| caller.sampled)
    }

    #[test]
    fn the_single_header_has_ids_of_64_and_128_bits() {
        let caller = read(&[("b3", &format!("{TRACE}-{SPAN}-1-{PARENT}"))]).unwrap();
        assert_eq!((caller.trace_id, caller.span_id), (0x80f1_98ee_5634_3ba8_64fe_8b2a_57d3_eff7, 0xe457_b5a2_e4d8_6bd1));
        let short = read(&[("b3", &format!("64fe8b2a57d3eff7-{SPAN}-1"))]).unwrap();
        assert_eq!(short.trace_id, 0x64fe_8b2a_57d3_eff7);
    }

    #[test]
    fn the_state_says_whether_the_caller_records() {
        let state = |state: &str| sampled(&format!("{TRACE}-{SPAN}{state}"));
        assert_eq!([state("-1"), state("-d"), state("-0"), state("")], [Some(true), Some(true), Some(false), Some(false)]);
    }

    #[test]
    fn what_is_against_the_format_is_no_caller() {
        let zero = "0".repeat(32);
        let wrong = [
            "",
            "0",
            "d",
            TRACE,
            &format!("{TRACE}-{SPAN}-2"),
            &format!("{TRACE}-{SPAN}-1-nonsense"),
            &format!("{TRACE}-{SPAN}-1-{PARENT}-more"),
            &format!("{zero}-{SPAN}-1"),
            &format!("{TRACE}-0000000000000000-1"),
            &format!("{TRACE}f-{SPAN}-1"),
            &format!("{}-{SPAN}-1", TRACE.to_uppercase()),
        ];
        for value in wrong {
            assert_eq!(read(&[("b3", value)]), None, "{value}");
        }
    }

    #[test]
    fn several_headers_say_the_same() {
        let ids = [("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN), ("X-B3-ParentSpanId", PARENT)];
        let with = |more: &[(&str, &str)]| read(&[&ids, more].concat()).unwrap().sampled;
        assert!(with(&[("X-B3-Sampled", "1")]) && with(&[("X-B3-Sampled", "true")]) && with(&[("X-B3-Flags", "1")]));
        assert!(!with(&[("X-B3-Sampled", "0")]) && !with(&[]) && !with(&[("X-B3-Flags", "0")]));
        assert_eq!(read(&ids[..1]), None);
        assert_eq!(read(&[("X-B3-TraceId", "nonsense"), ids[1]]), None);
    }

    #[test]
    fn the_single_header_goes_first_and_a_wrong_one_hides_nothing() {
        let several = [("X-B3-TraceId", "64fe8b2a57d3eff7"), ("X-B3-SpanId", SPAN)];
        let trace_id = |single: &str| read(&[[("b3", single)].as_slice(), &several].concat()).map(|caller| caller.trace_id);
        assert_eq!(trace_id(&format!("{TRACE}-{SPAN}-1")), Some(0x80f1_98ee_5634_3ba8_64fe_8b2a_57d3_eff7));
        assert_eq!(trace_id("0"), Some(0x64fe_8b2a_57d3_eff7));
    }
}
