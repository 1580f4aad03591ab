//! OTLP over gRPC: the exporter's client on a connection of ours.

use std::time::Duration;

use opentelemetry_otlp::{Compression, RetryPolicy, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};

use super::diagnostics::{Diagnostics, Said};
use super::{Accepted, BuildError, Failure, USER_AGENT, chain, once, read_pem};
use crate::telemetry::destination::{Receiver, TlsFiles};

/// A connection whose other end has gone without a word is found out this often.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// gRPC's codes go from 0 to this one.
const LAST_CODE: i32 = Code::Unauthenticated as i32;

/// A client of one receiver.
pub struct Client {
    exporter: SpanExporter,
    diagnostics: Diagnostics,
}

impl Client {
    pub(super) fn new(receiver: &Receiver, resource: &Resource) -> Result<Self, BuildError> {
        let headers = MetadataMap::from_headers(receiver.headers.clone());
        // These and no others: the exporter reads those of the environment by itself, and adds its own name.
        let with_headers = move |mut request: Request<()>| {
            *request.metadata_mut() = headers.clone();
            Ok(request)
        };
        let builder = SpanExporter::builder().with_tonic().with_channel(channel(receiver)?).with_interceptor(with_headers);
        let builder = builder.with_retry_policy(RetryPolicy::disabled()).with_timeout(receiver.timeout);
        let builder = if receiver.gzip { builder.with_compression(Compression::Gzip) } else { builder };
        let mut exporter = builder.build()?;
        exporter.set_resource(resource);
        Ok(Self { exporter, diagnostics: Diagnostics::new() })
    }

    pub(super) async fn send(&mut self, spans: Vec<SpanData>) -> Result<Accepted, Failure> {
        let (exported, said) = self.diagnostics.during(self.exporter.export(spans)).await;
        match exported {
            Ok(()) => Ok(Accepted::partly(said.rejected_spans, &said.error_message)),
            Err(error) => Err(failure(&error.to_string(), &said)),
        }
    }
}

/// What the exporter's error means.
fn failure(error: &str, said: &Said) -> Failure {
    match read(error) {
        Some((code, None)) => Failure::grpc(code, &said.grpc_message, said.retry_delay()),
        Some((_, Some(cause))) => Failure::network(&once(cause.split(": "))),
        None => Failure::network(error),
    }
}

/// The gRPC code that the exporter's error names and the cause behind it. A status with a cause was made on this side, because
/// of the connection; any other is the receiver's word.
fn read(error: &str) -> Option<(Code, Option<&str>)> {
    let (_, told) = error.split_once("gRPC code: ")?;
    let (name, cause) = told.split_once(": ").map_or((told, None), |(name, cause)| (name, Some(cause)));
    let code = (0..=LAST_CODE).map(Code::from_i32).find(|code| format!("{code:?}") == name)?;
    Some((code, cause))
}

fn channel(receiver: &Receiver) -> Result<Channel, BuildError> {
    let endpoint = Endpoint::from(receiver.endpoint.clone()).user_agent(USER_AGENT).map_err(unusable)?;
    let endpoint = endpoint.connect_timeout(receiver.timeout);
    let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(receiver.timeout);
    let endpoint = match receiver.endpoint.scheme_str() {
        Some("https") => endpoint.tls_config(tls(&receiver.tls)?).map_err(unusable)?,
        _ => endpoint,
    };
    Ok(endpoint.connect_lazy())
}

fn tls(files: &TlsFiles) -> Result<ClientTlsConfig, BuildError> {
    let config = match &files.certificate {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read_pem(path)?)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    Ok(match &files.client {
        Some((certificate, key)) => config.identity(Identity::from_pem(read_pem(certificate)?, read_pem(key)?)),
        None => config,
    })
}

fn unusable(error: tonic::transport::Error) -> BuildError {
    BuildError::Other(chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_read_from_the_exporters_error() {
        let error = |rest: &str| format!("Operation failed: TonicTracesClient export failed with gRPC code: {rest}");
        for code in (0..=LAST_CODE).map(Code::from_i32) {
            assert_eq!(read(&error(&format!("{code:?}"))), Some((code, None)));
        }
        let told = error("Unavailable: transport error: tcp connect error");
        assert_eq!(read(&told), Some((Code::Unavailable, Some("transport error: tcp connect error"))));
        assert_eq!((read(&error("Overflow")), read("Exporter has been shut down")), (None, None));
    }

    #[test]
    fn an_error_that_nobody_knows_or_that_is_of_the_connection_is_no_refusal() {
        let said = Said { grpc_message: "why".to_owned(), ..Said::default() };
        let text = "gRPC code: Unknown: transport error: transport error: refused";
        assert_eq!(failure(text, &said), Failure::network("transport error: refused"));
        assert_eq!(failure("something else", &said), Failure::network("something else"));
        assert_eq!(failure("gRPC code: Internal", &said), Failure::grpc(Code::Internal, "why", None));
    }
}
