//! `rate`: the draw is a function of the trace id, so each one is computed here and asserted.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;
use sha2::{Digest, Sha256};
use sojourn_contract::attribute;
use sojourn_contract::sampling::KEPT_BY_RATE;
use sojourn_e2e::chat::{Caller, Question};
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::pod::{Plan, Pod};
use sojourn_e2e::receiver::{Harvest, Receiver};

use crate::traffic::{identity, many, plain};

const TRACES: usize = 5_000;
/// Requests under way at a time.
const AT_ONCE: usize = 32;
/// The rejection threshold of 10 %: 90 % of 2^56, rounded to the four hexadecimal digits that travel as `th:e666`.
const THRESHOLD: u64 = 0xe666 << 40;
const STATE: &str = "th:e666";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_5000_traces_exactly_those_are_kept_whose_id_draws_so() -> Result<()> {
    let receiver = Receiver::start().await?;
    let pod = start("Ignore", &receiver).await?;
    let answers = many(&pod, TRACES, AT_ONCE, |index| question(&Drawn::number(index))).await?;
    pod.until_exported(TRACES as u64).await?;

    let ids = answers.iter().map(|answer| answer.request_id.clone());
    let drawn: BTreeMap<String, Drawn> = ids.zip((0..TRACES).map(Drawn::number)).collect();
    assert_eq!(drawn.len(), TRACES, "request ids are unique");
    let kept: Vec<&String> = drawn.iter().filter(|(_, drawn)| drawn.is_kept()).map(|(id, _)| id).collect();
    let mut arrived = Harvest::of(&receiver);
    arrived.until("all that the draws keep has come", |arrived| arrived.journeys.len() >= kept.len()).await?;
    let mut whole = BTreeMap::new();
    for id in &kept {
        whole.insert((*id).clone(), pod.journey(id).await?);
    }
    pod.end().await?;
    arrived.gather()?;

    assert_eq!(arrived.journeys.keys().collect::<Vec<_>>(), kept);
    for (id, spans) in &arrived.journeys {
        let mut found: Vec<_> = spans.iter().map(identity).collect();
        let mut expected: Vec<_> = whole[id].spans.iter().map(identity).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "the spans of a journey are kept together");
        for span in spans {
            assert_eq!(span.attributes.text(attribute::KEPT_BY), Some(KEPT_BY_RATE));
            assert_eq!(span.trace_state, drawn[id].state_afterwards(), "{:?}", drawn[id]);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_parents_respected_only_requests_without_a_caller_draw() -> Result<()> {
    const EACH: usize = 400;
    let receiver = Receiver::start().await?;
    let pod = start("Respect", &receiver).await?;
    let roots = many(&pod, EACH, AT_ONCE, plain).await?;
    // A caller's own threshold stays with what its flag keeps, also with one that its trace id does not pass.
    let sampled =
        |index: usize| question(&Drawn { sampled: true, threshold: Some("th:8"), random: None, ..Drawn::number(index) });
    let kept = many(&pod, EACH, AT_ONCE, sampled).await?;
    let unsampled = |index: usize| question(&Drawn { sampled: false, ..Drawn::number(index) });
    many(&pod, EACH, AT_ONCE, unsampled).await?;
    pod.until_exported(3 * EACH as u64).await?;
    pod.end().await?;
    let mut arrived = Harvest::of(&receiver);
    arrived.gather()?;

    let mut expected = BTreeMap::new();
    for root in &roots {
        let trace_id = u128::from_str_radix(&root.trace_id, 16)?;
        if draw(trace_id) >= THRESHOLD {
            expected.insert(root.request_id.clone(), (KEPT_BY_RATE, format!("ot={STATE}")));
        }
    }
    for (index, answer) in kept.iter().enumerate() {
        let is_consistent = draw(Drawn::number(index).trace_id) >= 0x8 << 52;
        let state = if is_consistent { "ot=th:8" } else { "ot=th:0" };
        expected.insert(answer.request_id.clone(), ("parent", state.to_owned()));
    }
    let found: BTreeMap<String, (&str, String)> = arrived
        .journeys
        .iter()
        .map(|(id, spans)| {
            let kept_by = spans[0].attributes.text(attribute::KEPT_BY).unwrap_or_default();
            (id.clone(), (kept_by, spans[0].trace_state.clone()))
        })
        .collect();
    assert_eq!(found, expected);
    Ok(())
}

async fn start(parents: &str, receiver: &Receiver) -> Result<Pod> {
    let keep = json!({"errors": false, "aborted": false, "preempted": false});
    let manifest = Manifest::smollm("smollm")
        .with("engine.maxNumSeqs", AT_ONCE)
        .with("tracing.destinations", json!([{"name": "here", "endpoint": receiver.url}]))
        .with("tracing.sampling", json!({"rate": "10%", "parents": parents, "keep": keep}));
    let model = format!("scripted:batch={AT_ONCE},block=16,blocks=65536,length=8");
    let pod = Plan::of(manifest).model(&model).engine(&[&format!("--journey-history={TRACES}")]).start().await?;
    pod.until_up().await?;
    Ok(pod)
}

/// A trace with a fixed id, and what its caller says of sampling.
#[derive(Debug, Clone)]
struct Drawn {
    trace_id: u128,
    sampled: bool,
    threshold: Option<&'static str>,
    random: Option<u64>,
}

impl Drawn {
    /// One of a fixed series. Of four callers one is sampled, one unsampled, one brings a threshold, one also randomness.
    fn number(index: usize) -> Self {
        let digest = Sha256::digest(index.to_be_bytes());
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
        let threshold = match index % 4 {
            2 => Some("th:8"),
            3 => Some("th:4"),
            _ => None,
        };
        let random = (index % 4 == 3).then_some(number(&digest[16..23]) as u64);
        Self { trace_id: number(&digest[..16]), sampled: index.is_multiple_of(2), threshold, random }
    }

    /// OpenTelemetry's rule: what draws at least the threshold is kept.
    fn is_kept(&self) -> bool {
        self.random.unwrap_or(draw(self.trace_id)) >= THRESHOLD
    }

    fn state(&self) -> Option<String> {
        let random = self.random.map(|random| format!("rv:{random:014x}"));
        let members: Vec<String> = self.threshold.map(str::to_owned).into_iter().chain(random).collect();
        (!members.is_empty()).then(|| format!("ot={}", members.join(";")))
    }

    /// The caller's threshold gives way to ours, its randomness stays.
    fn state_afterwards(&self) -> String {
        let random = self.random.map(|random| format!("rv:{random:014x};"));
        format!("ot={}{STATE}", random.unwrap_or_default())
    }
}

/// The draw of a trace: the last 56 bits of its id.
fn draw(trace_id: u128) -> u64 {
    trace_id as u64 & ((1 << 56) - 1)
}

fn question(drawn: &Drawn) -> Question {
    let caller =
        Caller { trace_id: format!("{:032x}", drawn.trace_id), span_id: "00f067aa0ba902b7".to_owned(), sampled: drawn.sampled };
    let question = plain(0).within(&caller);
    match drawn.state() {
        Some(state) => question.stating(&state),
        None => question,
    }
}
