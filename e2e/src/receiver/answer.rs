//! What a receiver answers, in gRPC's words and in HTTP's.

use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;

use super::{Manner, Shared, Wire, lock};

/// Length of gRPC's frame head: a compression flag and four bytes of length.
const GRPC_HEAD: usize = 5;
/// What is said of spans that are left out.
const LEFT_OUT: &str = "some spans are not to our liking";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a request is refused with.
struct Refusal {
    grpc: u16,
    http: StatusCode,
    message: &'static str,
}

const UNAUTHENTICATED: Refusal = Refusal { grpc: 16, http: StatusCode::UNAUTHORIZED, message: "a header is missing or wrong" };
const EXHAUSTED: Refusal = Refusal { grpc: 8, http: StatusCode::TOO_MANY_REQUESTS, message: "there is no room" };
const UNAVAILABLE: Refusal = Refusal { grpc: 14, http: StatusCode::SERVICE_UNAVAILABLE, message: "not now" };
const UNREADABLE: Refusal = Refusal { grpc: 3, http: StatusCode::BAD_REQUEST, message: "the body cannot be read" };
const UNWANTED: Refusal = Refusal { grpc: 3, http: StatusCode::BAD_REQUEST, message: "not like this" };

/// Answers one request as the receiver is told to.
pub(super) async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    *lock(&shared.requests) += 1;
    if !is_admitted(&head.headers, &shared) {
        return Ok(refuse(shared.wire, &UNAUTHENTICATED));
    }
    let Some(body) = message(shared.wire, &head.headers, body) else { return Ok(refuse(shared.wire, &UNREADABLE)) };
    let manner = lock(&shared.manner).clone();
    let rejected_spans = match manner {
        Manner::Take => 0,
        Manner::TakeAfter(delay) => {
            tokio::time::sleep(delay).await;
            0
        }
        Manner::TakeAllBut(spans) => spans,
        Manner::Exhausted => return Ok(refuse(shared.wire, &EXHAUSTED)),
        Manner::Unavailable => return Ok(refuse(shared.wire, &UNAVAILABLE)),
        Manner::Refuse => {
            lock(&shared.received).push(body);
            return Ok(refuse(shared.wire, &UNWANTED));
        }
        Manner::Hang => std::future::pending().await,
    };
    if rejected_spans == 0 {
        lock(&shared.received).push(body);
    }
    Ok(accept(shared.wire, rejected_spans))
}

fn is_admitted(headers: &HeaderMap, shared: &Shared) -> bool {
    lock(&shared.required).iter().all(|(name, value)| headers.get(name).is_some_and(|found| found == value.as_str()))
}

/// The OTLP message of a body, uncompressed.
fn message(wire: Wire, headers: &HeaderMap, mut body: Bytes) -> Option<Bytes> {
    let is_compressed = match wire {
        Wire::Http => headers.get(http::header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip"),
        Wire::Grpc => {
            let flag = *body.first()?;
            body.advance(GRPC_HEAD.min(body.len()));
            flag == 1
        }
    };
    if !is_compressed {
        return Some(body);
    }
    let mut plain = Vec::new();
    GzDecoder::new(body.as_ref()).read_to_end(&mut plain).ok()?;
    Some(plain.into())
}

fn accept(wire: Wire, rejected_spans: i64) -> Response<Body> {
    let partial = ExportTracePartialSuccess { rejected_spans, error_message: LEFT_OUT.to_owned() };
    let answer = ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) }.encode_to_vec();
    match wire {
        Wire::Grpc => {
            let mut frame = BytesMut::with_capacity(GRPC_HEAD + answer.len());
            frame.put_u8(0);
            frame.put_u32(u32::try_from(answer.len()).unwrap_or_default());
            frame.put_slice(&answer);
            let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
            let body = Full::new(frame.freeze()).with_trailers(async { Some(Ok(trailers)) });
            response("application/grpc", body.boxed_unsync())
        }
        Wire::Http => response("application/x-protobuf", Full::new(Bytes::from(answer)).boxed_unsync()),
    }
}

fn refuse(wire: Wire, refusal: &Refusal) -> Response<Body> {
    match wire {
        Wire::Grpc => {
            let mut response = response("application/grpc", Empty::new().boxed_unsync());
            let headers = response.headers_mut();
            headers.insert("grpc-status", HeaderValue::from(refusal.grpc));
            headers.insert("grpc-message", HeaderValue::from_static(refusal.message));
            response
        }
        Wire::Http => {
            let mut response = response("text/plain", Full::new(Bytes::from_static(refusal.message.as_bytes())).boxed_unsync());
            *response.status_mut() = refusal.http;
            response
        }
    }
}

fn response(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
