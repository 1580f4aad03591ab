//! OTLP over HTTP: a POST of the encoded message.

use std::io::Write;
use std::time::SystemTime;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Identity, Response};

use super::{Accepted, BuildError, Failure, USER_AGENT, chain, read_pem};
use crate::telemetry::destination::{Receiver, TlsFiles};

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// A client of one receiver.
pub struct Client {
    http: reqwest::Client,
    url: String,
    headers: HeaderMap,
    gzip: bool,
}

impl Client {
    pub(super) fn new(receiver: &Receiver) -> Result<Self, BuildError> {
        // Whoever gets the journeys is named in the configuration, not by a redirection.
        let builder = reqwest::Client::builder().user_agent(USER_AGENT).timeout(receiver.timeout).redirect(Policy::none());
        let builder = match receiver.endpoint.scheme_str() {
            Some("https") => tls(builder, &receiver.tls)?,
            // Without TLS there is no need for the system's certificates, which a small image may lack.
            _ => builder.tls_certs_only([]),
        };
        let mut headers = receiver.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if receiver.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let http = builder.build().map_err(unusable)?;
        Ok(Self { http, url: receiver.endpoint.to_string(), headers, gzip: receiver.gzip })
    }

    pub(super) async fn send(&self, body: Bytes) -> Result<Accepted, Failure> {
        let body = if self.gzip { compress(&body).map_err(|error| Failure::network(&error.to_string()))? } else { body };
        let request = self.http.post(&self.url).headers(self.headers.clone()).body(body);
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status();
        if !status.is_success() {
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Err(Failure::http(status.as_u16(), retry_after, SystemTime::now()));
        }
        Ok(Accepted::decode(&read(&mut response).await?))
    }
}

async fn read(response: &mut Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(lost)? {
        body.extend_from_slice(&part);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    Ok(body)
}

/// The URL may hold a password, so it is left out.
fn lost(error: reqwest::Error) -> Failure {
    Failure::network(&chain(&error.without_url()))
}

fn compress(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}

fn tls(builder: ClientBuilder, files: &TlsFiles) -> Result<ClientBuilder, BuildError> {
    let builder = match &files.certificate {
        Some(path) => builder.tls_certs_only(Certificate::from_pem_bundle(&read_pem(path)?).map_err(unusable)?),
        None => builder,
    };
    Ok(match &files.client {
        Some((certificate, key)) => {
            let pem = [read_pem(certificate)?, read_pem(key)?].join(&b'\n');
            builder.identity(Identity::from_pem(&pem).map_err(unusable)?)
        }
        None => builder,
    })
}

fn unusable(error: reqwest::Error) -> BuildError {
    BuildError::Other(chain(&error))
}
