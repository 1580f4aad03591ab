//! Clients: one that behaves, and raw sockets for those that do not.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The data of its events.
    pub fn events(&self) -> Vec<String> {
        let text = std::str::from_utf8(&self.body).unwrap();
        assert!(text.ends_with("\n\n"), "{text:?}");
        let events = text.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
        events.map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
    }

    /// The same, without the `[DONE]` that must come last.
    pub fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

/// A kept connection.
pub struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.0.ready().await.unwrap();
        let mut request = Request::builder().method(method).uri(path).header("host", "engine");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.0.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }
}

/// One request on a connection of its own.
pub async fn send(address: SocketAddr, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    Client::connect(address).await.send(method, path, headers, body.to_owned()).await
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, Method::GET, path, &[], "").await
}

pub async fn post(address: SocketAddr, path: &str, body: Value) -> Answer {
    send(address, Method::POST, path, &[], &body.to_string()).await
}

pub async fn chat(address: SocketAddr, body: Value) -> Answer {
    post(address, "/v1/chat/completions", body).await
}

pub async fn completion(address: SocketAddr, body: Value) -> Answer {
    post(address, "/v1/completions", body).await
}

/// A chat request with one user message and more fields.
pub fn chat_body(content: &str, more: Value) -> Value {
    with(json!({"model": "scripted", "messages": [{"role": "user", "content": content}]}), more)
}

/// A completion request with more fields.
pub fn completion_body(prompt: &str, more: Value) -> Value {
    with(json!({"model": "scripted", "prompt": prompt}), more)
}

fn with(mut body: Value, more: Value) -> Value {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

/// Bytes of a POST, for a raw socket.
pub fn raw_post(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!("POST {path} HTTP/1.1\r\nhost: engine\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Sends a POST on a raw socket and leaves the answer there.
pub async fn raw(address: SocketAddr, path: &str, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&raw_post(path, body)).await.unwrap();
    stream
}
