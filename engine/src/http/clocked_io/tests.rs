//! Impatience, on an in-memory pipe.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(60);

fn pipe(patience: Patience) -> (ClockedIo<DuplexStream>, DuplexStream, Arc<Connection>) {
    let (server, client) = duplex(64);
    let connection = Arc::new(Connection::new(Instant::now()));
    (ClockedIo::new(server, connection.clone(), patience), client, connection)
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_given_up() {
    let (mut server, mut client, _) = pipe(Patience { head: SHORT, stall: LONG });
    client.write_all(b"POST /").await.unwrap();
    let mut buffer = [0; 64];
    assert_eq!(server.read(&mut buffer).await.unwrap(), 6);
    let error = server.read(&mut buffer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn neither_an_idle_connection_nor_a_slow_body_is_given_up_for_its_head() {
    let (mut server, mut client, connection) = pipe(Patience { head: SHORT, stall: LONG });
    let mut buffer = [0; 64];
    let idle = tokio::time::timeout(SHORT * 3, server.read(&mut buffer)).await;
    assert!(idle.is_err(), "{idle:?}");
    client.write_all(b"POST /").await.unwrap();
    assert_eq!(server.read(&mut buffer).await.unwrap(), 6);
    connection.begin_request();
    let body = tokio::time::timeout(SHORT * 3, server.read(&mut buffer)).await;
    assert!(body.is_err(), "{body:?}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_stalled() {
    let (mut server, client, connection) = pipe(Patience { head: LONG, stall: SHORT });
    let error = server.write_all(&[0; 65]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(connection.stalled());
    drop(client);
}

#[tokio::test]
async fn a_client_that_takes_a_little_now_and_then_is_not() {
    let stall = Duration::from_secs(1);
    let (mut server, mut client, connection) = pipe(Patience { head: LONG, stall });
    let begun = Instant::now();
    let reader = async {
        let mut buffer = [0; 8];
        while begun.elapsed() < stall * 3 / 2 {
            client.read_exact(&mut buffer).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(client);
    };
    // More than the reader takes in its time: the write ends because the reader has gone, not for its slowness.
    let bytes = vec![0; 1 << 20];
    let (written, ()) = tokio::join!(server.write_all(&bytes), reader);
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(!connection.stalled());
}

#[tokio::test]
async fn a_dropped_stream_tells_who_waits_for_a_flush() {
    let (server, _client, connection) = pipe(Patience { head: LONG, stall: LONG });
    let token = Arc::new(());
    let held = token.clone();
    connection.last_byte(Box::new(move |_| drop(held)));
    drop(server);
    assert_eq!(Arc::strong_count(&token), 1);
}
