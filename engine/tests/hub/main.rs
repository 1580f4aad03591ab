//! Models from a hub on loopback that answers as the real one does: what lands in the cache, what is asked for again after
//! which trouble, and what people read when there is no model.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod server;

mod downloads;
mod interruptions;
mod processes;
mod refusals;

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use reqwest::Url;
use sojourn_engine::hub::{Cached, Download, HubError, Meter, Settings};

/// Longest wait for something that must happen.
const SOON: Duration = Duration::from_secs(60);

/// A model to have from a hub, into a cache.
fn wanted(endpoint: &Url, cache: &Path, model: &str) -> Download {
    // Another test may have chosen already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let settings = Settings {
        endpoint: endpoint.clone(),
        cache: cache.to_owned(),
        authorization: Some(HeaderValue::from_static("Bearer hf_secret")),
        offline: false,
        first_pause: Duration::from_millis(1),
        patience: SOON,
    };
    Download { repository: model.parse().unwrap(), settings }
}

/// What came of a download, and how many bytes it took.
async fn run(wanted: &Download) -> (Result<Cached, HubError>, u64) {
    let meter = Meter::default();
    let result = tokio::time::timeout(SOON, wanted.run(&meter)).await.expect("an end in time");
    (result, meter.fetched())
}

/// An address at which nobody listens.
fn nowhere() -> Url {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap()
}
