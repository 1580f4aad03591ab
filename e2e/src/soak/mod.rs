//! `make soak`: clients that behave as clients do, for minutes; then nothing may be stuck, lost, illegal or growing.
//!
//! ```text
//! wave: 8 clients ──(behaviour, drawn at random)──> engine ──OTLP──> receiver ──> ledger
//!       all join, the engine becomes idle, its memory is read                       │
//! again until the time is over ─────────────────────────────────────> findings <───┘
//! ```
//! Memory is compared between idle moments, because what active requests hold (KV cache) would hide everything else.

pub mod behaviour;
pub mod client;
pub mod findings;
pub mod ledger;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use sojourn_contract::metric;
use tokio::task::JoinSet;

use self::client::{Client, Seen};
use self::findings::{Findings, Memory};
use self::ledger::Ledger;
use crate::local::Local;
use crate::metrics::Page;
use crate::process::resident_kib;
use crate::receiver::Receiver;
use crate::wait::{self, Look};

/// Idle moments in a run.
const WAVES: u32 = 30;
/// A wave is not shorter.
const LEAST_WAVE: Duration = Duration::from_secs(4);
/// Longest wait until nothing runs any more, after the last client has left.
const IDLE: Duration = Duration::from_secs(60);
/// Little room for everything, so that requests wait, are refused and preempted.
const FLAGS: [&str; 15] = [
    "--served-model-name",
    client::MODEL,
    "--enable-journey-tracing",
    "--scheduling-policy=priority",
    "--max-num-seqs=4",
    "--max-queue-size=3",
    "--client-stall-timeout=3",
    "--request-timeout=120",
    "--max-model-len=1024",
    "--kv-cache-tokens=1536",
    "--journey-detail",
    "Phases",
    "--drain-timeout",
    "10",
    "--otlp-traces-endpoint",
];

/// What to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// A GGUF file, or `scripted:...`.
    pub model: String,
    /// Clients at once.
    pub clients: usize,
    /// How long.
    pub duration: Duration,
    /// Makes the clients' behaviour the same in every run.
    pub seed: u64,
}

/// Runs it. `tell` hears how it goes.
pub async fn run(plan: &Plan, tell: impl Fn(&str)) -> Result<Findings> {
    let receiver = Receiver::start().await?;
    let mut arguments = vec![plan.model.as_str()];
    arguments.extend(FLAGS);
    arguments.push(&receiver.url);
    let engine = Local::engine(&arguments, &[("RUST_LOG", "error")]).await.context("the engine does not start")?;
    let (pid, start) = (engine.pid()?, Instant::now());
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut findings = Findings::default();
    let mut ledger = Ledger::default();
    let wave = (plan.duration / WAVES).max(LEAST_WAVE);
    while start.elapsed() < plan.duration {
        findings.seen.add(&one_wave(&engine.url, plan.clients, wave, &mut random).await?);
        findings.page = idle(&engine.url).await?;
        ledger.take(&receiver.take()?);
        findings.memory.push(Memory { minutes: start.elapsed().as_secs_f64() / 60.0, kib: resident_kib(pid)? });
        tell(&findings.progress(&ledger, start.elapsed()));
    }
    // What it still holds is sent before it ends.
    engine.terminate().await.context("the engine does not end as it should")?;
    ledger.take(&receiver.take()?);
    findings.ledger = ledger;
    Ok(findings)
}

/// All clients, until the wave is over and each has its last answer.
async fn one_wave(url: &str, clients: usize, wave: Duration, random: &mut StdRng) -> Result<Seen> {
    let mut running = JoinSet::new();
    let end = Instant::now() + wave;
    for _ in 0..clients {
        let mut client = Client::new(url, StdRng::from_rng(random));
        running.spawn(async move {
            while Instant::now() < end {
                client.act().await?;
            }
            anyhow::Ok(client.seen)
        });
    }
    let mut seen = Seen::default();
    while let Some(ended) = running.join_next().await {
        seen.add(&ended??);
    }
    Ok(seen)
}

/// Waits until nothing runs or waits and no request ends any more; gives the metrics of that moment.
async fn idle(url: &str) -> Result<Page> {
    let mut last = f64::NAN;
    wait::quietly("the engine is idle after its clients have left", IDLE, async || {
        let page = Page::scrape(url).await?;
        let busy =
            page.sum(&metric::NUM_REQUESTS_RUNNING.series(), &[]) + page.sum(&metric::NUM_REQUESTS_WAITING.series(), &[]);
        let ended = page.sum(&metric::REQUESTS.series(), &[]);
        let settled = busy == 0.0 && ended == last;
        last = ended;
        Ok(if settled { Look::Holds(page) } else { Look::NotYet(format!("{busy} requests run or wait")) })
    })
    .await
}
