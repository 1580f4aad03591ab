//! OTLP over gRPC: one unary call whose message is encoded already.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::HeaderMap;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tonic_types::StatusExt;

use super::{Accepted, BuildError, Failure, USER_AGENT, chain, read_pem, with_causes};
use crate::telemetry::destination::{Receiver, TlsFiles};

const METHOD: PathAndQuery = PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");
/// A connection whose other end has gone without a word is found out this often.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A client of one receiver.
pub struct Client {
    grpc: Grpc<Channel>,
    headers: HeaderMap,
}

impl Client {
    pub(super) fn new(receiver: &Receiver) -> Result<Self, BuildError> {
        let endpoint = Endpoint::from(receiver.endpoint.clone()).user_agent(USER_AGENT).map_err(unusable)?;
        let endpoint = endpoint.connect_timeout(receiver.timeout);
        let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(receiver.timeout);
        let endpoint = match receiver.endpoint.scheme_str() {
            Some("https") => endpoint.tls_config(tls(&receiver.tls)?).map_err(unusable)?,
            _ => endpoint,
        };
        let grpc = Grpc::new(endpoint.connect_lazy());
        let grpc = match receiver.gzip {
            true => grpc.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip),
            false => grpc,
        };
        Ok(Self { grpc, headers: receiver.headers.clone() })
    }

    pub(super) async fn send(&self, body: Bytes) -> Result<Accepted, Failure> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Failure::network(&chain(&error)))?;
        let mut request = Request::new(body);
        *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        match grpc.unary(request, METHOD, Encoded).await {
            Ok(response) => Ok(Accepted::decode(&response.into_inner())),
            Err(status) => Err(failure(&status)),
        }
    }
}

/// A status with a cause was made here, because of the connection; any other is the receiver's word.
fn failure(status: &Status) -> Failure {
    if let Some(cause) = status.source() {
        return Failure::network(&with_causes(status.message().to_owned(), Some(cause)));
    }
    let hint = status.get_details_retry_info().and_then(|info| info.retry_delay);
    Failure::grpc(status.code(), status.message(), hint)
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

/// Messages that are encoded already, so that a retry costs nothing.
#[derive(Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, body: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(body);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
