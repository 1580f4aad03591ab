//! The real model, preempted in the middle of an answer: what was taken is computed again, the answer goes on as if nothing had
//! happened, and the trace says what it cost.

use std::time::Duration;

use anyhow::Result;
use sojourn_contract::{attribute, event};
use sojourn_e2e::chat::{Answer, Chat, Question};
use sojourn_e2e::local::{Local, model};
use sojourn_e2e::receiver::{Receiver, traces};
use sojourn_e2e::wait::{self, Look};
use sojourn_journey::check::check;
use sojourn_journey::trace::{Event, Trace};
use tokio::sync::Notify;

const MODEL: &str = "smollm";
const PATIENCE: Duration = Duration::from_secs(20);
/// Pieces of the answer that is read before the urgent request comes.
const PIECES: usize = 6;

#[tokio::test]
async fn an_urgent_request_takes_the_kv_of_an_answer_that_goes_on_afterwards() -> Result<()> {
    let receiver = Receiver::start().await?;
    // One sequence at a time, and KV for one alone: who is evicted loses all of it.
    let engine = Local::engine(
        &[
            &model(None)?,
            "--served-model-name",
            MODEL,
            "--max-num-seqs",
            "1",
            "--max-model-len",
            "512",
            "--kv-cache-tokens",
            "512",
            "--scheduling-policy",
            "priority",
            "--no-enable-prefix-caching",
            "--enable-journey-tracing",
            "--otlp-traces-endpoint",
            &receiver.url,
        ],
        &[],
    )
    .await?;
    let chat = Chat::new(&engine.url, MODEL);
    let (preempted, urgent) = preempted(&chat).await?;
    assert_eq!((preempted.status, urgent.status), (200, 200), "{preempted:?} {urgent:?}");

    let trace = trace(&receiver, &preempted).await?;
    let report = check(&trace);
    assert!(report.is_legal(), "{report}");
    let (decoded, prompt, recomputed) = cost(&trace);
    // The token that was sampled last had not been fed yet: it is new, not computed again.
    assert_eq!(recomputed, prompt + decoded - 1);
    let before = chat.ask(long().with("max_tokens", decoded), |_| {}).await?;
    assert!(preempted.text.starts_with(&before.text), "{:?} does not begin with {:?}", preempted.text, before.text);
    engine.terminate().await
}

fn long() -> Question {
    Question::new("Tell me about the sea, the mountains and the rivers of the north.")
        .with("priority", 10)
        .with("ignore_eos", true)
        .with("max_tokens", 32)
}

/// An answer during which a more urgent one was asked for, and that one.
async fn preempted(chat: &Chat) -> Result<(Answer, Answer)> {
    let begun = Notify::new();
    let mut pieces = 0;
    let answer = chat.ask(long().streaming(), |_| {
        pieces += 1;
        if pieces == PIECES {
            begun.notify_one();
        }
    });
    let urgent = async {
        begun.notified().await;
        chat.ask(Question::new("Hi!").with("priority", 0).with("max_tokens", 4), |_| {}).await
    };
    tokio::try_join!(answer, urgent)
}

async fn trace(receiver: &Receiver, answer: &Answer) -> Result<Trace> {
    let is_its =
        |trace: &Trace| trace.spans.iter().any(|span| span.attributes.text(attribute::REQUEST_ID) == Some(&answer.request_id));
    wait::quietly("the journey has come", PATIENCE, async || {
        let came: Vec<Trace> = receiver.take()?.iter().flat_map(traces).collect();
        Ok(came.into_iter().find(is_its).map_or_else(|| Look::NotYet("not among those that came".into()), Look::Holds))
    })
    .await
}

/// Tokens that had been generated when it was preempted, tokens of its prompt, and tokens that were computed again.
fn cost(trace: &Trace) -> (i64, i64, i64) {
    let events: Vec<&Event> = trace.spans.iter().flat_map(|span| span.events_in_order()).collect();
    let evicted: Vec<&Event> = events.iter().copied().filter(|event| event.name == event::PREEMPTED).collect();
    assert_eq!(evicted.len(), 1);
    assert_eq!(evicted[0].attributes.text(attribute::PREEMPT_REASON), Some("priority"));
    let is_resume = |event: &&Event| event.attributes.text(attribute::SCHEDULE_KIND) == Some("RESUME");
    let resumed: Vec<&Event> = events.into_iter().filter(is_resume).collect();
    assert_eq!(resumed.len(), 1);
    let number = |event: &Event, name: &str| event.attributes.int(name).unwrap_or_else(|| panic!("{event:?} has no {name}"));
    (
        number(evicted[0], attribute::DECODE_DONE_TOKENS),
        number(evicted[0], attribute::PREFILL_TOTAL_TOKENS),
        number(resumed[0], attribute::RECOMPUTED_TOKENS),
    )
}
