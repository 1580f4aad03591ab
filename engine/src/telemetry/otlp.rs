//! The OTLP exporter, built from the settings. Does I/O when used, and needs a tokio runtime around it.

use std::fs;

use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};

use super::TelemetryError;
use super::settings::{Destination, Protocol, TlsFiles};

/// Builds the exporter; the connection is made with the first request. Its own retries are off: they are shorter than a
/// collector's restart, and [`super::export`] has longer ones.
pub fn exporter(destination: &Destination) -> Result<SpanExporter, TelemetryError> {
    let built = match destination.protocol {
        Protocol::Http => SpanExporter::builder()
            .with_http()
            .with_endpoint(&destination.endpoint)
            .with_retry_policy(RetryPolicy::disabled())
            .build(),
        Protocol::Grpc => {
            let builder = SpanExporter::builder().with_tonic().with_endpoint(&destination.endpoint);
            let builder = builder.with_retry_policy(RetryPolicy::disabled());
            match destination.endpoint.starts_with("http://") {
                true => builder.build(),
                false => builder.with_tls_config(tls(&destination.tls)?).build(),
            }
        }
    };
    built.map_err(|source| TelemetryError::Exporter { endpoint: destination.endpoint.clone(), reason: source.to_string() })
}

fn tls(files: &TlsFiles) -> Result<ClientTlsConfig, TelemetryError> {
    let read = |path: &String| fs::read(path).map_err(|source| TelemetryError::CertificateFile { path: path.clone(), source });
    let mut config = ClientTlsConfig::new().with_enabled_roots();
    if let Some(path) = &files.certificate {
        config = config.ca_certificate(Certificate::from_pem(read(path)?));
    }
    if let Some((certificate, key)) = &files.client {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(config)
}
