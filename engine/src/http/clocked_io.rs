//! A TCP stream that tells its [`Connection`] when bytes come and when all has been handed to the kernel, and that gives up
//! on a client that sends its request's head too slowly or stops reading its answer. Does I/O.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use super::connection::Connection;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Without taking a byte of what waits for it.
    pub stall: Duration,
}

/// The stream; see the module.
pub struct ClockedIo<S> {
    stream: S,
    connection: Arc<Connection>,
    patience: Patience,
    head: Timer,
    stall: Timer,
}

impl<S> ClockedIo<S> {
    /// Watches a stream.
    pub fn new(stream: S, connection: Arc<Connection>, patience: Patience) -> Self {
        Self { stream, connection, patience, head: Timer::default(), stall: Timer::default() }
    }

    /// What a write came to: progress resets the timer, waiting runs it.
    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.stall.reset();
            return result;
        }
        ready!(self.stall.poll(cx, || Instant::now() + self.patience.stall));
        self.connection.mark_stalled();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClockedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if result.is_ready() && buffer.filled().len() > before && this.connection.bytes_read(Instant::now()) {
            this.head.reset();
        }
        let Some(head_since) = this.connection.head_since() else { return result };
        if result.is_pending() {
            ready!(this.head.poll(cx, || head_since + this.patience.head));
            let message = "the request's head takes too long";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClockedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = result {
            self.connection.flushed(Instant::now);
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Drop for ClockedIo<S> {
    fn drop(&mut self) {
        self.connection.closed();
    }
}

/// A deadline that is only armed while somebody waits.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>, deadline: impl FnOnce() -> Instant) -> Poll<()> {
        self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline().into()))).as_mut().poll(cx)
    }

    fn reset(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests;
