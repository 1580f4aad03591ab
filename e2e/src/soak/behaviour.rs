//! What a client does next. Pure, but for the dice.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use sojourn_contract::path;

/// One thing that a client does.
#[derive(Debug, Clone, PartialEq)]
pub enum Behaviour {
    /// Asks and reads the whole answer.
    Whole(Ask),
    /// Asks and goes away after a while, answered or not.
    Leave(Ask, Duration),
    /// Asks for a stream, takes nothing of it for a while, and goes away.
    Stall(Ask, Duration),
    /// Sends what no engine can answer.
    Wrong(Ask),
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Where it goes.
    pub path: &'static str,
    /// Its body.
    pub body: String,
    /// It is part of a caller's trace, sampled or not.
    pub caller: Option<bool>,
}

/// Draws what a client does.
pub fn draw(random: &mut StdRng, model: &str) -> Behaviour {
    match random.random_range(0..100) {
        0..60 => Behaviour::Whole(ask(random, model, None)),
        60..80 => {
            let patience = Duration::from_millis(random.random_range(0..2_000));
            Behaviour::Leave(ask(random, model, None), patience)
        }
        80..85 => Behaviour::Stall(ask(random, model, Some(400)), Duration::from_millis(random.random_range(500..6_000))),
        _ => Behaviour::Wrong(wrong(random, model)),
    }
}

/// Time before a client asks again.
pub fn pause(random: &mut StdRng) -> Duration {
    Duration::from_millis(random.random_range(0..40))
}

/// A request that is right; `long` makes it a stream of so many tokens.
fn ask(random: &mut StdRng, model: &str, long: Option<u32>) -> Ask {
    let prompt = text(random);
    let tokens = long.unwrap_or_else(|| random.random_range(1..64));
    let mut body = json!({
        "model": model,
        "max_tokens": tokens,
        "temperature": if random.random_bool(0.5) { 0.0 } else { 0.8 },
        "stream": long.is_some() || random.random_bool(0.5),
        "n": if random.random_bool(0.1) { 2 } else { 1 },
        "priority": random.random_range(-2..=2),
        "ignore_eos": random.random_bool(0.3),
    });
    let path = if random.random_bool(0.5) {
        body["messages"] = json!([{"role": "user", "content": prompt}]);
        path::CHAT_COMPLETIONS
    } else {
        body["prompt"] = prompt.into();
        path::COMPLETIONS
    };
    Ask { path, body: body.to_string(), caller: random.random_bool(0.3).then(|| random.random_bool(0.5)) }
}

/// A request that is refused, for a reason of its own.
fn wrong(random: &mut StdRng, model: &str) -> Ask {
    let body: Value = match random.random_range(0..5) {
        0 => return Ask { path: path::CHAT_COMPLETIONS, body: "{\"messages\": [".to_owned(), caller: None },
        1 => json!({"model": model, "messages": []}),
        2 => json!({"model": "no-such-model", "messages": [{"role": "user", "content": "hello"}]}),
        3 => json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "temperature": -1}),
        _ => json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1_000_000}),
    };
    Ask { path: path::CHAT_COMPLETIONS, body: body.to_string(), caller: None }
}

/// Letters of many kinds, some of them several bytes long.
fn text(random: &mut StdRng) -> String {
    const LETTERS: [char; 16] = ['a', 'e', 'i', 'n', 'r', 's', 't', ' ', ' ', '\n', '.', 'é', 'ß', '中', '🙂', '<'];
    let length = random.random_range(1..160);
    (0..length).map(|_| LETTERS[random.random_range(0..LETTERS.len())]).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_behaviour_occurs_and_a_seed_repeats_them() {
        let draws = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..300).map(|_| draw(&mut random, "m")).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        let count = |is: fn(&Behaviour) -> bool| draws(1).iter().filter(|behaviour| is(behaviour)).count();
        let (leave, stall) = (count(|b| matches!(b, Behaviour::Leave(..))), count(|b| matches!(b, Behaviour::Stall(..))));
        let (whole, wrong) = (count(|b| matches!(b, Behaviour::Whole(_))), count(|b| matches!(b, Behaviour::Wrong(_))));
        assert!(whole > 100 && leave > 20 && stall > 3 && wrong > 20, "{whole} {leave} {stall} {wrong}");
    }

    #[test]
    fn a_stall_is_a_stream() {
        let mut random = StdRng::seed_from_u64(3);
        let body: Value = serde_json::from_str(&ask(&mut random, "m", Some(400)).body).unwrap();
        assert_eq!((&body["stream"], &body["max_tokens"]), (&json!(true), &json!(400)));
    }
}
