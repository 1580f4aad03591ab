//! `/metrics`, in the form that the scraper prefers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

use super::Api;
use super::error::ApiError;
use crate::metrics::Exposition;

/// `GET /metrics`
pub async fn scrape(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let exposition = preferred(accept.flat_map(|value| value.split(',')));
    match api.metrics.encode(exposition) {
        Ok(page) => ([(header::CONTENT_TYPE, exposition.content_type())], page).into_response(),
        Err(error) => ApiError::generation(format!("the metrics cannot be written: {error}")).into_response(),
    }
}

/// OpenMetrics for whoever names it and likes nothing better that we have; Prometheus' text for everybody else.
fn preferred<'a>(accepted: impl Iterator<Item = &'a str>) -> Exposition {
    let (mut openmetrics, mut text): (f32, f32) = (0.0, 0.0);
    for range in accepted {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match media {
            "application/openmetrics-text" => openmetrics = openmetrics.max(quality),
            "text/plain" | "text/*" => text = text.max(quality),
            _ => {}
        }
    }
    if openmetrics > 0.0 && openmetrics >= text { Exposition::OpenMetrics } else { Exposition::Prometheus }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scraper_chooses_the_form() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (prometheus, Exposition::OpenMetrics),
            ("application/openmetrics-text", Exposition::OpenMetrics),
            ("text/plain; q=0.5, application/openmetrics-text; q=0.2", Exposition::Prometheus),
            ("application/openmetrics-text;q=0", Exposition::Prometheus),
            ("text/plain", Exposition::Prometheus),
            ("*/*", Exposition::Prometheus),
            ("", Exposition::Prometheus),
        ] {
            assert_eq!(preferred(accept.split(',')), expected, "{accept}");
        }
    }
}
