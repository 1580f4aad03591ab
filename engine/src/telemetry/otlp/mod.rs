//! One OTLP request to a receiver, and what it answered. (opentelemetry-otlp's exporter reads the environment itself and hides
//! what the queue must know: whether to try again, when, and how many spans a partial success left out.)

mod answer;
mod grpc;
mod http;

use std::error::Error;
use std::fs;

use bytes::Bytes;

pub use answer::{Accepted, Failure};

use super::TelemetryError;
use super::destination::{Protocol, Receiver};

/// How we call ourselves to receivers.
const USER_AGENT: &str = concat!("sojourn-engine/", env!("CARGO_PKG_VERSION"));

/// Takes an encoded `ExportTraceServiceRequest`.
pub trait Transport {
    /// Sends it once.
    ///
    /// # Errors
    /// The receiver did not take it; the error says whether it may take it later.
    fn send(&self, body: Bytes) -> impl Future<Output = Result<Accepted, Failure>> + Send;
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
    pub fn new(receiver: &Receiver) -> Result<Self, TelemetryError> {
        let built = match receiver.protocol {
            Protocol::Grpc => grpc::Client::new(receiver).map(Self::Grpc),
            Protocol::Http => http::Client::new(receiver).map(Self::Http),
        };
        built.map_err(|error| match error {
            BuildError::File(path, source) => TelemetryError::CertificateFile { path, source },
            BuildError::Other(reason) => TelemetryError::Exporter { endpoint: receiver.name(), reason },
        })
    }
}

impl Transport for Client {
    async fn send(&self, body: Bytes) -> Result<Accepted, Failure> {
        match self {
            Self::Grpc(client) => client.send(body).await,
            Self::Http(client) => client.send(body).await,
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

fn read_pem(path: &str) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::File(path.to_owned(), source))
}

/// An error with what caused it.
fn chain(error: &dyn Error) -> String {
    with_causes(error.to_string(), error.source())
}

/// What happened, with what caused it, without saying anything twice.
fn with_causes(mut text: String, mut next: Option<&dyn Error>) -> String {
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
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
        let told = with_causes("tcp connect error".to_owned(), Some(&error.0));
        assert_eq!(told, "tcp connect error: refused");
    }
}
