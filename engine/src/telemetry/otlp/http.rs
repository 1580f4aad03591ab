//! OTLP over HTTP: the exporter's message, posted by a client of ours that looks at the answer itself.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Compression, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Identity};

use super::diagnostics::Diagnostics;
use super::{Accepted, BuildError, Failure, USER_AGENT, chain, read_pem};
use crate::telemetry::destination::{Receiver, TlsFiles};

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// A client of one receiver.
pub struct Client {
    exporter: SpanExporter,
    answer: Arc<Mutex<Option<Answer>>>,
    /// Only to keep them out of the log.
    diagnostics: Diagnostics,
}

type Answer = Result<Accepted, Failure>;

impl Client {
    pub(super) fn new(receiver: &Receiver, resource: &Resource) -> Result<Self, BuildError> {
        let (url, answer) = (receiver.endpoint.to_string(), Arc::default());
        let post = Post { http: client(receiver)?, url, headers: receiver.headers.clone(), answer: Arc::clone(&answer) };
        let builder = SpanExporter::builder().with_http().with_http_client(post).with_protocol(Protocol::HttpBinary);
        let builder = builder.with_endpoint(receiver.endpoint.to_string()).with_timeout(receiver.timeout);
        let builder = builder.with_retry_policy(RetryPolicy::disabled());
        let builder = if receiver.gzip { builder.with_compression(Compression::Gzip) } else { builder };
        let mut exporter = builder.build()?;
        exporter.set_resource(resource);
        Ok(Self { exporter, answer, diagnostics: Diagnostics::new() })
    }

    pub(super) async fn send(&mut self, spans: Vec<SpanData>) -> Answer {
        // One before may have been given up half way.
        drop(self.take());
        let (exported, _) = self.diagnostics.during(self.exporter.export(spans)).await;
        // Without an answer nothing was sent.
        self.take()
            .unwrap_or_else(|| Err(Failure::network(&exported.err().map_or_else(String::new, |error| error.to_string()))))
    }

    fn take(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What the exporter sends with.
struct Post {
    http: reqwest::Client,
    /// May hold a password.
    url: String,
    headers: HeaderMap,
    /// What became of the last request.
    answer: Arc<Mutex<Option<Answer>>>,
}

impl fmt::Debug for Post {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Post")
    }
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.post(request).await;
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        // Nobody asks the exporter what it makes of the answer.
        Ok(Response::new(Bytes::new()))
    }
}

impl Post {
    async fn post(&self, request: Request<Bytes>) -> Answer {
        let (head, body) = request.into_parts();
        // Of its headers these two: it reads those of the environment by itself, and adds its own name.
        let mut headers = self.headers.clone();
        for name in [CONTENT_TYPE, CONTENT_ENCODING] {
            if let Some(value) = head.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let mut response = self.http.post(&self.url).headers(headers).body(body).send().await.map_err(lost)?;
        let status = response.status();
        if !status.is_success() {
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Err(Failure::http(status.as_u16(), retry_after, SystemTime::now()));
        }
        Ok(Accepted::decode(&read(&mut response).await?))
    }
}

async fn read(response: &mut reqwest::Response) -> Result<Vec<u8>, Failure> {
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

fn client(receiver: &Receiver) -> Result<reqwest::Client, BuildError> {
    // Whoever gets the journeys is named in the configuration, not by a redirection.
    let builder = reqwest::Client::builder().user_agent(USER_AGENT).timeout(receiver.timeout).redirect(Policy::none());
    let builder = match receiver.endpoint.scheme_str() {
        Some("https") => tls(builder, &receiver.tls)?,
        // Without TLS there is no need for the system's certificates, which a small image may lack.
        _ => builder.tls_certs_only([]),
    };
    builder.build().map_err(unusable)
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
