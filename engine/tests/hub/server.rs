//! The hub: one repository, `org/repo`, at one commit, that was once called `org/old`. Large files are kept elsewhere, on another
//! origin, as the real hub does.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, StatusCode};
use reqwest::Url;
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Hub,
    Elsewhere,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Asked {
    pub place: Place,
    pub method: Method,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
}

/// What goes wrong with the content of one large file, once.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// After so many bytes nothing comes any more.
    Silent(usize),
    /// The first byte is another one.
    Damaged,
    /// The link has run out.
    Expired,
}

/// What the hub says instead of an answer, once.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
}

struct Shared {
    files: Vec<(String, Bytes)>,
    elsewhere: SocketAddr,
    asked: Mutex<Vec<Asked>>,
    faults: Mutex<VecDeque<Fault>>,
    refusals: Mutex<VecDeque<Refusal>>,
}

pub struct Hub {
    pub endpoint: Url,
    shared: Arc<Shared>,
}

impl Hub {
    pub async fn start(files: &[(&str, Bytes)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let shared = Arc::new(Shared {
            files: files.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect(),
            elsewhere: elsewhere.local_addr().unwrap(),
            asked: Mutex::default(),
            faults: Mutex::default(),
            refusals: Mutex::default(),
        });
        for (listener, place) in [(listener, Place::Hub), (elsewhere, Place::Elsewhere)] {
            let router = Router::new().fallback(answer).with_state((place, shared.clone()));
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        Self { endpoint, shared }
    }

    /// A hub with `model.gguf` of some pages.
    pub async fn with_gguf() -> (Self, Bytes) {
        let content = content(300_000);
        (Self::start(&[("README.md", content.slice(..100)), ("model.gguf", content.clone())]).await, content)
    }

    pub fn fails_with(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    pub fn refuses_with(&self, refusals: impl IntoIterator<Item = Refusal>) {
        self.shared.refusals.lock().unwrap().extend(refusals);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Requests for the content of large files.
    pub fn transfers(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.place == Place::Elsewhere).collect()
    }
}

/// Some bytes that do not repeat in pages.
pub fn content(length: u32) -> Bytes {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<u8>>().into()
}

pub fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

pub fn git_blob(content: &[u8]) -> String {
    hex(&Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn answer(State((place, shared)): State<(Place, Arc<Shared>)>, request: Request) -> Response {
    let header = |name: &str| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
    let (authorization, range) = (header("authorization"), header("range"));
    let path = request.uri().path().to_owned();
    let asked = Asked { place, method: request.method().clone(), path: path.clone(), authorization, range: range.clone() };
    shared.asked.lock().unwrap().push(asked);
    if place == Place::Elsewhere {
        let signed = request.uri().query() == Some("signature=of-the-hub");
        return if signed { shared.transfer(&path[1..], range.as_deref()) } else { error(403, "", "unsigned") };
    }
    if let Some(refusal) = shared.refusals.lock().unwrap().pop_front() {
        let response = Response::builder().status(refusal.status);
        let response = refusal.headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
        return response.body(Body::empty()).unwrap();
    }
    if path.contains("/old/") {
        let response = Response::builder().status(StatusCode::TEMPORARY_REDIRECT);
        return response.header("location", path.replace("/old/", "/repo/")).body(Body::empty()).unwrap();
    }
    let parts: Vec<&str> = path[1..].split('/').collect();
    match parts.as_slice() {
        ["api", "models", "org", "repo", "revision", "main" | COMMIT] => shared.listing(),
        ["org", "repo", "resolve", "main" | COMMIT, file @ ..] => shared.resolve(&file.join("/")),
        ["api", "models", "org", "repo", ..] | ["org", "repo", ..] => error(404, "RevisionNotFound", "Invalid rev id"),
        _ => error(401, "RepoNotFound", "Invalid username or password."),
    }
}

fn error(status: u16, code: &str, message: &str) -> Response {
    let response = Response::builder().status(status).header("x-error-code", code).header("x-error-message", message);
    response.body(Body::empty()).unwrap()
}

impl Shared {
    fn find(&self, file: &str) -> Option<&Bytes> {
        self.files.iter().find(|(name, _)| name == file).map(|(_, content)| content)
    }

    fn listing(&self) -> Response {
        let files: Vec<_> = self.files.iter().map(|(name, _)| json!({"rfilename": name})).collect();
        let body = json!({"id": "org/repo", "sha": COMMIT, "siblings": files});
        Response::new(Body::from(body.to_string()))
    }

    fn resolve(&self, file: &str) -> Response {
        let Some(content) = self.find(file) else { return error(404, "EntryNotFound", "Entry not found") };
        let response = Response::builder().header("x-repo-commit", COMMIT);
        let is_large = file.ends_with(".gguf") || file.ends_with(".safetensors");
        if !is_large {
            let etag = format!("\"{}\"", git_blob(content));
            return response.header("etag", etag).body(Body::from(content.clone())).unwrap();
        }
        let response = response.status(StatusCode::FOUND).header("etag", "\"of-the-redirect\"");
        let location = format!("http://{}/{file}?signature=of-the-hub", self.elsewhere);
        let response = response.header("location", location).header("x-linked-size", content.len());
        response.header("x-linked-etag", format!("\"{}\"", sha256(content))).body(Body::from("Found")).unwrap()
    }

    fn transfer(&self, file: &str, range: Option<&str>) -> Response {
        let Some(whole) = self.find(file) else { return error(404, "", "no such key") };
        let from: usize = range.map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
        let rest = whole.slice(from..);
        let response = Response::builder().header("content-length", rest.len());
        let response = match range {
            Some(_) => response
                .status(StatusCode::PARTIAL_CONTENT)
                .header("content-range", format!("bytes {from}-{}/{}", whole.len() - 1, whole.len())),
            None => response,
        };
        let fault = self.faults.lock().unwrap().pop_front();
        let body = match fault {
            None => Body::from(rest),
            Some(Fault::Expired) => return error(403, "", "Request has expired"),
            Some(Fault::Damaged) => {
                let mut damaged = rest.to_vec();
                damaged[0] ^= 1;
                Body::from(damaged)
            }
            // What was sent is out when the body has once been pending.
            Some(Fault::Cut(length)) => Body::from_stream(sent(&rest, length).chain(stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::other("cut"))
            }))),
            Some(Fault::Silent(length)) => Body::from_stream(sent(&rest, length).chain(stream::pending())),
        };
        response.body(body).unwrap()
    }
}

fn sent(rest: &Bytes, length: usize) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + use<> {
    let piece = Some(rest.slice(..length.min(rest.len()))).filter(|piece| !piece.is_empty());
    stream::iter(piece.map(Ok))
}
