//! Requests that arrive when they arrive, whether or not earlier ones were answered: a Poisson process, as independent
//! callers are. Latency counts from the moment a request was due, so that a client that falls behind hides nothing.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::prompts::Prompts;

const PATIENCE: Duration = Duration::from_secs(30);

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
    let http = reqwest::Client::new();
    let url = format!("{url}/v1/completions");
    let mut prompts = Prompts::default();
    let mut running = JoinSet::new();
    let start = Instant::now();
    for due in arrivals(rate, duration) {
        let body = json!({"prompt": prompts.draw(), "max_tokens": tokens, "temperature": 0}).to_string();
        tokio::time::sleep_until(start + due).await;
        let (http, url) = (http.clone(), url.clone());
        running.spawn(async move {
            let request = http.post(url).header("content-type", "application/json").body(body);
            let status = tokio::time::timeout(PATIENCE, status_of_whole(request)).await;
            (status.ok().and_then(reqwest::Result::ok), start.elapsed().saturating_sub(due))
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

/// The status, once the whole body is here.
async fn status_of_whole(request: reqwest::RequestBuilder) -> reqwest::Result<u16> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    response.bytes().await.map(|_| status)
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
