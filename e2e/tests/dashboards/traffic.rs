//! What is asked: known numbers of requests that are answered, refused, left, preempted, fail and hang.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sojourn_contract::{metric, path};
use sojourn_e2e::metrics::Page;
use sojourn_e2e::wait::{self, Look};
use tokio::task::JoinHandle;

use super::pods::{Pods, WAITING};
use super::{PATIENCE, now, until};

/// How many requests ended in which way.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Answered by the engine with the sidecar.
    pub ok: usize,
    /// Wrong: a 400.
    pub invalid: usize,
    /// Found the queue full: a 429.
    pub overloaded: usize,
    /// Failed on our side.
    pub failed: usize,
    /// Left while tokens came.
    pub left_decoding: usize,
    /// Left in the queue.
    pub left_waiting: usize,
    /// Answered by the engine whose journeys nobody takes.
    pub of_refused: usize,
    /// When a step hung, one sequence ran and the queue was full.
    pub stalled_at: f64,
}

impl Asked {
    /// Requests of the engine with the sidecar.
    pub fn of_engine(&self) -> usize {
        self.ok + self.invalid + self.overloaded + self.failed + self.aborted()
    }

    /// Requests whose client left.
    pub fn aborted(&self) -> usize {
        self.left_decoding + self.left_waiting
    }

    /// Requests of both engines.
    pub fn total(&self) -> usize {
        self.of_engine() + self.of_refused
    }
}

/// Asks for everything, one thing after the other. No two numbers are the same, so that none stands for another.
pub async fn send(pods: &Pods) -> Result<Asked> {
    let client = Client { http: reqwest::Client::new(), url: pods.engine.url.clone() };
    let mut asked = Asked::default();
    for _ in 0..8 {
        // The prompt is the same, so that the prefix cache has something to give.
        client.expect(200, completion("What may be asked twice is answered twice.", 8)).await?;
        asked.ok += 1;
    }
    for _ in 0..4 {
        let question = json!({"model": "chat", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 8});
        client.expect_at(path::CHAT_COMPLETIONS, 200, question).await?;
        asked.ok += 1;
    }
    for _ in 0..6 {
        client.expect(400, with(completion("hot", 8), "temperature", json!(-1))).await?;
        asked.invalid += 1;
    }
    for _ in 0..2 {
        client.expect(500, completion("[fail]", 8)).await?;
        asked.failed += 1;
    }
    crowd(&client, &mut asked).await?;
    urgent(&client, &mut asked).await?;
    fail_beside_another(&client, &mut asked).await?;
    for n in 0..4 {
        client.leave(completion(&format!("{n}: nobody reads this to its end"), 100)).await?;
        asked.left_decoding += 1;
    }
    client.idle().await?;
    hang(pods, &client, &mut asked).await?;
    let other = Client { url: pods.refused.url.clone(), ..client };
    for _ in 0..7 {
        other.expect(200, completion("hello", 4)).await?;
        asked.of_refused += 1;
    }
    Ok(asked)
}

/// Asks again, while nobody takes journeys.
pub async fn ask_after_all(pods: &Pods, requests: usize) -> Result<()> {
    let client = Client { http: reqwest::Client::new(), url: pods.engine.url.clone() };
    for _ in 0..requests {
        client.expect(200, completion("still there?", 2)).await?;
    }
    Ok(())
}

/// Two that need more KV than there is, so that one is preempted.
async fn crowd(client: &Client, asked: &mut Asked) -> Result<()> {
    let both = ["a", "b"].map(|name| client.spawn(completion(&name.repeat(40), 100)));
    for answer in both {
        ensure!(answer.await?? == 200, "a request in a crowd failed");
        asked.ok += 1;
    }
    Ok(())
}

/// An urgent one takes the place of one of two.
async fn urgent(client: &Client, asked: &mut Asked) -> Result<()> {
    let both = ["c", "d"].map(|name| client.spawn(with(completion(name, 80), "priority", json!(5))));
    client.until_running(2).await?;
    client.expect(200, with(completion("e", 2), "priority", json!(-5))).await?;
    for answer in both {
        ensure!(answer.await?? == 200, "a request that made room failed");
    }
    asked.ok += 3;
    Ok(())
}

