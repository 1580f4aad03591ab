//! One HTTP exchange with the collector next door.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer that is read, bytes.
const LONGEST: usize = 8 << 20;
/// Longest time that an exchange may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens there.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// The connection broke or what came is not HTTP.
    #[error("the exchange broke off: {0}")]
    Http(#[from] hyper::Error),
    /// The body broke off or is too long.
    #[error("cannot read the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not a success.
    #[error("the answer is {status}: {text}")]
    Status {
        /// Its status.
        status: StatusCode,
        /// Its body.
        text: String,
    },
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
}

/// Sends a request and reads the whole body of a successful answer.
pub async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Bytes, NoAnswer> {
    timeout(PATIENCE, unbounded(address, request)).await.unwrap_or(Err(NoAnswer::Late))
}

async fn unbounded(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Bytes, NoAnswer> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        drop(sender);
        read(answer).await
    };
    let (answer, _) = tokio::join!(answered, connection);
    answer
}

async fn read(answer: Response<hyper::body::Incoming>) -> Result<Bytes, NoAnswer> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(NoAnswer::Body)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    Err(NoAnswer::Status { status, text: crate::log::bounded(&String::from_utf8_lossy(&body)) })
}
