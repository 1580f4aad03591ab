//! An OTLP receiver of both kinds, small enough to see through.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use sojourn_engine::telemetry::destination::Protocol;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::engine::SOON;

/// Length of gRPC's frame head: a compression flag and four bytes of length.
const GRPC_HEAD: usize = 5;

/// One request as it came.
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    /// It came compressed.
    pub gzip: bool,
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

    /// A header, as gRPC and HTTP both have them.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
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

/// What a receiver does with one request.
pub enum Reply {
    /// Takes it.
    Take,
    /// Takes all but so many spans.
    AllBut(i64),
    /// Answers with this status.
    Status(tonic::Status),
    /// Answers with this HTTP status and `Retry-After`.
    Http(u16, Option<&'static str>),
    /// Never answers.
    Hang,
}

/// A listening receiver: it replies as told, then takes everything.
pub struct Receiver {
    pub address: SocketAddr,
    received: mpsc::UnboundedReceiver<Received>,
}

/// What its connections share.
#[derive(Clone)]
struct Desk {
    protocol: Protocol,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    sender: mpsc::UnboundedSender<Received>,
}

impl Receiver {
    pub async fn start(protocol: Protocol) -> Self {
        Self::replying(protocol, []).await
    }

    pub async fn replying(protocol: Protocol, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(listen().await, protocol, replies, None)
    }

    /// One that is spoken to with TLS.
    pub async fn with_tls(protocol: Protocol, tls: TlsAcceptor) -> Self {
        Self::with(listen().await, protocol, [], Some(tls))
    }

    pub fn on(listener: TcpListener, protocol: Protocol) -> Self {
        Self::with(listener, protocol, [], None)
    }

    fn with(
        listener: TcpListener,
        protocol: Protocol,
        replies: impl IntoIterator<Item = Reply>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let desk = Desk { protocol, replies: Arc::new(Mutex::new(replies.into_iter().collect())), sender };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (desk, tls) = (desk.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, desk).await,
                        // Whoever is not trusted, or does not trust us, is not served.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, desk).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, received }
    }

    pub async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(SOON, self.received.recv()).await.expect("an export in time");
        next.expect("the receiver runs")
    }
}

impl Receiver {
    /// Nothing has come that was not looked at.
    pub fn assert_nothing(&mut self) {
        assert!(self.received.try_recv().is_err());
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, desk: Desk) {
    let (io, protocol) = (TokioIo::new(stream), desk.protocol);
    let service = service_fn(move |request| answer(request, desk.clone()));
    // The client may go whenever it likes.
    match protocol {
        Protocol::Grpc => drop(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await),
        Protocol::Http => drop(http1::Builder::new().serve_connection(io, service).await),
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, desk: Desk) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let mut bytes = body.collect().await.unwrap().to_bytes();
    let gzip = match desk.protocol {
        Protocol::Grpc => {
            let compressed = bytes[0] == 1;
            bytes.advance(GRPC_HEAD);
            compressed
        }
        Protocol::Http => head.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip"),
    };
    if gzip {
        let mut plain = Vec::new();
        GzDecoder::new(bytes.reader()).read_to_end(&mut plain).unwrap();
        bytes = plain.into();
    }
    let request = ExportTraceServiceRequest::decode(bytes).unwrap();
    let reply = desk.replies.lock().unwrap().pop_front().unwrap_or(Reply::Take);
    drop(desk.sender.send(Received { path: head.uri.path().to_owned(), headers: head.headers, gzip, request }));
    Ok(match reply {
        Reply::Take => taken(desk.protocol, ExportTraceServiceResponse::default()),
        Reply::AllBut(rejected_spans) => {
            let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: "too old".to_owned() });
            taken(desk.protocol, ExportTraceServiceResponse { partial_success })
        }
        Reply::Status(status) => status.into_http::<Full<Bytes>>().map(BodyExt::boxed_unsync),
        Reply::Http(status, retry_after) => {
            let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
            *response.status_mut() = status.try_into().unwrap();
            if let Some(retry_after) = retry_after {
                response.headers_mut().insert("retry-after", HeaderValue::from_static(retry_after));
            }
            response
        }
        Reply::Hang => std::future::pending().await,
    })
}

fn taken(protocol: Protocol, answer: ExportTraceServiceResponse) -> Answer {
    let answer = answer.encode_to_vec();
    match protocol {
        Protocol::Grpc => {
            let mut frame = BytesMut::new();
            frame.put_u8(0);
            frame.put_u32(answer.len().try_into().unwrap());
            frame.extend_from_slice(&answer);
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            let body = Full::new(frame.freeze()).with_trailers(async { Some(Ok(trailers)) });
            let response = Response::builder().header("content-type", "application/grpc");
            response.body(body.boxed_unsync()).unwrap()
        }
        Protocol::Http => {
            let response = Response::builder().header("content-type", "application/x-protobuf");
            response.body(Full::new(Bytes::from(answer)).boxed_unsync()).unwrap()
        }
    }
}
