//! An OTLP receiver of both kinds, small enough to see through.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use sojourn_engine::telemetry::settings::Protocol;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::engine::SOON;

/// Length of gRPC's frame head: a compression flag and four bytes of length.
const GRPC_HEAD: usize = 5;

/// One request as it came.
pub struct Received {
    pub path: String,
    pub request: ExportTraceServiceRequest,
}

impl Received {
    /// Its spans, each with the name of its scope.
    pub fn spans(&self) -> Vec<(&str, &Span)> {
        let scopes = self.request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        scopes
            .flat_map(|scope| {
                let name = scope.scope.as_ref().map_or("", |scope| scope.name.as_str());
                scope.spans.iter().map(move |span| (name, span))
            })
            .collect()
    }

    /// An attribute of what sent it.
    pub fn resource(&self, key: &str) -> Option<String> {
        text(&self.request.resource_spans[0].resource.as_ref()?.attributes, key)
    }
}

/// A text among attributes.
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    match value.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}

/// A listening receiver.
pub struct Receiver {
    pub address: SocketAddr,
    received: mpsc::UnboundedReceiver<Received>,
}

impl Receiver {
    pub async fn start(protocol: Protocol) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), protocol)
    }

    pub fn on(listener: TcpListener, protocol: Protocol) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (io, sender) = (TokioIo::new(stream), sender.clone());
                let service = service_fn(move |request| answer(request, protocol, sender.clone()));
                match protocol {
                    Protocol::Grpc => {
                        tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
                    }
                    Protocol::Http => {
                        tokio::spawn(http1::Builder::new().serve_connection(io, service));
                    }
                }
            }
        });
        Self { address, received }
    }

    pub async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(SOON, self.received.recv()).await.expect("an export in time");
        next.expect("the receiver runs")
    }
}

async fn answer(
    request: Request<Incoming>,
    protocol: Protocol,
    sender: mpsc::UnboundedSender<Received>,
) -> Result<Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut bytes = body.collect().await.unwrap().to_bytes();
    if protocol == Protocol::Grpc {
        bytes.advance(GRPC_HEAD);
    }
    let request = ExportTraceServiceRequest::decode(bytes).unwrap();
    drop(sender.send(Received { path: head.uri.path().to_owned(), request }));
    Ok(match protocol {
        Protocol::Grpc => {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            let body = Full::new(Bytes::from_static(&[0; GRPC_HEAD])).with_trailers(async { Some(Ok(trailers)) });
            let response = Response::builder().header("content-type", "application/grpc");
            response.body(body.boxed_unsync()).unwrap()
        }
        Protocol::Http => {
            let response = Response::builder().header("content-type", "application/x-protobuf");
            response.body(Full::new(Bytes::new()).boxed_unsync()).unwrap()
        }
    })
}
