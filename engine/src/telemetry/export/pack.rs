//! Whole journeys, packed into encoded OTLP requests of bounded size.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message;
use sojourn_contract::journey::Detail;

use super::counts::Tally;
use super::parcel::Parcel;
use crate::telemetry::limits::Limits;
use crate::telemetry::spans::{Scope, convert};

/// Bytes of one request: gRPC servers take 4 MiB where nobody set another limit.
pub const MAX_REQUEST: usize = 4 << 20;
/// Room for what stands around the spans besides the resource: scopes, tags and lengths.
const FRAME: usize = 4 << 10;
/// Bytes around each span: its tag and its length.
const SPAN_FRAME: usize = 6;

/// One request, ready to be sent any number of times.
#[derive(Debug)]
pub struct Request {
    /// What is in it.
    pub tally: Tally,
    /// The encoded `ExportTraceServiceRequest`.
    pub body: Bytes,
}

/// What became of some parcels.
#[derive(Debug)]
pub enum Packed {
    /// They travel together.
    Request(Request),
    /// This one alone is larger than a request may be.
    TooLarge(Tally),
}

/// Turns parcels into requests.
pub struct Packer {
    /// Who sends them.
    pub resource: Resource,
    /// What a span may hold.
    pub limits: Limits,
    /// Which spans a journey becomes.
    pub detail: Detail,
}

/// A request in the making.
#[derive(Default)]
struct Load {
    tally: Tally,
    scopes: Vec<(Scope, Vec<Span>)>,
    bytes: usize,
}

impl Load {
    fn add(&mut self, other: Load) {
        self.tally += other.tally;
        self.bytes += other.bytes;
        for (scope, spans) in other.scopes {
            spans.into_iter().for_each(|span| self.put(&scope, span));
        }
    }

    fn put(&mut self, scope: &Scope, span: Span) {
        match self.scopes.iter_mut().find(|(known, _)| known == scope) {
            Some((_, spans)) => spans.push(span),
            None => self.scopes.push((scope.clone(), vec![span])),
        }
    }
}

impl Packer {
    /// Requests one by one, each made when it is asked for, so that one is in memory and not all.
    pub fn pack(&self, parcels: Vec<Parcel>) -> impl Iterator<Item = Packed> {
        let room = MAX_REQUEST.saturating_sub(FRAME + self.resource.encoded_len());
        let mut loads = parcels.into_iter().map(|parcel| self.load(parcel)).peekable();
        std::iter::from_fn(move || {
            let mut request = loads.next()?;
            if request.bytes > room {
                return Some(Packed::TooLarge(request.tally));
            }
            while let Some(next) = loads.next_if(|next| request.bytes + next.bytes <= room) {
                request.add(next);
            }
            Some(Packed::Request(self.request(request)))
        })
    }

    fn load(&self, parcel: Parcel) -> Load {
        let mut load = Load { tally: parcel.tally(self.detail), ..Load::default() };
        for span in parcel.describe(self.detail) {
            let (scope, span) = (Scope::of(&span), convert(span, &self.limits));
            load.bytes += span.encoded_len() + SPAN_FRAME;
            load.put(&scope, span);
        }
        load
    }

    fn request(&self, load: Load) -> Request {
        let scope_spans = load.scopes.into_iter().map(|(scope, spans)| scope.message(spans)).collect();
        let resource_spans = ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..ResourceSpans::default() };
        let message = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
        Request { tally: load.tally, body: message.encode_to_vec().into() }
    }
}
