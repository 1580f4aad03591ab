//! What opentelemetry-otlp says of an answer in its own log events alone: the receiver's words, its details, and the spans that
//! a partial success left out.
//!
//! An export runs under a subscriber that keeps these, so that they are known whatever the log's filter is, and so that what
//! is said of failures, and how often, is decided by whoever sends.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Whose events these are.
const TARGET: &str = "opentelemetry-otlp";

/// Keeps what is said during an export; for one export at a time.
pub struct Diagnostics {
    said: Arc<Mutex<Said>>,
    dispatch: Dispatch,
}

/// What was said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Spans that a partial success left out.
    pub rejected_spans: i64,
    /// What the receiver says of a partial success.
    pub error_message: String,
    /// What the receiver says of its refusal.
    pub grpc_message: String,
    /// The details of its refusal: bytes, as Rust writes them for debugging.
    pub grpc_details: String,
}

impl Diagnostics {
    /// Nothing was said yet.
    pub fn new() -> Self {
        let said = Arc::default();
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(Keep(Arc::clone(&said))));
        Self { said, dispatch }
    }

    /// Runs an export, and answers with what was said meanwhile.
    pub async fn during<F: Future>(&mut self, export: F) -> (F::Output, Said) {
        // One before may have been given up half way.
        drop(self.take());
        let output = export.with_subscriber(self.dispatch.clone()).await;
        (output, self.take())
    }

    fn take(&self) -> Said {
        take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Said {
    /// The pause that the receiver asks for with `RetryInfo`.
    pub fn retry_delay(&self) -> Option<Duration> {
        let numbers = self.grpc_details.strip_prefix('[')?.strip_suffix(']')?;
        let bytes: Vec<u8> = numbers.split(", ").map(|number| number.parse().ok()).collect::<Option<_>>()?;
        Status::with_details(Code::Unknown, "", bytes.into()).get_details_retry_info()?.retry_delay
    }
}

impl Visit for Said {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "rejected_spans" {
            self.rejected_spans = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = match field.name() {
            "error_message" => &mut self.error_message,
            "grpc_message" => &mut self.grpc_message,
            "grpc_details" => &mut self.grpc_details,
            _ => return,
        };
        value.clone_into(text);
    }
}

/// The subscriber's only layer.
struct Keep(Arc<Mutex<Said>>);

impl<S: Subscriber> Layer<S> for Keep {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && metadata.target() == TARGET
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;
    use tracing::debug;

    use super::*;

    fn of_details(grpc_details: String) -> Option<Duration> {
        Said { grpc_details, ..Said::default() }.retry_delay()
    }

    #[test]
    fn retry_info_is_read_from_details_and_nothing_else_is() {
        let pause = Duration::from_millis(7_500);
        let status = Status::with_error_details(Code::Unavailable, "", ErrorDetails::with_retry_info(Some(pause)));
        assert_eq!(of_details(format!("{:?}", status.details())), Some(pause));
        let other = Status::with_error_details(Code::Unavailable, "", ErrorDetails::with_request_info("id", "data"));
        for none in [format!("{:?}", other.details()), "[]".to_owned(), "[300]".to_owned(), "[1".to_owned(), String::new()] {
            assert_eq!(of_details(none.clone()), None, "{none}");
        }
    }

    #[tokio::test]
    async fn what_is_said_belongs_to_one_export_and_to_no_log() {
        let log = Arc::default();
        let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(Keep(Arc::clone(&log))));
        let mut diagnostics = Diagnostics::new();
        let say = async {
            debug!(target: TARGET, grpc_message = "why", grpc_details = "[]", grpc_code = "Aborted");
            debug!(target: "somebody else", grpc_message = "what");
            7
        };
        let (output, said) = diagnostics.during(say).await;
        assert_eq!((output, said.grpc_message.as_str(), said.grpc_details.as_str()), (7, "why", "[]"));
        assert_eq!(diagnostics.during(async {}).await.1, Said::default());
        assert_eq!(*log.lock().unwrap(), Said::default());
    }
}
