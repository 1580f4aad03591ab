//! One OTLP request to a receiver, sent by opentelemetry-otlp's exporter, and what it answered. The exporter's own retries are
//! off: they are shorter than a collector's restart, and [`super::export`] has longer ones. What it hides from them is whether
//! to try again, when, and how many spans a partial success left out; this is seen by the HTTP client that it is given, and
//! over gRPC heard in its log events ([`diagnostics`]).

mod answer;
mod diagnostics;
mod grpc;
mod http;

use std::error::Error;
use std::fs;

use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;

pub use answer::{Accepted, Failure};

use super::TelemetryError;
use super::destination::{Protocol, Receiver};

/// How we call ourselves to receivers.
const USER_AGENT: &str = concat!("sojourn-engine/", env!("CARGO_PKG_VERSION"));

/// Takes the spans of one request.
pub trait Transport {
    /// Sends them once.
    ///
    /// # Errors
    /// The receiver did not take them; the error says whether it may take them later.
    fn send(&mut self, spans: Vec<SpanData>) -> impl Future<Output = Result<Accepted, Failure>> + Send;
}

/// A client of one receiver.
pub enum Client {
    /// Over gRPC.
    Grpc(grpc::Client),
    /// Over HTTP.
    Http(http::Client),
}

impl Client {
    /// Builds a client; the connection is made with the first request. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// A certificate cannot be read or used, or there is nothing to check the receiver's with.
    pub fn new(receiver: &Receiver, resource: &Resource) -> Result<Self, TelemetryError> {
        let built = match receiver.protocol {
            Protocol::Grpc => grpc::Client::new(receiver, resource).map(Self::Grpc),
            Protocol::Http => http::Client::new(receiver, resource).map(Self::Http),
        };
        built.map_err(|error| match error {
            BuildError::File(path, source) => TelemetryError::CertificateFile { path, source },
            BuildError::Other(reason) => TelemetryError::Exporter { endpoint: receiver.name(), reason },
        })
    }
}

impl Transport for Client {
    async fn send(&mut self, spans: Vec<SpanData>) -> Result<Accepted, Failure> {
        match self {
            Self::Grpc(client) => client.send(spans).await,
            Self::Http(client) => client.send(spans).await,
        }
    }
}

/// Why a client cannot be built.
enum BuildError {
    /// A file cannot be read.
    File(String, std::io::Error),
    /// Anything else, for people.
    Other(String),
}

impl From<ExporterBuildError> for BuildError {
    fn from(error: ExporterBuildError) -> Self {
        Self::Other(error.to_string())
    }
}

fn read_pem(path: &str) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::File(path.to_owned(), source))
}

/// An error with what caused it.
fn chain(error: &dyn Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        parts.push(cause.to_string());
        next = cause.source();
    }
    once(parts.iter().map(String::as_str))
}

/// What happened and what caused it, without saying anything twice.
fn once<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    parts.fold(String::new(), |text, part| match text.as_str() {
        "" => part.to_owned(),
        known if known.contains(part) => text,
        known => format!("{known}: {part}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("transport error")]
    struct Transport(#[source] Connect);

    #[derive(Debug, thiserror::Error)]
    #[error("tcp connect error")]
    struct Connect(#[source] std::io::Error);

    #[test]
    fn an_error_is_told_down_to_its_cause_and_nothing_twice() {
        let error = Transport(Connect(std::io::Error::other("refused")));
        assert_eq!(chain(&error), "transport error: tcp connect error: refused");
        let told = once(["tcp connect error", "tcp connect error", "refused"].into_iter());
        assert_eq!(told, "tcp connect error: refused");
    }
}
