//! What a receiver's answer means, by OTLP's specification. Pure.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::Code;

/// Longest pause that a receiver can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Characters of a receiver's own words that are passed on.
const MAX_WORDS: usize = 200;

/// A request that the receiver took, perhaps not all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Spans that it did not take and never will.
    pub rejected_spans: u64,
    /// What it says about that, or about anything else.
    pub message: String,
}

/// A request that the receiver did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may take it later.
    Transient {
        /// Why, for people.
        error: String,
        /// The pause that it asks for.
        after: Option<Duration>,
    },
    /// It will never take it.
    Permanent {
        /// Why, for people.
        error: String,
    },
}

impl Accepted {
    /// Reads the body of a successful answer; what is no such body is a plain success.
    pub fn decode(body: &[u8]) -> Self {
        let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|response| response.partial_success);
        partial.map(|partial| Self::partly(partial.rejected_spans, &partial.error_message)).unwrap_or_default()
    }

    /// What a partial success says; without one both are empty.
    pub fn partly(rejected_spans: i64, message: &str) -> Self {
        Self { rejected_spans: u64::try_from(rejected_spans).unwrap_or(0), message: words(message) }
    }
}

impl Failure {
    /// The connection or the answer failed on the way.
    pub fn network(error: &str) -> Self {
        Self::Transient { error: words(error), after: None }
    }

    /// A gRPC status of the receiver, with the pause of its `RetryInfo`.
    pub fn grpc(code: Code, message: &str, retry_info: Option<Duration>) -> Self {
        let error = words(&format!("{code:?}: {message}"));
        let after = retry_info.map(|pause| pause.min(MAX_PAUSE));
        match code {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Self::Transient { error, after },
            // Without a hint when to come again it means that there will never be room.
            Code::ResourceExhausted if after.is_some() => Self::Transient { error, after },
            _ => Self::Permanent { error },
        }
    }

    /// An HTTP status of the receiver, with its `Retry-After`.
    pub fn http(status: u16, retry_after: Option<&str>, now: SystemTime) -> Self {
        let error = format!("HTTP status {status}");
        match status {
            429 | 502 | 503 | 504 => Self::Transient { error, after: retry_after.and_then(|text| pause(text, now)) },
            _ => Self::Permanent { error },
        }
    }
}

/// `Retry-After`: seconds, or a date.
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    let until = || httpdate::parse_http_date(text).ok().map(|date| date.duration_since(now).unwrap_or_default());
    seconds.or_else(until).map(|pause| pause.min(MAX_PAUSE))
}

/// The beginning of what somebody else wrote, on one line.
fn words(text: &str) -> String {
    text.trim_end_matches([':', ' ']).chars().take(MAX_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    const HINT: Option<Duration> = Some(Duration::from_secs(7));

    fn transient(error: &str, after: Option<Duration>) -> Failure {
        Failure::Transient { error: error.to_owned(), after }
    }

    #[test]
    fn the_codes_that_the_specification_names_may_be_tried_again() {
        use Code::*;
        let again = [Cancelled, DeadlineExceeded, Aborted, OutOfRange, Unavailable, DataLoss];
        let never = [
            Unknown,
            InvalidArgument,
            NotFound,
            AlreadyExists,
            PermissionDenied,
            FailedPrecondition,
            Unimplemented,
            Internal,
            Unauthenticated,
        ];
        for code in again {
            assert_eq!(Failure::grpc(code, "why", HINT), transient(&format!("{code:?}: why"), HINT));
        }
        for code in never {
            assert_eq!(Failure::grpc(code, "why", HINT), Failure::Permanent { error: format!("{code:?}: why") });
        }
    }

    #[test]
    fn exhaustion_passes_only_where_the_receiver_says_when() {
        assert_eq!(Failure::grpc(Code::ResourceExhausted, "", HINT), transient("ResourceExhausted", HINT));
        let never = Failure::Permanent { error: "ResourceExhausted".to_owned() };
        assert_eq!(Failure::grpc(Code::ResourceExhausted, "", None), never);
    }

    #[test]
    fn of_http_statuses_four_may_be_tried_again() {
        let now = SystemTime::UNIX_EPOCH;
        for status in [429, 502, 503, 504] {
            assert_eq!(Failure::http(status, Some("7"), now), transient(&format!("HTTP status {status}"), HINT));
        }
        for status in [301, 400, 401, 403, 404, 408, 413, 500, 501] {
            let never = Failure::Permanent { error: format!("HTTP status {status}") };
            assert_eq!(Failure::http(status, Some("7"), now), never);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(pause("7", now), HINT);
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:44 GMT", now), HINT);
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));
        assert_eq!(pause("86400", now), Some(MAX_PAUSE));
        assert_eq!(pause("soon", now), None);
    }

    #[test]
    fn a_partial_success_is_read_and_anything_else_is_a_success() {
        let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too\nold".to_owned() };
        let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(Accepted::decode(&body), Accepted { rejected_spans: 3, message: "too old".to_owned() });
        assert_eq!(Accepted::decode(&[]), Accepted::default());
        assert_eq!(Accepted::decode(b"<html>"), Accepted::default());
        let negative = ExportTracePartialSuccess { rejected_spans: -3, ..ExportTracePartialSuccess::default() };
        let body = ExportTraceServiceResponse { partial_success: Some(negative) }.encode_to_vec();
        assert_eq!(Accepted::decode(&body).rejected_spans, 0);
    }
}
