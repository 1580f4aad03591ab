//! One sentence that says where a request's time went. Pure.

use sojourn_contract::journey::{AbortPhase, AbortReason, Bottleneck, Outcome};

use crate::facts::Facts;
use crate::quantity::{count, duration, rate};
use crate::record::{ApiEvent, CoreRecord, Journey, Progress};

/// The part of the whole from which on a part is worth a word.
const WORTH_A_WORD: f64 = 0.05;

/// Where the time went, for people: the largest part first, then the others that matter, then why it did not get its answer.
/// A journey that is still on its way is told as of its last event.
pub fn sentence(journey: &Journey) -> String {
    sentence_by(journey, &journey.facts())
}

/// The same with the facts of another moment.
pub fn sentence_by(journey: &Journey, facts: &Facts) -> String {
    if journey.cores.is_empty() && facts.outcome.is_some_and(|outcome| outcome != Outcome::Ok) {
        return capitalised(&format!("{} after {}{}", ending(facts), duration(facts.duration), error(journey))) + ".";
    }
    let largest = facts.bottleneck;
    let share = if facts.duration > 0.0 { 100.0 * facts.seconds_in(largest) / facts.duration } else { 100.0 };
    let so_far = if facts.outcome.is_none() { " so far" } else { "" };
    let mut sentence = format!("{share:.0} % of {}{so_far} was {}", duration(facts.duration), doing(largest, journey, facts));

    let matters = |part: &Bottleneck| {
        let was_preempted = *part == Bottleneck::Preempted && facts.num_preemptions > 0;
        *part != largest && (was_preempted || facts.seconds_in(*part) > WORTH_A_WORD * facts.duration)
    };
    let others: Vec<Bottleneck> = Bottleneck::ALL.iter().copied().filter(matters).collect();
    for (index, part) in others.into_iter().enumerate() {
        let verb = if index == 0 { "; " } else { ", " };
        let went = if index == 0 { "went to" } else { "to" };
        let spent = duration(facts.seconds_in(part));
        sentence.push_str(&format!("{verb}{spent} {went} {}", doing(part, journey, facts)));
    }
    if facts.abort_reason.is_some() {
        sentence.push_str(&format!("; then {}{}", ending(facts), error(journey)));
    }
    sentence + "."
}

/// What goes on in a part.
fn doing(part: Bottleneck, journey: &Journey, facts: &Facts) -> String {
    match part {
        Bottleneck::Api => "reading and preparing the request".to_owned(),
        Bottleneck::Queue => match (facts.queue_depth_at_arrival, facts.running_at_arrival) {
            (0, 0) => "waiting in the queue".to_owned(),
            (0, running) => format!("waiting for a place beside {}", count(running.into(), "running request")),
            (waiting, _) => format!("waiting in the queue behind {}", count(waiting.into(), "request")),
        },
        Bottleneck::Prefill => {
            let prompt = last_progress(journey).map(|progress| progress.prefill_total).max().unwrap_or(0);
            format!("processing a prompt of {}", count(prompt.into(), "token"))
        }
        Bottleneck::Decode => {
            let tokens: u64 = last_progress(journey).map(|progress| u64::from(progress.decode_done)).sum();
            let per_second = rate(tokens as f64 / facts.seconds_in(Bottleneck::Decode).max(f64::MIN_POSITIVE));
            let of = match journey.cores.len() {
                0 | 1 => String::new(),
                several => format!(" of {several} sequences"),
            };
            format!("decoding {}{of} at {per_second} tokens/s", count(tokens, "token"))
        }
        Bottleneck::Preempted => {
            let reasons: Vec<&str> = facts.preempt_reasons.iter().map(|reason| reason.as_str()).collect();
            let again = match facts.recomputed_tokens {
                None | Some(0) => String::new(),
                Some(tokens) => format!(", which cost {} to compute again", count(tokens.into(), "token")),
            };
            let preemptions = count(facts.num_preemptions.into(), "preemption");
            format!("waiting after {preemptions} ({}){again}", reasons.join(", "))
        }
        Bottleneck::Client => "delivering the answer to the client".to_owned(),
    }
}

/// How far each sequence came.
fn last_progress(journey: &Journey) -> impl Iterator<Item = Progress> {
    journey.cores.iter().filter_map(|core: &Vec<CoreRecord>| core.last()).map(|record| record.progress)
}

/// Why it did not get its answer, and where it was.
fn ending(facts: &Facts) -> String {
    let why = match facts.abort_reason {
        Some(AbortReason::ClientDisconnect) => "the client went away",
        Some(AbortReason::ClientStalled) => "the client stopped reading",
        Some(AbortReason::Timeout) => "the request ran into its time-out",
        Some(AbortReason::ValidationError) => "the request was refused as wrong",
        Some(AbortReason::Overloaded) => "the request was refused for lack of room",
        Some(AbortReason::GenerationError) => "generation failed",
        Some(AbortReason::Shutdown) => "the engine shut down",
        None => return String::new(),
    };
    let refused = facts.outcome == Some(Outcome::Rejected);
    let place = match facts.abort_phase {
        _ if refused => "",
        Some(AbortPhase::Api) => " before the core had it",
        Some(AbortPhase::Waiting) => " while it waited",
        Some(AbortPhase::Prefill) => " while its prompt was processed",
        Some(AbortPhase::Decode) => " while it was decoding",
        Some(AbortPhase::Delivery) => " while the answer was delivered",
        None => "",
    };
    format!("{why}{place}")
}

fn error(journey: &Journey) -> String {
    let error = journey.api.iter().find_map(|record| match &record.event {
        ApiEvent::Aborted { error, .. } if !error.is_empty() => Some(error),
        _ => None,
    });
    error.map_or_else(String::new, |error| format!(": {error}"))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