/// The step that fails has another sequence in it, which is tried again by itself.
async fn fail_beside_another(client: &Client, asked: &mut Asked) -> Result<()> {
    let another = client.spawn(completion("f", 80));
    client.until_running(1).await?;
    client.expect(500, completion("g [fail]", 8)).await?;
    ensure!(another.await?? == 200, "the other one failed too");
    asked.failed += 1;
    asked.ok += 1;
    Ok(())
}

/// A step hangs; meanwhile the queue fills, somebody finds it full, and somebody leaves it.
async fn hang(pods: &Pods, client: &Client, asked: &mut Asked) -> Result<()> {
    let hanging = client.spawn(completion("[hang]", 1));
    client.until_running(1).await?;
    until(&pods.prometheus, "max(sojourn_step_stalled_seconds)", |seconds| seconds > 0.0).await?;
    let patient = [0; WAITING - 1].map(|_| client.spawn(completion("patient", 2)));
    let impatient = client.spawn(completion("impatient", 2));
    client.until(&metric::NUM_REQUESTS_WAITING, WAITING).await?;
    for _ in 0..2 {
        client.expect(429, completion("too late", 2)).await?;
        asked.overloaded += 1;
    }
    until(&pods.prometheus, "sum(vllm:num_requests_waiting)", |waiting| waiting == WAITING as f64).await?;
    asked.stalled_at = now();
    impatient.abort();
    asked.left_waiting += 1;
    for answer in std::iter::once(hanging).chain(patient) {
        ensure!(answer.await?? == 200, "a request that waited for the hanging step failed");
        asked.ok += 1;
    }
    client.idle().await
}

fn completion(prompt: &str, tokens: u32) -> Value {
    json!({"model": "chat", "prompt": prompt, "max_tokens": tokens, "ignore_eos": true})
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    async fn expect(&self, status: u16, body: Value) -> Result<()> {
        self.expect_at(path::COMPLETIONS, status, body).await
    }

    async fn expect_at(&self, path: &str, status: u16, body: Value) -> Result<()> {
        let found = self.ask(path, &body).await?;
        ensure!(found == status, "{body} was answered {found} and not {status}");
        Ok(())
    }

    fn spawn(&self, body: Value) -> JoinHandle<Result<u16>> {
        let client = self.clone();
        tokio::spawn(async move { client.ask(path::COMPLETIONS, &body).await })
    }

    async fn ask(&self, path: &str, body: &Value) -> Result<u16> {
        let response = self.http.post(format!("{}{path}", self.url)).json(body).send().await.context("cannot ask")?;
        let status = response.status().as_u16();
        response.bytes().await.context("the answer broke off")?;
        Ok(status)
    }

    /// Reads the first piece of a stream and goes away.
    async fn leave(&self, body: Value) -> Result<()> {
        let body = with(body, "stream", json!(true));
        // A client of its own, so that the connection closes with it.
        let mut response = reqwest::Client::new().post(format!("{}{}", self.url, path::COMPLETIONS)).json(&body).send().await?;
        ensure!(response.chunk().await?.is_some(), "a stream without a piece");
        Ok(())
    }

    async fn until_running(&self, count: usize) -> Result<()> {
        self.until(&metric::NUM_REQUESTS_RUNNING, count).await
    }

    async fn idle(&self) -> Result<()> {
        self.until(&metric::REQUESTS_IN_FLIGHT, 0).await
    }

    async fn until(&self, gauge: &metric::Metric, count: usize) -> Result<()> {
        wait::quietly(&format!("{} is {count}", gauge.series()), PATIENCE, || async {
            let found = Page::scrape(&self.url).await?.sum(&gauge.series(), &[]);
            Ok(if found == count as f64 { Look::Holds(()) } else { Look::NotYet(found.to_string()) })
        })
        .await
    }
}
