//! W3C Trace Context in headers: `traceparent` and `tracestate` in, `traceresponse` out. Pure.
//!
//! Whatever does not follow the specification is ignored as it asks: a wrong `traceparent` means no caller at all, a wrong
//! `tracestate` is dropped and the caller stays.

use http::{HeaderMap, HeaderName};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

use super::propagation::{Caller, lower_hex};

/// Header with the caller's ids.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Header with what vendors add for themselves.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Header that tells the caller where to look.
pub const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Longest `tracestate` that is carried on; the specification asks for at least 512 bytes.
const MAX_TRACESTATE_BYTES: usize = 4096;
/// Most members of a `tracestate`, by the specification.
const MAX_TRACESTATE_MEMBERS: usize = 32;

/// Reads the caller's context from request headers; `None` without a valid one.
pub fn caller(headers: &HeaderMap) -> Option<Caller> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None;
    }
    let (trace_id, span_id, flags) = parse_traceparent(parent.trim())?;
    let state = tracestate(headers).unwrap_or_default();
    Some(Caller { trace_id, span_id, sampled: flags.is_sampled(), state })
}

/// The value of `traceresponse` for a span.
pub fn traceresponse(trace_id: TraceId, span_id: SpanId, flags: TraceFlags) -> String {
    format!("00-{trace_id:032x}-{span_id:016x}-{:02x}", flags.to_u8())
}

fn parse_traceparent(text: &str) -> Option<(u128, u64, TraceFlags)> {
    let mut parts = text.splitn(5, '-');
    let version = lower_hex(parts.next()?, 2)?;
    let trace_id = lower_hex(parts.next()?, 32)?;
    let span_id = lower_hex(parts.next()?, 16)?;
    let flags = lower_hex(parts.next()?, 2)?;
    // Version 255 is forbidden; version 0 has nothing behind the flags, later ones may.
    if version == 0xff || (version == 0 && parts.next().is_some()) || trace_id == 0 || span_id == 0 {
        return None;
    }
    let flags = TraceFlags::new(u8::try_from(flags).ok()?);
    Some((trace_id, u64::try_from(span_id).ok()?, flags))
}

fn tracestate(headers: &HeaderMap) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(TRACESTATE).iter().map(|v| v.to_str()).collect::<Result<_, _>>().ok()?;
    let text = lines.join(",");
    let members = text.split(',').filter(|member| !member.trim().is_empty()).count();
    if text.len() > MAX_TRACESTATE_BYTES || members > MAX_TRACESTATE_MEMBERS {
        return None;
    }
    text.parse::<TraceState>().ok().map(|state| state.header())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn read(parent: &str) -> Option<Caller> {
        caller(&headers(&[(TRACEPARENT, parent)]))
    }

    #[test]
    fn a_valid_parent_is_read() {
        let caller = read(PARENT).unwrap();
        assert_eq!(format!("{:032x}", caller.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(format!("{:016x}", caller.span_id), "00f067aa0ba902b7");
        assert!(caller.sampled);
    }

    #[test]
    fn the_flag_says_whether_the_caller_records() {
        assert!(!read(&PARENT.replace("-01", "-00")).unwrap().sampled);
        assert!(read(&PARENT.replace("-01", "-03")).unwrap().sampled);
        assert!(!read(&PARENT.replace("-01", "-02")).unwrap().sampled);
    }

    #[test]
    fn a_parent_against_the_specification_is_no_caller() {
        let wrong = [
            "",
            "00",
            &PARENT.to_uppercase(),
            &PARENT.replace("00-4b", "ff-4b"),
            &format!("{PARENT}-more"),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &PARENT.replace("00f067aa0ba902b7", "0000000000000000"),
            &PARENT.replace("-01", "-1"),
            &PARENT.replace("-01", "-+1"),
            &PARENT.replace("4bf", "4b"),
        ];
        for parent in wrong {
            assert_eq!(read(parent), None, "{parent}");
        }
    }

    #[test]
    fn a_later_version_may_have_more_behind_the_flags() {
        let later = PARENT.replace("00-4b", "01-4b");
        assert!(read(&later).is_some());
        assert!(read(&format!("{later}-more-of-it")).is_some());
        assert!(read(&format!("{later}more")).is_none());
    }

    #[test]
    fn two_parents_are_no_caller() {
        let mut headers = headers(&[(TRACEPARENT, PARENT)]);
        headers.append(TRACEPARENT, PARENT.parse().unwrap());
        assert_eq!(super::caller(&headers), None);
    }

    #[test]
    fn states_of_several_headers_are_one_list() {
        let mut headers = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "ot=th:8 , ")]);
        headers.append(TRACESTATE, "vendor=a".parse().unwrap());
        assert_eq!(super::caller(&headers).unwrap().state, "ot=th:8,vendor=a");
    }

    #[test]
    fn a_wrong_state_is_dropped_and_the_caller_stays() {
        let many: Vec<String> = (0..33).map(|i| format!("k{i}=v")).collect();
        for state in ["nonsense", "UPPER=1", &many.join(",")] {
            let caller = super::caller(&headers(&[(TRACEPARENT, PARENT), (TRACESTATE, state)])).unwrap();
            assert_eq!(caller.state, "", "{state}");
        }
    }

    #[test]
    fn the_response_names_the_span() {
        let caller = read(PARENT).unwrap();
        assert_eq!(traceresponse(caller.trace_id.into(), caller.span_id.into(), TraceFlags::SAMPLED), PARENT);
    }
}
