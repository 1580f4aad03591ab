//! The admin port, on 127.0.0.1 alone: journeys as pages and as JSON, and the canary. `kubectl port-forward` reaches it.
//!
//! Nothing here knows a prompt or a completion. What clients chose, request ids above all, is escaped; see [`html`]. Who may
//! ask is in [`guard`].

mod canary;
mod detail;
mod guard;
mod html;
mod list;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use serde_json::json;
use sojourn_contract::{flag, path};
use sojourn_journey::read::otlp;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::http::Api;
use crate::journeys::filter::{Filter, slow_from};
use crate::journeys::summary::Summary;
use crate::journeys::view::View;
use crate::scheduler::stall::Stall;

/// What the admin port shows.
pub struct Admin {
    /// The engine's HTTP side, which the canary goes through.
    pub api: Arc<Api>,
    /// The journeys; `None` with tracing off.
    pub view: Option<View>,
}

/// Serves until the handle is aborted. A port that is taken costs the pages, not the engine.
pub async fn start(port: u16, admin: Admin) -> Option<AbortHandle> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(address).await {
        Ok(listener) => {
            tracing::info!("journeys are at http://{address}{}", path::JOURNEYS);
            let router = router(Arc::new(admin));
            Some(tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle())
        }
        Err(error) => {
            let flag = flag::ADMIN_PORT;
            tracing::warn!(
                "there are no admin pages: cannot listen on {address}: {error}; choose another --{flag}, or 0 for none"
            );
            None
        }
    }
}

/// The whole service.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary(path::JOURNEYS) }))
        .route(path::JOURNEYS, get(list_page))
        .route(path::JOURNEYS_JSON, get(list_json))
        .route("/journeys/{*id}", get(one))
        .route(path::CANARY, post(canary::send))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is no such page; journeys are at /journeys\n") })
        .layer(from_fn(guard::admit))
        .with_state(admin)
}

/// What a list is asked for.
#[derive(serde::Deserialize)]
struct Wanted {
    filter: Option<String>,
    limit: Option<usize>,
}

/// Everything there is, summed up, and what of it is shown.
struct Listing {
    filter: Filter,
    limit: usize,
    /// Seconds from which on a journey is slow.
    slow_from: f64,
    now_unix_seconds: f64,
    all: Vec<Summary>,
    /// The step that does not come back, if there is one.
    stall: Option<Stall>,
}

impl Listing {
    /// Journeys on a page that does not say how many it wants.
    const LIMIT: usize = 200;

    fn new(view: &View, wanted: &Wanted) -> Result<Self, String> {
        let filter = match wanted.filter.as_deref() {
            None => Filter::All,
            Some(name) => Filter::named(name).ok_or_else(|| unknown_filter(name))?,
        };
        let collected = view.collect();
        let all: Vec<Summary> = collected.entries.iter().map(|entry| Summary::of(entry)).collect();
        Ok(Self {
            filter,
            limit: wanted.limit.unwrap_or(Self::LIMIT),
            slow_from: slow_from(&all),
            now_unix_seconds: collected.now.unix_nanos as f64 / 1e9,
            all,
            stall: view.stall(),
        })
    }

    fn shown(&self) -> impl Iterator<Item = &Summary> {
        self.all.iter().filter(|journey| self.filter.shows(journey, self.slow_from)).take(self.limit)
    }

    fn count(&self, filter: Filter) -> usize {
        self.all.iter().filter(|journey| filter.shows(journey, self.slow_from)).count()
    }
}

async fn list_page(State(admin): State<Arc<Admin>>, Query(wanted): Query<Wanted>) -> Response {
    let Some(view) = &admin.view else { return list::tracing_is_off().into_response() };
    match Listing::new(view, &wanted) {
        Ok(listing) => list::page(&listing, view.history(), admin.model()).into_response(),
        Err(refusal) => (StatusCode::BAD_REQUEST, refusal).into_response(),
    }
}

async fn list_json(State(admin): State<Arc<Admin>>, Query(wanted): Query<Wanted>) -> Response {
    let Some(view) = &admin.view else { return no_journeys() };
    let listing = match Listing::new(view, &wanted) {
        Ok(listing) => listing,
        Err(refusal) => return (StatusCode::BAD_REQUEST, refusal).into_response(),
    };
    let journeys: Vec<&Summary> = listing.shown().collect();
    axum::Json(json!({
        "in_flight": listing.count(Filter::Running),
        "kept": listing.all.len() - listing.count(Filter::Running),
        "history": view.history(),
        "slow_from_seconds": listing.slow_from,
        "now_unix_seconds": listing.now_unix_seconds,
        "stalled_step": listing.stall.as_ref().map(|stall| {
            json!({"step": stall.step, "seconds": stall.seconds, "request_ids": stall.requests.iter().map(|id| &**id).collect::<Vec<_>>()})
        }),
        "journeys": journeys,
    }))
    .into_response()
}

/// A journey's page, or with `.json` behind its id its spans.
async fn one(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    let Some(view) = &admin.view else { return no_journeys() };
    if let Some(entry) = view.find(&id) {
        return detail::page(&entry, &view.trace(&entry)).into_response();
    }
    let named = id.strip_suffix(".json");
    match named.and_then(|id| view.find(id)) {
        Some(entry) => {
            let spans = otlp::write(&[view.trace(&entry)]).to_string();
            ([(header::CONTENT_TYPE, "application/json")], spans).into_response()
        }
        None if named.is_some() => (StatusCode::NOT_FOUND, axum::Json(json!({"error": NOT_KEPT}))).into_response(),
        None => (StatusCode::NOT_FOUND, detail::not_found(&id, view.history())).into_response(),
    }
}

const NOT_KEPT: &str = "no journey that is in flight or kept has this id: it may be older than those that are kept \
                        (--journey-history), or of another replica";

impl Admin {
    fn model(&self) -> &str {
        self.api.served.get().map_or("loading", |served| served.name.as_str())
    }
}

fn unknown_filter(name: &str) -> String {
    format!("filter={name} is not one of: {}\n", Filter::ALL.map(Filter::as_str).join(", "))
}

fn no_journeys() -> Response {
    let error = format!("journey tracing is off: start the engine with --{}", flag::ENABLE_JOURNEY_TRACING);
    (StatusCode::NOT_FOUND, axum::Json(json!({"error": error}))).into_response()
}
