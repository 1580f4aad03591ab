//! An answer as server-sent events. Each poll drains all that the scheduler has, so a slow client gets larger pieces and the
//! engine never waits for it; while nothing comes, a comment every 15 s keeps the connection alive.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep, sleep_until};

use super::error::ApiError;
use super::generation::Generation;
use super::openai::parameters::StreamUsage;
use super::openai::shape::{Head, Shape};
use super::piece::{FinishReason, Piece};
use super::visit::Visit;
use crate::text::Text;

const PING_EVERY: Duration = Duration::from_secs(15);
const PING: &[u8] = b": ping\n\n";
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The events of one answer.
pub struct EventStream<S> {
    /// `None` once it ended; dropping it cancels what is unfinished.
    generation: Option<Generation>,
    head: Head,
    shape: S,
    text: Arc<Text>,
    visit: Arc<Visit>,
    usage: StreamUsage,
    /// By sequence: it has begun, and how it ended.
    sequences: Vec<(bool, Option<FinishReason>)>,
    ping: Pin<Box<Sleep>>,
    deadline: Option<(Pin<Box<Sleep>>, ApiError)>,
}

impl<S: Shape> EventStream<S> {
    /// Streams a generation.
    pub fn new(generation: Generation, head: Head, shape: S, text: Arc<Text>, visit: Arc<Visit>) -> Self {
        let ping = Box::pin(sleep(PING_EVERY));
        let sequences = Vec::new();
        let generation = Some(generation);
        let usage = StreamUsage::default();
        Self { generation, head, shape, text, visit, usage, sequences, ping, deadline: None }
    }

    /// Says the usage where it is asked for.
    pub fn with_usage(self, usage: StreamUsage) -> Self {
        Self { usage, ..self }
    }

    /// Ends with this error at that time.
    pub fn with_deadline(self, deadline: Option<(Instant, ApiError)>) -> Self {
        let deadline = deadline.map(|(at, error)| (Box::pin(sleep_until(at.into())), error));
        Self { deadline, ..self }
    }

    /// Writes all that is there; false when there may be more later.
    fn drain(&mut self, cx: &mut Context<'_>, events: &mut Vec<u8>) -> bool {
        while let Some(generation) = &mut self.generation {
            match generation.poll_next(cx) {
                Poll::Ready(Some(Ok(piece))) => self.piece(&piece, events),
                Poll::Ready(Some(Err(error))) => self.fail(&error, events),
                Poll::Ready(None) => self.end(events),
                Poll::Pending => return self.late(cx, events),
            }
        }
        true
    }

    fn late(&mut self, cx: &mut Context<'_>, events: &mut Vec<u8>) -> bool {
        let Some((deadline, error)) = &mut self.deadline else { return false };
        if deadline.as_mut().poll(cx).is_pending() {
            return false;
        }
        let error = error.clone();
        self.fail(&error, events);
        true
    }

    fn piece(&mut self, piece: &Piece, events: &mut Vec<u8>) {
        let index = piece.sequence as usize;
        if self.sequences.len() <= index {
            self.sequences.resize(index + 1, (false, None));
        }
        let (begun, finish) = &mut self.sequences[index];
        let first = !std::mem::replace(begun, true);
        *finish = finish.or(piece.finish);
        let choice = self.shape.chunk(piece, first, self.text.as_ref());
        let mut chunk = self.head.object(S::CHUNK_OBJECT, vec![choice], None);
        if self.usage.at_the_end {
            let so_far = self.generation.as_ref().filter(|_| self.usage.in_every_chunk).map(Generation::usage);
            chunk["usage"] = json!(so_far);
        }
        write(events, &chunk);
    }

    fn fail(&mut self, error: &ApiError, events: &mut Vec<u8>) {
        self.visit.failed(error.reason, &error.message);
        self.generation = None;
        write(events, &error.to_json(&self.visit));
        events.extend_from_slice(DONE);
    }

    fn end(&mut self, events: &mut Vec<u8>) {
        let Some(generation) = self.generation.take() else { return };
        let reasons = self.sequences.iter().map(|(_, finish)| finish.map_or("", |reason| reason.as_str()));
        generation.describe_end(reasons);
        if self.usage.at_the_end {
            write(events, &self.head.object(S::CHUNK_OBJECT, Vec::new(), Some(generation.usage())));
        }
        events.extend_from_slice(DONE);
    }
}

impl<S: Shape> Stream for EventStream<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut events = Vec::new();
        let over = this.drain(cx, &mut events);
        if !events.is_empty() {
            this.ping.as_mut().reset(tokio::time::Instant::now() + PING_EVERY);
            return Poll::Ready(Some(Ok(events.into())));
        }
        if over {
            return Poll::Ready(None);
        }
        if this.ping.as_mut().poll(cx).is_ready() {
            this.ping.as_mut().reset(tokio::time::Instant::now() + PING_EVERY);
            return Poll::Ready(Some(Ok(Bytes::from_static(PING))));
        }
        Poll::Pending
    }
}

fn write(events: &mut Vec<u8>, value: &Value) {
    events.extend_from_slice(b"data: ");
    events.extend_from_slice(value.to_string().as_bytes());
    events.extend_from_slice(b"\n\n");
}
