//! Whether what an engine told is legal, whole, and what its clients and its metrics say, too.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use sojourn_contract::event;
use sojourn_contract::journey::{AbortReason, Detail, Outcome, Parent};
use sojourn_journey::check::check;
use sojourn_journey::facts::Facts;
use sojourn_journey::record::{CoreEvent, Journey};
use sojourn_journey::spans::describe;
use sojourn_journey::trace::{Span, Trace};

use super::client::Answer;
use super::engine::{Engine, Told};
use super::metrics::Expected;
use super::tally::Tally;

/// What the scripted model says to everybody, again and again.
const WORDS: &str = "The quick brown fox jumps over the lazy dog and runs away. ";

/// What the client of a request knows.
pub struct Seen {
    /// What its headers say of a caller.
    pub parent: Parent,
    /// The answer is made of the scripted model's own words.
    pub plain: bool,
    /// All that came on the connection, with the first request on it.
    pub heard: Option<Vec<u8>>,
    /// The client stayed until the engine closed the connection.
    pub stayed: bool,
}

/// Judges all journeys of an engine that has ended; gives its words.
pub fn judge(about: &str, engine: &Engine, journeys: &[Told], seen: &HashMap<String, Seen>) -> Tally {
    let (mut tally, mut expected, mut told) = (Tally::default(), Expected::default(), HashSet::new());
    for (journey, context) in journeys {
        let mut id = context.span_id;
        let next_id = || {
            id = id.wrapping_add(1);
            id
        };
        let spans = describe(journey, &context.clone().into_frame(Detail::Phases), next_id);
        let trace = Trace { spans };
        let report = check(&trace);
        assert!(report.is_legal() && report.journeys == 1, "{report}\n{about}\n{journey:#?}");
        let facts = journey.facts();
        assert!(told.insert(&journey.request_id), "{} is told twice; {about}", journey.request_id);
        let seen = &seen[&journey.request_id];
        let complaints = complaints(journey, &facts, seen);
        assert!(complaints.is_empty(), "{complaints:?}\n{about}\n{}\n{journey:#?}", heard(seen));
        expected.add(journey, &facts, &trace.spans[0]);
        count(&mut tally, journey, &facts, &trace.spans);
    }
    for (id, seen) in seen.iter().filter(|(id, _)| !told.contains(*id)) {
        let answered = seen.heard.as_deref().and_then(Answer::read);
        assert!(answered.is_none(), "{id} was answered and not told; {about}\n{}", heard(seen));
    }
    let differences = expected.differences(&engine.api.metrics, journeys.len());
    assert!(differences.is_empty(), "{differences:#?}\n{about}");
    tally
}

fn heard(seen: &Seen) -> String {
    String::from_utf8_lossy(seen.heard.as_deref().unwrap_or_default()).into_owned()
}

/// How a journey contradicts what its client knows.
fn complaints(journey: &Journey, facts: &Facts, seen: &Seen) -> Vec<&'static str> {
    let mut all = Vec::new();
    let mut must = |holds: bool, what| {
        if !holds {
            all.push(what);
        }
    };
    must(facts.parent == seen.parent, "its caller is another");
    let departed = facts.outcome == Some(Outcome::Ok);
    let left = facts.abort_reason == Some(AbortReason::ClientDisconnect);
    must(!(left && seen.stayed), "the client stayed");
    let Some(bytes) = &seen.heard else { return all };
    let answer = Answer::read(bytes);
    let whole = answer.as_ref().is_some_and(|answer| answer.whole);
    must(!seen.stayed || !departed || whole, "the client waited and did not get the answer");
    if let Some(Answer { status, whole: true, failed, body }) = answer {
        let outcome = facts.outcome;
        let agrees = match status {
            200 if !failed => outcome == Some(Outcome::Ok),
            200 | 500.. => outcome == Some(Outcome::Error),
            _ => outcome == Some(Outcome::Rejected),
        };
        must(agrees, "the client got a whole answer that says something else");
        if let Some(body) = body.filter(|_| status == 200) {
            must(!seen.plain || has_the_models_words(&body), "the words are not the model's");
            must(body["usage"]["completion_tokens"].as_u64() == Some(generated(journey)), "the tokens are counted otherwise");
        }
    }
    all
}

/// Whatever was preempted, computed again or taken from an earlier request.
fn has_the_models_words(answer: &Value) -> bool {
    let words = WORDS.repeat(2);
    let said = |choice: &Value| {
        choice["text"].as_str().or(choice["message"]["content"].as_str()).is_some_and(|said| words.starts_with(said))
    };
    answer["choices"].as_array().is_some_and(|choices| choices.iter().all(said))
}

fn generated(journey: &Journey) -> u64 {
    journey.cores.iter().filter_map(|core| core.last()).map(|record| u64::from(record.progress.decode_done)).sum()
}

fn count(tally: &mut Tally, journey: &Journey, facts: &Facts, spans: &[Span]) {
    tally.journey();
    tally.count("parent", facts.parent.as_str());
    tally.count("bottleneck", facts.bottleneck.as_str());
    facts.outcome.iter().for_each(|outcome| tally.count("outcome", outcome.as_str()));
    facts.abort_reason.iter().for_each(|reason| tally.count("abort reason", reason.as_str()));
    facts.abort_phase.iter().for_each(|phase| tally.count("abort phase", phase.as_str()));
    for event in spans.iter().flat_map(|span| &span.events) {
        let known = event::API.into_iter().chain(event::CORE).find(|known| *known == event.name);
        tally.count("event", known.unwrap_or("unknown"));
    }
    for record in journey.cores.iter().flatten() {
        match record.event {
            CoreEvent::Scheduled { kind, .. } => tally.count("schedule kind", kind.as_str()),
            CoreEvent::Preempted(reason) => tally.count("preempt reason", reason.as_str()),
            CoreEvent::Finished(status) => tally.count("finish status", status.as_str()),
            CoreEvent::Omitted(_) => tally.count("sequences with", "events summed up"),
            CoreEvent::Queued | CoreEvent::FirstToken => {}
        }
    }
}
