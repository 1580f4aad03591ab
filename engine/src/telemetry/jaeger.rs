//! Jaeger's own header, `uber-trace-id: {trace-id}:{span-id}:{parent-span-id}:{flags}`. Pure.

use http::HeaderMap;

use super::environment::percent_decode;
use super::propagation::Caller;

/// Reads the caller.
pub fn caller(headers: &HeaderMap) -> Option<Caller> {
    let text = percent_decode(headers.get("uber-trace-id")?.to_str().ok()?.trim());
    let mut parts = text.split(':');
    let mut number = |digits: usize| parts.next().and_then(|part| hex(part, digits));
    // The parent is deprecated; leading zeros may be missing anywhere.
    let (trace_id, span_id, _, flags) = (number(32)?, number(16)?, number(16)?, number(2)?);
    if trace_id == 0 || span_id == 0 || parts.next().is_some() {
        return None;
    }
    Some(Caller { trace_id, span_id: u64::try_from(span_id).ok()?, sampled: flags & 1 == 1, state: String::new() })
}

/// A number of at most so many hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let valid = (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid { u128::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<(u128, u64, bool)> {
        let headers = HeaderMap::from_iter([("uber-trace-id".parse().unwrap(), value.parse().unwrap())]);
        caller(&headers).map(|caller| (caller.trace_id, caller.span_id, caller.sampled))
    }

    #[test]
    fn leading_zeros_may_be_missing_and_the_colons_may_be_escaped() {
        assert_eq!(read("a1:b2:0:1"), Some((0xa1, 0xb2, true)));
        assert_eq!(read("a1%3Ab2%3A0%3A0"), Some((0xa1, 0xb2, false)));
        assert_eq!(read("000000000000000000000000000000a1:00000000000000b2:c3:03"), Some((0xa1, 0xb2, true)));
    }

    #[test]
    fn what_is_against_the_format_is_no_caller() {
        for value in
            ["", "a1:b2:0", "a1:b2:0:1:more", "0:b2:0:1", "a1:0:0:1", "a1:+1:0:1", "a1:b2:0:x", "a1:12345678901234567:0:1"]
        {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
