//! The dashboards on a Grafana and a Tempo that somebody has: imports them, asks what their panels ask through Grafana's data
//! sources, and looks for a journey in Tempo.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};
use sojourn_contract::journey::LLM_REQUEST;
use sojourn_journey::trace::Trace;

use super::{Dashboard, Language};
use crate::wait::{self, Look};

/// Grafana's address, without TLS: `kubectl port-forward` brings it here.
pub const GRAFANA_URL: &str = "GRAFANA_URL";
/// A token of a service account that may write dashboards; none where the address has `user:password@`.
pub const GRAFANA_TOKEN: &str = "GRAFANA_TOKEN";
/// Address of Tempo's query API.
pub const TEMPO_URL: &str = "TEMPO_URL";
/// Where Tempo takes OTLP over gRPC; port 4317 of the same host where it is not set.
pub const TEMPO_OTLP_URL: &str = "TEMPO_OTLP_URL";

/// What a panel is asked about: the last hour.
const RANGE_SECONDS: f64 = 3600.0;
/// Between two points of an answer.
const STEP_SECONDS: u32 = 60;
/// Longest wait for a trace in Tempo.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Grafana and a Tempo. It has no `Debug`: it holds a token.
pub struct Live {
    /// Where Tempo takes journeys.
    pub otlp: String,
    grafana: Url,
    tempo: Url,
    token: Option<String>,
    http: reqwest::Client,
}

/// What a query was answered with.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// Where it stands: dashboard, panel and letter.
    pub place: String,
    /// How many series or traces there were, or why there was no answer.
    pub found: Result<usize, String>,
}

impl Live {
    /// Those that variables of the environment name.
    ///
    /// # Errors
    /// One is missing or is no address; the message says what to set.
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let address = |name: &str| {
            let text = variable(name).with_context(|| {
                format!("set {GRAFANA_URL} and {TEMPO_URL}, such as http://127.0.0.1:3000 and http://127.0.0.1:3200; {name} is not set")
            })?;
            Url::parse(&text).with_context(|| format!("{name} is no address: {text}"))
        };
        let (grafana, tempo) = (address(GRAFANA_URL)?, address(TEMPO_URL)?);
        let beside = || Some(format!("http://{}:4317", tempo.host_str()?));
        let otlp = variable(TEMPO_OTLP_URL).or_else(beside).context("the address of Tempo has no host")?;
        Ok(Self { otlp, grafana, tempo, token: variable(GRAFANA_TOKEN), http: reqwest::Client::new() })
    }

    /// Imports a dashboard over an older one; answers where it can be looked at.
    ///
    /// # Errors
    /// Grafana refuses it.
    pub async fn import(&self, dashboard: &Dashboard) -> Result<String> {
        let body = json!({"dashboard": dashboard.json, "overwrite": true, "message": "make dashboards-live"});
        let answer = send(self.grafana(Method::POST, "api/dashboards/db", &[])?.json(&body)).await?;
        let path = answer["url"].as_str().with_context(|| format!("Grafana does not say where it is: {answer}"))?;
        Ok(self.grafana.join(path)?.to_string())
    }

    /// Asks everything that a dashboard's panels ask, with its variables as they are at first, at a time in Unix seconds.
    ///
    /// # Errors
    /// Grafana has no data source for it.
    pub async fn ask(&self, dashboard: &Dashboard, now: f64) -> Result<Vec<Answer>> {
        let (prometheus, tempo) = (self.data_source("prometheus").await?, self.data_source("tempo").await?);
        let variables = dashboard.variables().with("__rate_interval", "4m");
        let mut answers = Vec::new();
        for query in dashboard.queries() {
            let text = variables.fill(&query.text)?;
            let (source, path, name, list) = match query.language {
                Language::PromQl => (&prometheus, "api/v1/query_range", "query", &["data", "result"][..]),
                Language::TraceQl => (&tempo, "api/search", "q", &["traces"][..]),
                Language::TraceQlMetrics => (&tempo, "api/metrics/query_range", "q", &["series"][..]),
            };
            let (from, step) = ((now - RANGE_SECONDS).floor().to_string(), STEP_SECONDS.to_string());
            let to = now.floor().to_string();
            let parameters = [(name, text.as_str()), ("start", &from), ("end", &to), ("step", &step)];
            let proxy = format!("api/datasources/proxy/uid/{source}/{path}");
            let answer = match self.grafana(Method::GET, &proxy, &parameters) {
                Ok(request) => send(request).await,
                Err(error) => Err(error),
            };
            let count = |answer: Value| {
                let found = list.iter().try_fold(&answer, |value, key| value.get(key))?;
                found.as_array().map(Vec::len)
            };
            let found = answer.map_err(|error| format!("{error:#}"));
            let found = found.and_then(|answer| count(answer).ok_or_else(|| format!("an answer without {}", list.join("."))));
            answers.push(Answer { place: format!("{}: {} {}", query.dashboard, query.panel, query.ref_id), found });
        }
        Ok(answers)
    }

    /// Waits until Tempo has a request's trace.
    ///
    /// # Errors
    /// It does not get it within a minute.
    pub async fn trace(&self, trace_id: &str) -> Result<Trace> {
        let url = joined(&self.tempo, &format!("api/traces/{trace_id}"))?;
        wait::quietly(&format!("trace {trace_id} in Tempo"), PATIENCE, || async {
            let request = self.http.get(url.clone()).header("accept", "application/json");
            let response = request.send().await.with_context(|| format!("cannot ask {url}"))?;
            if response.status() == StatusCode::NOT_FOUND {
                return Ok(Look::NotYet("no such trace".to_owned()));
            }
            let text = response.error_for_status().context("Tempo refuses")?.text().await?;
            let traces = Trace::read(&text).context("Tempo's answer is no trace")?;
            let whole = traces.into_iter().find(|trace| trace.spans.iter().any(|span| span.name == LLM_REQUEST));
            Ok(whole.map_or_else(|| Look::NotYet("not whole yet".to_owned()), Look::Holds))
        })
        .await
    }

    /// The data source of this type that Grafana takes by default, or the only one.
    async fn data_source(&self, kind: &str) -> Result<String> {
        let all = send(self.grafana(Method::GET, "api/datasources", &[])?).await?;
        let of_kind: Vec<&Value> = all.as_array().into_iter().flatten().filter(|source| source["type"] == kind).collect();
        let chosen = of_kind.iter().find(|source| source["isDefault"] == true).or(of_kind.first());
        let uid = chosen.and_then(|source| source["uid"].as_str());
        uid.map(str::to_owned).with_context(|| format!("Grafana has no data source of type {kind}: docs/grafana.md adds one"))
    }

    fn grafana(&self, method: Method, path: &str, parameters: &[(&str, &str)]) -> Result<RequestBuilder> {
        let mut url = joined(&self.grafana, path)?;
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }
}

/// A path below an address that may have one itself.
fn joined(base: &Url, path: &str) -> Result<Url> {
    let mut base = base.clone();
    base.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    Ok(base)
}

async fn send(request: RequestBuilder) -> Result<Value> {
    let response = request.send().await.context("cannot ask Grafana")?;
    let status = response.status();
    let text = response.text().await.context("the answer broke off")?;
    if !status.is_success() {
        bail!("Grafana answers {status}: {}", text.trim());
    }
    serde_json::from_str(&text).with_context(|| format!("the answer is no JSON: {text}"))
}

#[cfg(test)]
mod tests;
