//! Clients: how they send, how they read, how they leave; and what they saw.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};

use super::ask::{Ask, pause, pick};

/// What a client does with its connection.
#[derive(Debug, Clone)]
pub struct Manners {
    /// Bytes are sent in pieces of this size, so far apart.
    piece: (usize, Duration),
    /// It sends only so many bytes, and then nothing.
    sends: Option<usize>,
    /// It says that it will send no more, once it has sent all.
    half_close: bool,
    /// It waits before it reads.
    reads_after: Duration,
    /// When it goes away.
    leaves: Leave,
}

/// When a client goes away.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// When the engine has closed the connection.
    AtTheEnd,
    /// After a while, whatever has come.
    After(Duration),
    /// When it has read so many bytes.
    AfterBytes(usize),
    /// When it has read this.
    AtText(&'static str),
}

impl Manners {
    /// Draws what a client with these requests does.
    pub fn draw(dice: &mut StdRng, asks: &[Ask]) -> Self {
        let bytes: usize = asks.iter().map(|ask| ask.bytes.len()).sum();
        let piece = match dice.random_bool(0.8) {
            true => (usize::MAX, Duration::ZERO),
            false => (dice.random_range(1..200), pause(dice, 1.0)),
        };
        let polite = Self { piece, sends: None, half_close: false, reads_after: Duration::ZERO, leaves: Leave::AtTheEnd };
        match dice.random_range(0..100) {
            0..58 => polite,
            58..63 => Self { sends: Some(dice.random_range(0..bytes)), leaves: Leave::After(pause(dice, 2.0)), ..polite },
            // The head and a part of the body, for sure.
            63..66 => {
                let some = dice.random_range(asks[0].head..asks[0].bytes.len());
                Self { sends: Some(some), leaves: Leave::After(pause(dice, 5.0)), ..polite }
            }
            66..74 => Self { leaves: Leave::After(pause(dice, 12.0)), ..polite },
            74..80 => Self { leaves: Leave::AfterBytes(dice.random_range(1..1500)), ..polite },
            80..84 => {
                let text = *pick(dice, &["200 OK", "data:", "\"finish_reason\":\"", "[DONE]", "0\r\n\r\n"]);
                Self { leaves: Leave::AtText(text), ..polite }
            }
            84..88 => Self { half_close: true, ..polite },
            88..98 => Self { reads_after: Duration::from_secs(1), leaves: Leave::After(Duration::from_millis(150)), ..polite },
            _ => Self { reads_after: pause(dice, 60.0), ..polite },
        }
    }

    /// Sends, reads and leaves; true when the client stayed until the engine closed the connection, and did nothing that could
    /// be taken for leaving.
    pub async fn meet(&self, stream: DuplexStream, asks: &[Ask], heard: &mut Vec<u8>) -> bool {
        let bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes.iter().copied()).collect();
        let (reader, writer) = split(stream);
        let patience = match self.leaves {
            Leave::After(patience) => patience,
            _ => Duration::MAX,
        };
        let at_the_end = matches!(self.leaves, Leave::AtTheEnd) && !self.half_close;
        let meeting = async {
            // A client that has read all that it wanted leaves, sent or not.
            tokio::select! {
                ended = self.read(reader, heard) => ended,
                () = self.send(writer, &bytes) => false,
            }
        };
        let ended = tokio::time::timeout(patience, meeting).await.unwrap_or(false);
        ended && at_the_end
    }

    /// Sends and then waits for ever.
    async fn send(&self, mut writer: WriteHalf<DuplexStream>, bytes: &[u8]) {
        let bytes = &bytes[..self.sends.unwrap_or(bytes.len())];
        for piece in bytes.chunks(self.piece.0) {
            if writer.write_all(piece).await.is_err() {
                break;
            }
            if !self.piece.1.is_zero() {
                tokio::time::sleep(self.piece.1).await;
            }
        }
        if self.half_close {
            // The engine may have left first.
            drop(writer.shutdown().await);
        }
        std::future::pending::<()>().await;
    }

    /// Reads until it is time to leave; true when the engine closed the connection.
    async fn read(&self, mut reader: ReadHalf<DuplexStream>, heard: &mut Vec<u8>) -> bool {
        tokio::time::sleep(self.reads_after).await;
        loop {
            if reader.read_buf(heard).await.unwrap_or(0) == 0 {
                return true;
            }
            let leaves = match self.leaves {
                Leave::AfterBytes(bytes) => heard.len() >= bytes,
                Leave::AtText(text) => heard.windows(text.len()).any(|window| window == text.as_bytes()),
                Leave::AtTheEnd | Leave::After(_) => false,
            };
            if leaves {
                return false;
            }
        }
    }
}

/// Ends a body of unknown length.
const LAST_CHUNK: &str = "0\r\n\r\n";

/// The first answer among the bytes that a client heard.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// It is all there.
    pub whole: bool,
    /// The stream ended with an error.
    pub failed: bool,
    /// The body, of an answer that is no stream and all there.
    pub body: Option<Value>,
}

impl Answer {
    /// Reads an answer, if there is the head of one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let end = match length {
            Some(length) => Some(length).filter(|length| *length <= body.len()),
            None if body.starts_with(LAST_CHUNK) => Some(0),
            None => body.find(&format!("\r\n{LAST_CHUNK}")),
        };
        let failed = body[..end.unwrap_or(body.len())].contains("data: {\"error\"");
        let whole = end.is_some();
        let body = end.filter(|_| length.is_some()).and_then(|end| serde_json::from_str(&body[..end]).ok());
        Some(Self { status, whole, failed, body })
    }
}
