//! The accept loop: our own, because axum's has no deadline for a request's head and does not show us bytes. Does I/O.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use super::Api;
use super::clocked_io::{ClockedIo, Patience};
use super::connection::Connection;
use super::routes::router;

/// How long a kept connection may be idle. Load balancers reuse theirs for up to 600 s, and one that closes first loses
/// requests. (hyper's header timeout also runs while a connection is idle.)
const IDLE: Duration = Duration::from_secs(620);
/// From the first byte of a request's head to its last.
const HEAD: Duration = Duration::from_secs(30);
/// Unacknowledged bytes end the connection after this: a client that vanished without a word.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Small, so that a client that does not read is noticed.
const SEND_BUFFER: usize = 128 * 1024;
/// After the drain timeout: for answers that say so to leave.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// When the process has no file descriptors left, accepting again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from: a port, or memory in tests.
pub trait Accept: Send {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection; dropping the future loses none.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        if let Err(error) = prepare(&stream) {
            debug!(%error, "cannot set a connection's options");
        }
        Ok(stream)
    }
}

/// Serves until `shutdown`, then drains: probes and new requests are still answered (503), running ones get
/// [`super::Settings::drain_timeout`] to finish. Returns when every answer has left, or the time is over.
pub async fn serve(mut listener: impl Accept, api: Arc<Api>, shutdown: impl Future<Output = ()>) {
    let router = router(api.clone());
    let (draining, drain) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut end = std::pin::pin!(async {
        shutdown.await;
        info!(requests = api.requests_in_flight(), "draining");
        api.drain();
        draining.send_replace(true);
        finish(&api).await;
    });
    loop {
        tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    let patience = Patience { head: HEAD, stall: api.settings.client_stall_timeout };
                    connections.spawn(connection(stream, patience, router.clone(), drain.clone()));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // What is dropped here is idle, or its request is said to be aborted by the shutdown.
    connections.shutdown().await;
}

async fn finish(api: &Api) {
    if tokio::time::timeout(api.settings.drain_timeout, api.idle()).await.is_ok() {
        return;
    }
    warn!(requests = api.requests_in_flight(), "aborting what still runs: the drain timeout is over");
    api.close();
    drop(tokio::time::timeout(LAST_WORDS, api.idle()).await);
}

async fn connection<S>(stream: S, patience: Patience, router: Router, mut drain: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(Connection::new(Instant::now()));
    let io = TokioIo::new(ClockedIo::new(stream, connection.clone(), patience));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE);
    // A connection that comes while the engine drains gets one answer, which closes it (`Connection: close`).
    let was_draining = *drain.borrow_and_update();
    let mut served = std::pin::pin!(server.serve_connection(io, service));
    let result = tokio::select! {
        result = served.as_mut() => result,
        _ = drain.changed(), if !was_draining => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection ended");
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    socket.set_send_buffer_size(SEND_BUFFER)
}
