//! The outermost response body: sees when the last byte is given to hyper, and when the answer is dropped before that.
//! It must lie outside of every other layer, or answers made by those layers would escape it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::connection::Connection;
use super::visit::Visitor;

/// A body with the request's [`Visitor`], which learns how the answer's way ended.
pub struct ClockedBody<B> {
    // Before the visitor: dropping the answer cancels the generation first.
    body: B,
    visitor: Option<Visitor>,
    connection: Option<Arc<Connection>>,
}

impl<B: Body> ClockedBody<B> {
    /// Wraps an answer. Without a connection (a router under test) the last byte counts as taken by the kernel at once.
    pub fn new(body: B, visitor: Visitor, connection: Option<Arc<Connection>>) -> Self {
        let mut this = Self { body, visitor: Some(visitor), connection };
        if this.body.is_end_stream() {
            // hyper never polls an empty body.
            this.ended();
        }
        this
    }

    fn ended(&mut self) {
        let Some(visitor) = self.visitor.take() else { return };
        match &self.connection {
            Some(connection) => connection.last_byte(Box::new(move |at| visitor.left(at))),
            None => visitor.left(std::time::Instant::now()),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ClockedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // With a known length hyper drops the body without asking for the end.
        if frame.is_none() || self.body.is_end_stream() {
            self.ended();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
