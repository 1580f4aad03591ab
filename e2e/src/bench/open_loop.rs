//! Requests that arrive when they arrive, whether or not earlier ones were answered: a Poisson process, as independent
//! callers are. Latency counts from the moment a request was due, so that a client that falls behind hides nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use super::prompts::Prompts;

const PATIENCE: Duration = Duration::from_secs(30);

/// hyper's own client: reqwest's takes more of the machine than the engine does.
type Http = Client<HttpConnector, Full<Bytes>>;

/// What the callers saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Seconds of each answer with status 200, from when its request was due.
    pub seconds: Vec<f64>,
    /// Answers with status 429.
    pub refused: usize,
    /// Everything else.
    pub failed: usize,
}

impl Answers {
    /// All requests.
    pub fn requests(&self) -> usize {
        self.seconds.len() + self.refused + self.failed
    }
}

/// Asks `rate` times a second, on average, for this long.
pub async fn open_loop(url: &str, rate: u32, duration: Duration, tokens: u32) -> Result<Answers> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http: Http = Client::builder(TokioExecutor::new()).build(connector);
    let mut prompts = Prompts::default();
    let arrivals = arrivals(rate, duration);
    let requests: Vec<_> = arrivals.iter().map(|_| request(url, prompts.draw(), tokens)).collect::<Result<_>>()?;
    let mut running = JoinSet::new();
    let start = Instant::now();
    let mut due = pace(start, arrivals).context("cannot start a thread")?;
    for request in requests {
        let Some(due) = due.recv().await else { break };
        let http = http.clone();
        running.spawn(async move {
            let status = tokio::time::timeout(PATIENCE, status_of_whole(http, request)).await;
            (status.ok().and_then(Result::ok), start.elapsed().saturating_sub(due))
        });
    }
    let mut answers = Answers::default();
    while let Some(ended) = running.join_next().await {
        match ended? {
            (Some(200), took) => answers.seconds.push(took.as_secs_f64()),
            (Some(429), _) => answers.refused += 1,
            _ => answers.failed += 1,
        }
    }
    Ok(answers)
}

fn request(url: &str, prompt: String, tokens: u32) -> Result<Request<Full<Bytes>>> {
    let body = json!({"prompt": prompt, "max_tokens": tokens, "temperature": 0}).to_string();
    let request = Request::post(format!("{url}/v1/completions")).header(header::CONTENT_TYPE, "application/json");
    Ok(request.body(Full::from(body))?)
}

/// The status, once the whole body is here.
async fn status_of_whole(http: Http, request: Request<Full<Bytes>>) -> Result<u16> {
    let response = http.request(request).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    Ok(status)
}

/// Says of each request when it is due. A thread, because tokio's timer counts in milliseconds, and would make bursts of what
/// is none.
fn pace(start: Instant, arrivals: Vec<Duration>) -> std::io::Result<UnboundedReceiver<Duration>> {
    let (sender, due) = unbounded_channel();
    std::thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
        for arrival in arrivals {
            std::thread::sleep(arrival.saturating_sub(start.elapsed()));
            if sender.send(arrival).is_err() {
                return;
            }
        }
    })?;
    Ok(due)
}

/// When requests are due: exponential gaps, the same in every run.
fn arrivals(rate: u32, duration: Duration) -> Vec<Duration> {
    let mut random = StdRng::seed_from_u64(7);
    let mut due = Duration::ZERO;
    let mut all = Vec::new();
    loop {
        let uniform: f64 = random.random_range(f64::MIN_POSITIVE..1.0);
        due += Duration::from_secs_f64(-uniform.ln() / f64::from(rate));
        if due > duration {
            return all;
        }
        all.push(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_as_many_as_the_rate_says_and_come_in_no_rhythm() {
        let due = arrivals(1_000, Duration::from_secs(10));
        assert!((9_500..10_500).contains(&due.len()), "{}", due.len());
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        // Of exponential gaps, a part of 1/e is longer than the mean.
        let longer = gaps.iter().filter(|gap| **gap > mean).count() as f64 / gaps.len() as f64;
        assert!((0.33..0.40).contains(&longer), "{longer}");
    }
}
