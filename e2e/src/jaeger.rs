//! Traces as they arrived: Jaeger's query API.

use std::time::Duration;

use anyhow::{Context, Result};
use sojourn_journey::trace::Trace;

use crate::wait::{self, Look};

/// The sandbox's trace backend.
pub struct Jaeger {
    url: String,
    http: reqwest::Client,
}

impl Jaeger {
    /// The backend at `url`.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), http: reqwest::Client::new() }
    }

    /// Where a trace can be looked at.
    pub fn address(&self, trace_id: &str) -> String {
        format!("{}/api/traces/{trace_id}", self.url)
    }

    /// A trace as it is now, in Jaeger's own form; `None` if there is none.
    pub async fn raw(&self, trace_id: &str) -> Result<Option<String>> {
        let response = self.http.get(self.address(trace_id)).send().await.context("cannot ask Jaeger")?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(response.error_for_status().context("Jaeger refuses")?.text().await?))
    }

    /// A trace as it is now; `None` if there is none.
    pub async fn find(&self, trace_id: &str) -> Result<Option<Trace>> {
        let Some(text) = self.raw(trace_id).await? else { return Ok(None) };
        let traces = Trace::read(&text).context("Jaeger's answer is no trace")?;
        Ok(traces.into_iter().next().filter(|trace| !trace.spans.is_empty()))
    }

    /// Waits until a trace has as many `llm_request` spans as were asked for.
    pub async fn trace(&self, trace_id: &str, journeys: usize) -> Result<Trace> {
        wait::quietly(&format!("trace {trace_id} in Jaeger"), Duration::from_secs(30), || async {
            let Some(trace) = self.find(trace_id).await? else { return Ok(Look::NotYet("no such trace".to_owned())) };
            let found = trace.spans.iter().filter(|span| span.name == sojourn_contract::journey::LLM_REQUEST).count();
            Ok(if found >= journeys { Look::Holds(trace) } else { Look::NotYet(format!("{found} of {journeys} journeys")) })
        })
        .await
    }
}
