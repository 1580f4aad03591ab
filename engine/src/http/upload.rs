//! A request's body that remembers whether it was read to its end. An answer that goes out before that must close its
//! connection: what is left of the body stands between hyper and the next request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Whether a body was read to its end.
#[derive(Clone)]
pub struct ReadToEnd(Arc<AtomicBool>);

impl ReadToEnd {
    /// Watches a body.
    pub fn watch(body: Body) -> (Body, Self) {
        let read = Self(Arc::new(AtomicBool::new(body.is_end_stream())));
        (Body::new(Upload { body, read: read.clone() }), read)
    }

    /// It was, or there was none.
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct Upload {
    body: Body,
    read: ReadToEnd,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.read.0.store(true, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_is_read_when_its_last_byte_is() {
        let (body, read) = ReadToEnd::watch(Body::from("abc"));
        assert!(!read.is_so());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert!(read.is_so());
        assert!(ReadToEnd::watch(Body::empty()).1.is_so());
    }
}
