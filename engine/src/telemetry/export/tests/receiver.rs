//! A receiver in memory, under a test's control.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;

use crate::telemetry::otlp::{Accepted, Failure, Transport};
use crate::telemetry::resource::resource;

/// What a receiver does with one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reply {
    /// Takes it.
    Take,
    /// Does not take it, perhaps later.
    Later,
    /// Takes it, and the answer is lost.
    Lost,
    /// Never takes it.
    Never,
    /// Takes all but so many spans.
    AllBut(u64),
    /// Does not answer.
    Hang,
}

/// A receiver under a test's control: it replies as told, then takes everything.
#[derive(Clone, Default)]
pub struct Receiver(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    replies: VecDeque<Reply>,
    attempts: Vec<Bytes>,
    taken: Vec<Vec<Span>>,
}

impl Transport for Receiver {
    async fn send(&mut self, spans: Vec<SpanData>) -> Result<Accepted, Failure> {
        let body = encode(spans);
        let reply = {
            let mut seen = self.0.lock().unwrap();
            seen.attempts.push(body.clone());
            seen.replies.pop_front().unwrap_or(Reply::Take)
        };
        let take = |without: u64| {
            let spans = decode(&body).into_iter().skip(without as usize).collect();
            self.0.lock().unwrap().taken.push(spans);
            Ok(Accepted { rejected_spans: without, message: String::new() })
        };
        let transient = Err(Failure::Transient { error: "refused".to_owned(), after: None });
        match reply {
            Reply::Take => take(0),
            Reply::AllBut(spans) => take(spans),
            Reply::Later => transient,
            Reply::Lost => take(0).and(transient),
            Reply::Never => Err(Failure::Permanent { error: "refused for good".to_owned() }),
            Reply::Hang => std::future::pending().await,
        }
    }
}

impl Receiver {
    pub fn replying(replies: impl IntoIterator<Item = Reply>) -> Self {
        let receiver = Self::default();
        receiver.0.lock().unwrap().replies.extend(replies);
        receiver
    }

    pub fn attempts(&self) -> Vec<Bytes> {
        self.0.lock().unwrap().attempts.clone()
    }

    pub fn taken(&self) -> Vec<Vec<Span>> {
        self.0.lock().unwrap().taken.clone()
    }
}

/// What the exporter sends of spans.
pub fn encode(spans: Vec<SpanData>) -> Bytes {
    let resource_spans = group_spans_by_resource_and_scope(spans, &(&resource(Vec::new())).into());
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

/// The spans in what was sent.
pub fn decode(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}
