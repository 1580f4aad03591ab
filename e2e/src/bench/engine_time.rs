//! The engine's own time: a scripted model that answers at once, so that all that is left is ours. And what a request that is
//! active holds in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sojourn_contract::{attribute, metric};
use sojourn_journey::trace::Span;
use tokio::task::JoinSet;

use super::open_loop::{Answers, open_loop};
use super::prompts::Prompts;
use super::report::{Bound, Section, Table, Unit, Verdict};
use super::subject::{Subject, Tracing};
use super::{Part, Plan, say};
use crate::metrics::Page;
use crate::statistics::{Spread, percentile};
use crate::wait::{self, Look};

/// No pause anywhere: what takes time is the engine.
const MODEL: &str = "scripted:batch=64,block=16,blocks=65536,length=16";
const TOKENS: u32 = 16;
const FLAGS: [&str; 4] = ["--max-num-seqs", "64", "--max-queue-size", "4096"];
/// One token every two seconds: requests stay active, and the clients hardly work.
const HOLDING: &str = "scripted:batch=2048,block=16,blocks=65536,length=4096,step_ms=2000";
const PATIENCE: Duration = Duration::from_secs(60);

/// The parts of a request's time, as its span says them.
const PARTS: [(&str, &str); 5] = [
    ("API", attribute::API_SECONDS),
    ("queue", attribute::TIME_IN_QUEUE),
    ("prefill", attribute::TIME_IN_MODEL_PREFILL),
    ("decode", attribute::TIME_IN_MODEL_DECODE),
    ("delivery", attribute::CLIENT_SECONDS),
];

/// What one turn gave.
#[derive(Debug, Clone, Default, PartialEq)]
struct Turn {
    answers: Answers,
    cpu_seconds: f64,
    /// Seconds of each journey, by attribute; empty with tracing off.
    journeys: BTreeMap<&'static str, Vec<f64>>,
    memory_kib: f64,
}

/// Turns by kind of tracing.
type Turns = BTreeMap<&'static str, Vec<Turn>>;

/// Measures it.
pub async fn measure(plan: &Plan) -> Result<Section> {
    let mut turns = Turns::new();
    for round in 1..=plan.rounds {
        for tracing in Tracing::ALL {
            say(&format!("the engine's own time: round {round} of {}, tracing {}", plan.rounds, tracing.name()));
            let mut turn = turn(plan, tracing).await?;
            turn.memory_kib = memory(plan, tracing).await?;
            turns.entry(tracing.name()).or_default().push(turn);
        }
    }
    Ok(section(plan, &turns))
}

async fn turn(plan: &Plan, tracing: Tracing) -> Result<Turn> {
    let mut subject = Subject::start(MODEL, tracing, &FLAGS).await?;
    let url = subject.engine.url.clone();
    let warm_up = open_loop(&url, plan.open_rate / 2, Duration::from_secs(1), TOKENS).await?;
    subject.journeys(warm_up.requests()).await?;
    let cpu = subject.cpu_seconds()?;
    let answers = open_loop(&url, plan.open_rate, Duration::from_secs(plan.open_seconds.into()), TOKENS).await?;
    ensure!(answers.failed == 0, "{} of {} requests failed", answers.failed, answers.requests());
    let spans = subject.journeys(answers.requests()).await?;
    let cpu_seconds = (subject.cpu_seconds()? - cpu) / answers.requests() as f64;
    subject.engine.terminate().await?;
    Ok(Turn { cpu_seconds, journeys: seconds(&spans), answers, memory_kib: 0.0 })
}

fn seconds(spans: &[Span]) -> BTreeMap<&'static str, Vec<f64>> {
    let names = PARTS.iter().map(|(_, attribute)| *attribute).chain([attribute::DURATION_SECONDS]);
    let answered = || spans.iter().filter(|span| span.attributes.text(attribute::OUTCOME) == Some("ok"));
    let of = |name| answered().filter_map(|span| span.attributes.float(name)).collect::<Vec<_>>();
    names.map(|name| (name, of(name))).filter(|(_, values)| !values.is_empty()).collect()
}

/// KiB that each of many active requests adds.
async fn memory(plan: &Plan, tracing: Tracing) -> Result<f64> {
    let count = plan.active.to_string();
    let mut subject = Subject::start(HOLDING, tracing, &["--max-num-seqs", &count, "--drain-timeout", "0"]).await?;
    let before = subject.resident_kib()?;
    let http = reqwest::Client::new();
    let mut prompts = Prompts::default();
    let mut held = JoinSet::new();
    for _ in 0..plan.active {
        let body = json!({"prompt": prompts.draw(), "max_tokens": 2_000, "temperature": 0, "stream": true});
        let request = http.post(format!("{}/v1/completions", subject.engine.url)).json(&body);
        held.spawn(async move { request.send().await });
    }
    let mut responses = Vec::new();
    while let Some(answered) = held.join_next().await {
        responses.push(answered?.context("a stream does not begin")?);
    }
    let url = subject.engine.url.clone();
    wait::quietly("all requests run", PATIENCE, || async {
        let running = Page::scrape(&url).await?.sum(&metric::NUM_REQUESTS_RUNNING.series(), &[]);
        Ok(if running >= plan.active as f64 { Look::Holds(()) } else { Look::NotYet(format!("{running} run")) })
    })
    .await?;
    let after = subject.resident_kib()?;
    drop(responses);
    subject.journeys(plan.active).await?;
    Ok((after - before) / plan.active as f64)
}

