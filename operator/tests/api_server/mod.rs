//! An API server in memory: it keeps what is applied and writes down every request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// Objects by their path, and the requests so far.
#[derive(Default)]
pub struct ApiServer {
    objects: Mutex<BTreeMap<String, Value>>,
    requests: Mutex<Vec<String>>,
}

impl ApiServer {
    /// A server without objects.
    pub fn empty() -> Arc<Self> {
        Arc::default()
    }

    /// A client of it.
    pub fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Puts an object there.
    pub fn put(&self, path: &str, object: Value) {
        self.objects.lock().unwrap().insert(path.into(), object);
    }

    /// The object at a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.objects.lock().unwrap().get(path).cloned()
    }

    /// The requests since the last time, `METHOD path` each.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        self.requests.lock().unwrap().push(format!("{} {path}", parts.method));
        let body = body.collect().await.unwrap().to_bytes();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut objects = self.objects.lock().unwrap();
        match parts.method {
            Method::GET => match objects.get(&path) {
                Some(object) => respond(StatusCode::OK, object),
                None => respond(StatusCode::NOT_FOUND, &status("NotFound", 404)),
            },
            Method::PATCH => {
                assert!(
                    parts.uri.query().is_some_and(|query| query.contains("fieldManager=sojourn-operator")),
                    "{}",
                    parts.uri
                );
                let mut whole = sent.clone();
                if path.ends_with("/status") {
                    // The answer is the whole object, not what was sent of it.
                    whole["spec"] = json!({"model": {"uri": "pvc://models/m.gguf"}});
                }
                objects.insert(path, sent);
                respond(StatusCode::OK, &whole)
            }
            Method::DELETE => {
                objects.remove(&path);
                respond(StatusCode::OK, &status("Deleted", 200))
            }
            _ => respond(StatusCode::CREATED, &sent),
        }
    }
}

fn status(reason: &str, code: u16) -> Value {
    let word = if code < 400 { "Success" } else { "Failure" };
    json!({"kind": "Status", "apiVersion": "v1", "status": word, "reason": reason, "code": code})
}

fn respond(status: StatusCode, body: &Value) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap()
}
