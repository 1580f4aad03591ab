//! Clients in a closed loop: each streams one completion after the other and notes when each piece of text came.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::prompts::Prompts;

/// The longest that one answer may take: the slowest server compared needs minutes at eight clients.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a streamed answer was like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stream {
    /// From sending the request to the first piece of text.
    pub first_token: Duration,
    /// Longest time between two pieces of text.
    pub worst_gap: Duration,
    /// Tokens: what the server's usage says, else the pieces of text.
    pub tokens: u64,
}

/// What all clients together saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Burst {
    /// Every answer.
    pub streams: Vec<Stream>,
    /// From the first request to the last byte.
    pub wall: Duration,
}

impl Burst {
    /// Tokens of all answers, each second.
    pub fn tokens_per_second(&self) -> f64 {
        self.streams.iter().map(|stream| stream.tokens as f64).sum::<f64>() / self.wall.as_secs_f64()
    }

    /// Seconds to the first token of each answer.
    pub fn first_tokens(&self) -> Vec<f64> {
        self.streams.iter().map(|stream| stream.first_token.as_secs_f64()).collect()
    }

    /// The longest silence within any answer, in seconds.
    pub fn worst_gap(&self) -> f64 {
        self.streams.iter().map(|stream| stream.worst_gap.as_secs_f64()).fold(0.0, f64::max)
    }
}

/// Lets `clients` stream `each` answers one after the other.
pub async fn closed_loop(url: &str, clients: usize, each: usize, tokens: u32, prompts: &mut Prompts) -> Result<Burst> {
    let http = reqwest::Client::new();
    let start = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (http, url) = (http.clone(), format!("{url}/v1/completions"));
        let bodies: Vec<Value> = (0..each).map(|_| body(&prompts.draw(), tokens)).collect();
        running.spawn(async move {
            let mut streams = Vec::new();
            for body in bodies {
                streams.push(tokio::time::timeout(PATIENCE, stream(&http, &url, &body)).await.context("an answer hangs")??);
            }
            anyhow::Ok(streams)
        });
    }
    let mut streams = Vec::new();
    while let Some(ended) = running.join_next().await {
        streams.extend(ended??);
    }
    Ok(Burst { streams, wall: start.elapsed() })
}

/// What every server compared understands; one that does not know a field ignores it.
fn body(prompt: &str, tokens: u32) -> Value {
    json!({
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": true,
        "stream": true,
        "stream_options": {"include_usage": true},
    })
}

async fn stream(http: &reqwest::Client, url: &str, body: &Value) -> Result<Stream> {
    let sent = Instant::now();
    let mut response = http.post(url).json(body).send().await.with_context(|| format!("cannot ask {url}"))?;
    if !response.status().is_success() {
        bail!("{url} answered {}: {}", response.status(), response.text().await.unwrap_or_default());
    }
    let mut reading = Reading::default();
    while let Some(bytes) = response.chunk().await.context("the stream broke")? {
        reading.take(&bytes, sent.elapsed())?;
    }
    reading.end().with_context(|| format!("{url} gave no text"))
}

/// A stream of server-sent events as it comes. Pure.
#[derive(Debug, Default)]
struct Reading {
    buffer: Vec<u8>,
    first: Option<Duration>,
    last: Duration,
    worst_gap: Duration,
    pieces: u64,
    usage: Option<u64>,
}

impl Reading {
    /// Takes what came at this time since the request was sent.
    fn take(&mut self, bytes: &[u8], at: Duration) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ").filter(|data| !data.starts_with(b"[DONE]")) else { continue };
            let event: Value = serde_json::from_slice(data).context("an event is no JSON")?;
            if event.get("error").is_some_and(|error| !error.is_null()) {
                bail!("the stream ended with {}", event["error"]);
            }
            self.usage = event["usage"]["completion_tokens"].as_u64().or(self.usage);
            if event["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty()) {
                self.piece(at);
            }
        }
        Ok(())
    }

    fn piece(&mut self, at: Duration) {
        if self.first.is_some() {
            self.worst_gap = self.worst_gap.max(at.saturating_sub(self.last));
        }
        self.first = self.first.or(Some(at));
        self.last = at;
        self.pieces += 1;
    }

    fn end(self) -> Option<Stream> {
        Some(Stream { first_token: self.first?, worst_gap: self.worst_gap, tokens: self.usage.unwrap_or(self.pieces) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        format!("data: {}\n\n", json!({"choices": [{"text": text}]}))
    }

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_token_and_the_worst_gap_are_those_of_text() {
        let mut reading = Reading::default();
        reading.take(b": ping\n\n", ms(5)).unwrap();
        reading.take(text("").as_bytes(), ms(7)).unwrap();
        reading.take(text("a").as_bytes(), ms(10)).unwrap();
        // An event in two halves counts when it is whole.
        let (half, rest) = (text("b"), ms(70));
        reading.take(&half.as_bytes()[..9], ms(20)).unwrap();
        reading.take(&half.as_bytes()[9..], rest).unwrap();
        reading.take((text("c") + "data: [DONE]\n\n").as_bytes(), ms(80)).unwrap();
        assert_eq!(reading.end(), Some(Stream { first_token: ms(10), worst_gap: ms(60), tokens: 3 }));
    }

    #[test]
    fn a_servers_own_count_of_tokens_wins() {
        let mut reading = Reading::default();
        reading.take(text("ab").as_bytes(), ms(1)).unwrap();
        reading.take(b"data: {\"choices\": [], \"usage\": {\"completion_tokens\": 2}}\n\n", ms(2)).unwrap();
        assert_eq!(reading.end().map(|stream| stream.tokens), Some(2));
    }

    #[test]
    fn an_error_in_the_stream_is_an_error_and_no_text_is_no_answer() {
        let mut reading = Reading::default();
        assert!(reading.take(b"data: {\"error\": {\"message\": \"gone\"}}\n\n", ms(1)).is_err());
        assert_eq!(Reading::default().end(), None);
    }

    #[test]
    fn a_burst_counts_all_tokens_over_the_whole_time() {
        let stream = |tokens, gap| Stream { first_token: ms(1), worst_gap: ms(gap), tokens };
        let burst = Burst { streams: vec![stream(30, 5), stream(10, 50)], wall: ms(2_000) };
        assert_eq!((burst.tokens_per_second(), burst.worst_gap()), (20.0, 0.05));
    }
}