fn section(plan: &Plan, turns: &Turns) -> Section {
    let of = |tracing: Tracing, value: &dyn Fn(&Turn) -> Option<f64>| -> Option<Spread> {
        Spread::of(&turns.get(tracing.name()).into_iter().flatten().filter_map(value).collect::<Vec<_>>())
    };
    let journey = |name: &'static str, part: f64| move |turn: &Turn| percentile(turn.journeys.get(name)?, part);
    let client = |part: f64| move |turn: &Turn| percentile(&turn.answers.seconds, part);
    let mut table = Table::new(&[
        "tracing",
        "engine p50",
        "engine p99",
        "client p50",
        "client p99",
        "CPU ms a request",
        "KiB an active request",
    ]);
    for tracing in Tracing::ALL {
        table.rows.push(vec![
            tracing.name().to_owned(),
            Unit::Seconds.spread(of(tracing, &journey(attribute::DURATION_SECONDS, 0.5))),
            Unit::Seconds.spread(of(tracing, &journey(attribute::DURATION_SECONDS, 0.99))),
            Unit::Seconds.spread(of(tracing, &client(0.5))),
            Unit::Seconds.spread(of(tracing, &client(0.99))),
            Unit::Plain("").spread(of(tracing, &|turn| Some(turn.cpu_seconds * 1e3))),
            Unit::Plain("").spread(of(tracing, &|turn| Some(turn.memory_kib))),
        ]);
    }
    let mut parts = Table::new(&["part of the engine's time, `Phases`", "p50", "p99"]);
    for (name, attribute) in PARTS {
        let spread = |part| Unit::Seconds.spread(of(Tracing::Phases, &journey(attribute, part)));
        parts.rows.push(vec![name.to_owned(), spread(0.5), spread(0.99)]);
    }
    let refused: usize = turns.values().flatten().map(|turn| turn.answers.refused).sum();
    let verdict = |tracing: Tracing| Verdict {
        target: format!("the engine's own time, p99, below 1 ms at {} requests/s with {}", plan.open_rate, tracing.name()),
        measured: of(tracing, &journey(attribute::DURATION_SECONDS, 0.99)),
        bound: Bound::Below(1e-3),
        unit: Unit::Seconds,
        limit: "The table of parts says where the time goes; clients and receiver take their part of the same cores.".into(),
    };
    Section {
        title: Part::EngineTime.title(),
        how: format!(
            "Completions of {TOKENS} tokens by `{MODEL}`, which takes no time of its own: every microsecond is the engine's,\n\
             its {TOKENS} steps included. Requests arrive by a Poisson process of {} a second for {} s, whether or not earlier\n\
             ones were answered. Engine: `journey.duration_seconds`, from the first byte read to the last byte given to the\n\
             kernel. Client: from the moment that a request was due. Memory: {} streams active at once, above the idle engine.\n\
             Rounds: {}; {refused} requests were refused (429).",
            plan.open_rate, plan.open_seconds, plan.active, plan.rounds
        ),
        tables: vec![table, parts],
        verdicts: vec![verdict(Tracing::Journey), verdict(Tracing::Phases)],
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(milliseconds: f64) -> Turn {
        let seconds: Vec<f64> = (1..=100).map(|i| f64::from(i) * milliseconds / 1e5).collect();
        Turn { journeys: BTreeMap::from([(attribute::DURATION_SECONDS, seconds)]), ..Turn::default() }
    }

    #[test]
    fn the_target_is_held_against_the_median_of_the_rounds_p99() {
        let plan = Plan::full("m.gguf".into(), "/tmp".into());
        let turns = Turns::from([
            (Tracing::Journey.name(), vec![turn(0.5), turn(0.9), turn(3.0)]),
            (Tracing::Phases.name(), vec![turn(2.0), turn(2.0), turn(0.5)]),
        ]);
        let section = section(&plan, &turns);
        let met: Vec<Option<bool>> = section.verdicts.iter().map(Verdict::is_met).collect();
        assert_eq!(met, [Some(true), Some(false)]);
        // With tracing off the engine says nothing of its time.
        assert_eq!(section.tables[0].rows[0][2], "–");
    }

    #[test]
    fn only_answered_requests_count() {
        let span = |outcome: &'static str, seconds: f64| {
            let mut span = Span::default();
            span.attributes.push(attribute::OUTCOME, outcome);
            span.attributes.push(attribute::DURATION_SECONDS, sojourn_journey::trace::Value::Float(seconds));
            span
        };
        let seconds = seconds(&[span("ok", 1.0), span("rejected", 0.1)]);
        assert_eq!(seconds, BTreeMap::from([(attribute::DURATION_SECONDS, vec![1.0])]));
    }
}
