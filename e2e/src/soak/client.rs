//! A client that does what was drawn for it, and notes what it saw.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use super::behaviour::{Ask, Behaviour, draw, pause};
use crate::chat::Caller;

/// Name of the served model.
pub const MODEL: &str = "soak";
/// A whole answer that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(150);
/// Time before a client that was refused asks again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A window so small that an answer soon fills it.
const SMALL_WINDOW: u32 = 4096;

/// What clients saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Answers that were read to their end, by status.
    pub answers: BTreeMap<u16, u64>,
    /// Requests that were left.
    pub left: u64,
    /// What should not be, at most a few of each run.
    pub surprises: Vec<String>,
}

impl Seen {
    /// Adds what another client saw.
    pub fn add(&mut self, other: &Self) {
        for (status, count) in &other.answers {
            *self.answers.entry(*status).or_default() += count;
        }
        self.left += other.left;
        self.surprises.extend(other.surprises.iter().cloned());
    }

    /// Requests that were sent.
    pub fn requests(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.left
    }
}

/// One client.
pub struct Client {
    /// What it saw so far.
    pub seen: Seen,
    url: String,
    http: reqwest::Client,
    random: StdRng,
}

impl Client {
    /// A client of the engine at `url`.
    pub fn new(url: &str, random: StdRng) -> Self {
        Self { seen: Seen::default(), url: url.to_owned(), http: reqwest::Client::new(), random }
    }

    /// Does one thing, and waits a moment.
    pub async fn act(&mut self) -> Result<()> {
        match draw(&mut self.random, MODEL) {
            Behaviour::Whole(ask) => {
                let status = self.whole(&ask).await?;
                // A full queue is an answer too, and a reason to wait as the answer asks for.
                self.note(status, &[200, 429], "a whole request");
                if status == 429 {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
            Behaviour::Wrong(ask) => {
                let status = self.whole(&ask).await?;
                self.note(status, &[400, 404, 413, 422], "a wrong request");
            }
            Behaviour::Leave(ask, patience) => {
                // Dropping the request closes its connection.
                drop(tokio::time::timeout(patience, self.whole(&ask)).await);
                self.seen.left += 1;
            }
            Behaviour::Stall(ask, patience) => {
                stall(&self.url, &ask, patience).await?;
                self.seen.left += 1;
            }
        }
        tokio::time::sleep(pause(&mut self.random)).await;
        Ok(())
    }

    fn note(&mut self, status: u16, expected: &[u16], what: &str) {
        *self.seen.answers.entry(status).or_default() += 1;
        if !expected.contains(&status) {
            self.seen.surprises.push(format!("{what} was answered {status}"));
        }
    }

    /// Asks and reads to the end; gives the status.
    async fn whole(&self, ask: &Ask) -> Result<u16> {
        let mut request = self.http.post(format!("{}{}", self.url, ask.path)).header("content-type", "application/json");
        if let Some(sampled) = ask.caller {
            request = request.header("traceparent", Caller::new(sampled).traceparent());
        }
        let exchange = async {
            let response = request.body(ask.body.clone()).send().await?;
            let status = response.status().as_u16();
            response.bytes().await.map(|_| status)
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(status) => status.context("an answer broke off"),
            Err(_) => bail!("a request is stuck: no whole answer within {} s", PATIENCE.as_secs()),
        }
    }
}

/// Sends a request, reads nothing, and goes away.
async fn stall(url: &str, ask: &Ask, patience: Duration) -> Result<()> {
    let address = url.trim_start_matches("http://");
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SMALL_WINDOW)?;
    let mut connection = socket.connect(address.parse().context("the engine's address is no address")?).await?;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        ask.path,
        ask.body.len()
    );
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(ask.body.as_bytes()).await?;
    tokio::time::sleep(patience).await;
    Ok(())
}
