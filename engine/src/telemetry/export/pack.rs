//! Whole journeys, packed into OTLP requests of bounded size.

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use sojourn_contract::journey::Detail;

use super::counts::Tally;
use super::parcel::Parcel;
use super::size;
use crate::telemetry::limits::Limits;
use crate::telemetry::spans::convert;

/// Bytes of one request: gRPC servers take 4 MiB where nobody set another limit.
pub const MAX_REQUEST: usize = 4 << 20;
/// Room for what stands around the spans besides the resource: scopes, tags and lengths.
const FRAME: usize = 4 << 10;

/// One request, ready to be sent any number of times.
#[derive(Debug, Default)]
pub struct Request {
    /// What is in it.
    pub tally: Tally,
    /// Its spans, of whole journeys.
    pub spans: Vec<SpanData>,
    /// Bytes that they take when they are encoded, or a few more.
    bytes: usize,
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
    /// Bytes that spans may take.
    room: usize,
    limits: Limits,
    /// Which spans a journey becomes.
    pub detail: Detail,
}

impl Packer {
    /// For spans of a resource within limits.
    pub fn new(resource: &Resource, limits: Limits, detail: Detail) -> Self {
        Self { room: MAX_REQUEST.saturating_sub(FRAME + size::resource(resource)), limits, detail }
    }

    /// Requests one by one, each made when it is asked for, so that one is in memory and not all.
    pub fn pack(&self, parcels: Vec<Parcel>) -> impl Iterator<Item = Packed> {
        let mut requests = parcels.into_iter().map(|parcel| self.request(parcel)).peekable();
        std::iter::from_fn(move || {
            let mut request = requests.next()?;
            if request.bytes > self.room {
                return Some(Packed::TooLarge(request.tally));
            }
            while let Some(next) = requests.next_if(|next| request.bytes + next.bytes <= self.room) {
                request.add(next);
            }
            Some(Packed::Request(request))
        })
    }

    /// One parcel alone. Requests that want the processor meanwhile go first.
    fn request(&self, parcel: Parcel) -> Request {
        std::thread::yield_now();
        let tally = parcel.tally(self.detail);
        let convert = |span| convert(span, &self.limits);
        let spans: Vec<SpanData> = parcel.describe(self.detail).into_iter().map(convert).collect();
        Request { tally, bytes: spans.iter().map(size::span).sum(), spans }
    }
}

impl Request {
    fn add(&mut self, other: Self) {
        self.tally += other.tally;
        self.bytes += other.bytes;
        self.spans.extend(other.spans);
    }
}
