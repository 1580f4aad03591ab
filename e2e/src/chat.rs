//! A client of the OpenAI API, as little of it as the scenarios say.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Talks to one engine.
#[derive(Debug, Clone)]
pub struct Chat {
    url: String,
    model: String,
    http: reqwest::Client,
}

/// One question.
pub struct Question {
    body: Value,
    headers: Vec<(&'static str, String)>,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The text, put together.
    pub text: String,
    /// `finish_reason` of the first choice.
    pub finish_reason: Option<String>,
    /// `usage`, if it was there.
    pub usage: Option<Value>,
    /// Header `x-request-id`.
    pub request_id: String,
    /// Trace id in header `traceresponse`.
    pub trace_id: String,
    /// The error body's message.
    pub error: Option<String>,
    /// Chunks with text.
    pub chunks: usize,
}

/// A caller's trace context with fixed ids.
pub struct Caller {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// The caller's trace is sampled.
    pub sampled: bool,
}

impl Caller {
    /// A caller in a new trace.
    pub fn new(sampled: bool) -> Self {
        let digits = |bytes: usize| (0..bytes).map(|_| format!("{:02x}", rand::random::<u8>())).collect::<String>();
        Self { trace_id: digits(16), span_id: digits(8), sampled }
    }

    /// The W3C header.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl Question {
    /// A question with a short greedy answer.
    pub fn new(content: &str) -> Self {
        let body = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 24, "temperature": 0});
        Self { body, headers: Vec::new() }
    }

    /// Sets a field of the body.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.body[field] = value.into();
        self
    }

    /// Streams the answer, with usage at its end.
    #[must_use]
    pub fn streaming(self) -> Self {
        self.with("stream", true).with("stream_options", json!({"include_usage": true}))
    }

    /// Asks within a caller's trace.
    #[must_use]
    pub fn within(mut self, caller: &Caller) -> Self {
        self.headers.push(("traceparent", caller.traceparent()));
        self
    }

    /// Asks under this request id.
    #[must_use]
    pub fn identified(mut self, id: &str) -> Self {
        self.headers.push(("x-request-id", id.to_owned()));
        self
    }

    /// Adds a W3C `tracestate` to the caller's context.
    #[must_use]
    pub fn stating(mut self, tracestate: &str) -> Self {
        self.headers.push(("tracestate", tracestate.to_owned()));
        self
    }

    /// Carries W3C baggage.
    #[must_use]
    pub fn carrying(mut self, baggage: &str) -> Self {
        self.headers.push(("baggage", baggage.to_owned()));
        self
    }
}

impl Chat {
    /// Talks to the engine at `url` about the model of this name.
    pub fn new(url: &str, model: &str) -> Self {
        Self { url: url.to_owned(), model: model.to_owned(), http: reqwest::Client::new() }
    }

    /// Asks, and reads the whole answer; `on_text` hears each piece of a stream.
    pub async fn ask(&self, question: Question, mut on_text: impl FnMut(&str)) -> Result<Answer> {
        let streaming = question.body["stream"] == true;
        let body = question.with_model(&self.model);
        let mut request = self.http.post(format!("{}/v1/chat/completions", self.url)).json(&body.body);
        for (name, value) in &body.headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.with_context(|| format!("cannot ask {}", self.url))?;
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let trace_id = header("traceresponse").split('-').nth(1).unwrap_or_default().to_owned();
        let mut answer =
            Answer { status: response.status().as_u16(), request_id: header("x-request-id"), trace_id, ..Answer::default() };
        if streaming && response.status().is_success() {
            read_stream(response, &mut answer, &mut on_text).await?;
        } else {
            read_body(&response.json().await.context("the answer is no JSON")?, &mut answer);
        }
        Ok(answer)
    }
}

impl Question {
    fn with_model(self, model: &str) -> Self {
        if self.body.get("model").is_some() { self } else { self.with("model", model) }
    }
}

fn read_body(body: &Value, answer: &mut Answer) {
    answer.text = body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
    answer.finish_reason = body["choices"][0]["finish_reason"].as_str().map(str::to_owned);
    answer.usage = body.get("usage").cloned();
    answer.error = body["error"]["message"].as_str().map(str::to_owned);
}

async fn read_stream(mut response: reqwest::Response, answer: &mut Answer, on_text: &mut impl FnMut(&str)) -> Result<()> {
    let mut buffer = Vec::new();
    while let Some(bytes) = response.chunk().await.context("the stream broke")? {
        buffer.extend_from_slice(&bytes);
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            let event = String::from_utf8(event).context("the stream is no UTF-8")?;
            let Some(data) = event.trim().strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                return Ok(());
            }
            read_chunk(&serde_json::from_str(data).context("a chunk is no JSON")?, answer, on_text);
        }
    }
    if answer.error.is_some() {
        return Ok(());
    }
    bail!("the stream ended without [DONE]")
}

fn read_chunk(chunk: &Value, answer: &mut Answer, on_text: &mut impl FnMut(&str)) {
    if let Some(text) = chunk["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
        answer.text.push_str(text);
        answer.chunks += 1;
        on_text(text);
    }
    if let Some(reason) = chunk["choices"][0]["finish_reason"].as_str() {
        answer.finish_reason = Some(reason.to_owned());
    }
    if chunk["usage"].is_object() {
        answer.usage = Some(chunk["usage"].clone());
    }
    if let Some(message) = chunk["error"]["message"].as_str() {
        answer.error = Some(message.to_owned());
    }
}
