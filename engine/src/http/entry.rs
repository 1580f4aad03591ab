//! The outermost layer: every request enters and leaves here. It gives the request its ids and its journey, checks the API
//! key, and puts the ids on whatever comes back, errors of routing and panics included.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, header};
use sojourn_contract::journey::Kind;
use sojourn_contract::path;
use tracing::{Instrument, info_span};

use super::Api;
use super::body::ClockedBody;
use super::connection::Connection;
use super::error::ApiError;
use super::upload::ReadToEnd;
use super::visit::{Visit, Visitor, X_REQUEST_ID};
use crate::operation::Operation;
use crate::telemetry::w3c::TRACERESPONSE;

/// Lets a request in, and its answer out.
pub async fn enter(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let (body, read) = ReadToEnd::watch(body);
    let mut request = Request::from_parts(parts, body);
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let arrived = connection.as_ref().map_or_else(Instant::now, |connection| connection.begin_request());
    let visit = Arc::new(begin(&api, &request, arrived));
    // From here on a dropped future is a client that went away.
    let visitor = Visitor::enter(visit.clone(), api.clone(), connection.clone());
    let (request_id, trace_id, span_id) = (visit.request_id(), visit.trace_id(), visit.span_id());
    let span = info_span!("request", request_id, trace_id, span_id);
    let response = match authorize(&api, &request) {
        Ok(()) => {
            request.extensions_mut().insert(visit.clone());
            next.run(request).instrument(span).await
        }
        Err(error) => error.into_response(),
    };
    let mut response = finish(&api, &visit, response);
    if !read.is_so() {
        // Nothing else can follow on this connection: the rest of the body would have to be read first.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| Body::new(ClockedBody::new(body, visitor, connection)))
}

fn begin(api: &Api, request: &Request, arrived: Instant) -> Visit {
    let operation = Operation::of(request.uri().path()).filter(|_| request.method() == Method::POST);
    match operation {
        Some(operation) => {
            let kind = request.extensions().get::<Kind>().copied().unwrap_or(Kind::Request);
            Visit::begin(api, operation, kind, request.headers(), arrived)
        }
        None => Visit::plain(api, request.headers(), arrived),
    }
}

fn authorize(api: &Api, request: &Request) -> Result<(), ApiError> {
    let Some(key) = &api.settings.api_key else { return Ok(()) };
    // Probes and scrapers have no key; everybody who can make the engine work needs one.
    let asked = request.uri().path();
    let guarded = asked.starts_with("/v1/") || [path::TOKENIZE, path::DETOKENIZE].contains(&asked);
    if !guarded || bears(request.headers(), key) {
        return Ok(());
    }
    Err(ApiError::unauthorized())
}

/// Compares in time that does not depend on where the keys differ.
fn bears(headers: &HeaderMap, key: &str) -> bool {
    let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((scheme, given)) = value.split_at_checked("Bearer ".len()) else { return false };
    let differences = given.iter().zip(key.as_bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    scheme.eq_ignore_ascii_case(b"Bearer ") && given.len() == key.len() && differences == 0
}

fn finish(api: &Api, visit: &Visit, response: Response) -> Response {
    let mut response = match response.extensions().get::<ApiError>() {
        Some(error) => {
            visit.failed(error.reason, &error.message);
            error.answer(visit)
        }
        None => response,
    };
    visit.answered(response.status());
    let headers = response.headers_mut();
    let mut set = |name, value: &str| HeaderValue::from_str(value).map(|value| headers.insert(name, value)).ok();
    set(X_REQUEST_ID, visit.request_id());
    if let Some(traceresponse) = visit.traceresponse() {
        set(TRACERESPONSE, traceresponse);
    }
    if api.is_draining() {
        set(header::CONNECTION, "close");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_must_be_the_whole_key() {
        let bears = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bears(&headers, "secret")
        };
        assert!(bears("Bearer secret"));
        assert!(bears("bearer secret"));
        for wrong in ["", "secret", "Bearer ", "Bearer secre", "Bearer secret1", "Bearer Secret", "Basic secret"] {
            assert!(!bears(wrong), "{wrong}");
        }
    }
}
