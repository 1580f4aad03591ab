//! A greedy answer of a random model, and where another one departs from it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The longest that one answer may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// An answer, token by token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Each token's text.
    pub tokens: Vec<String>,
    /// By how much the best logit was above the second best, for each token; empty where that was not asked for.
    pub margins: Vec<f64>,
}

/// How an answer stands to one that was given alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Every token is the same.
    Equal,
    /// It departs at this token, where the two best logits were so close that rounding may decide.
    NearTie(usize),
    /// It departs at this token, where they were that far apart.
    Departs(usize, f64),
}

/// Compares an answer with one that has margins: near are two logits that differ by at most `bound`. What comes after the first
/// difference follows from it.
pub fn compare(alone: &Answer, other: &Answer, bound: f64) -> Outcome {
    let length = alone.tokens.len().max(other.tokens.len());
    let Some(at) = (0..length).find(|at| alone.tokens.get(*at) != other.tokens.get(*at)) else { return Outcome::Equal };
    match alone.margins.get(at) {
        Some(margin) if *margin <= bound => Outcome::NearTie(at),
        margin => Outcome::Departs(at, margin.copied().unwrap_or(f64::INFINITY)),
    }
}

/// Asks for all of these at once, and gives the answers in their order.
pub async fn ask_all(url: &str, prompts: &[Vec<u32>], tokens: u32) -> Result<Vec<Answer>> {
    let mut running = JoinSet::new();
    for (number, prompt) in prompts.iter().cloned().enumerate() {
        let url = url.to_owned();
        running.spawn(async move { anyhow::Ok((number, ask(&url, &prompt, tokens, false).await?)) });
    }
    let mut answers = vec![Answer::default(); prompts.len()];
    while let Some(ended) = running.join_next().await {
        let (number, answer) = ended??;
        answers[number] = answer;
    }
    Ok(answers)
}

/// Asks for one after the other; `margins` asks for the logits of both best tokens too.
pub async fn ask_each(url: &str, prompts: &[Vec<u32>], tokens: u32, margins: bool) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        answers.push(ask(url, prompt, tokens, margins).await?);
    }
    Ok(answers)
}

async fn ask(url: &str, prompt: &[u32], tokens: u32, margins: bool) -> Result<Answer> {
    let mut body = json!({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true});
    if margins {
        body["logprobs"] = json!(2);
    }
    let exchange = async {
        let response = reqwest::Client::new().post(format!("{url}/v1/completions")).json(&body).send().await?;
        let status = response.status();
        let answer: Value = response.json().await.context("the answer is no JSON")?;
        if !status.is_success() {
            bail!("the engine answered {status}: {answer}");
        }
        read(&answer["choices"][0])
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.context("an answer hangs")??;
    ensure!(answer.tokens.len() == tokens as usize, "an answer has {} tokens, not {tokens}", answer.tokens.len());
    Ok(answer)
}

/// Reads a choice: every word is a token.
fn read(choice: &Value) -> Result<Answer> {
    let text = choice["text"].as_str().context("the answer has no text")?;
    let tokens = text.split_whitespace().map(str::to_owned).collect();
    let positions = choice["logprobs"]["top_logprobs"].as_array();
    let margins =
        positions.into_iter().flatten().map(margin).collect::<Option<_>>().context("a position has no two logprobs")?;
    Ok(Answer { tokens, margins })
}

fn margin(position: &Value) -> Option<f64> {
    let mut logprobs: Vec<f64> = position.as_object()?.values().filter_map(Value::as_f64).collect();
    logprobs.sort_by(|a, b| b.total_cmp(a));
    Some(logprobs.first()? - logprobs.get(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: &[&str], margins: &[f64]) -> Answer {
        Answer { tokens: tokens.iter().map(|token| (*token).to_owned()).collect(), margins: margins.to_vec() }
    }

    #[test]
    fn an_answer_may_depart_only_where_rounding_may_decide() {
        let alone = answer(&["a", "b", "c"], &[3.0, 0.01, 2.0]);
        assert_eq!(compare(&alone, &answer(&["a", "b", "c"], &[]), 0.05), Outcome::Equal);
        assert_eq!(compare(&alone, &answer(&["a", "x", "y"], &[]), 0.05), Outcome::NearTie(1));
        assert_eq!(compare(&alone, &answer(&["a", "b", "y"], &[]), 0.05), Outcome::Departs(2, 2.0));
        assert_eq!(compare(&alone, &answer(&["a", "b"], &[]), 0.05), Outcome::Departs(2, 2.0));
        assert_eq!(compare(&alone, &answer(&["a", "b", "c", "d"], &[]), 0.05), Outcome::Departs(3, f64::INFINITY));
    }

    #[test]
    fn a_choice_gives_its_words_and_the_distance_of_its_two_best_tokens() {
        let top = json!([{" 00300": -0.5, " 00301": -1.5}, {" 00302": -0.25, " 00303": -0.5, " 00304": -4.0}]);
        let read = |choice: Value| read(&choice);
        let whole = read(json!({"text": " 00300 00302", "logprobs": {"top_logprobs": top}})).unwrap();
        assert_eq!(whole, answer(&["00300", "00302"], &[1.0, 0.25]));
        assert_eq!(read(json!({"text": " 00300", "logprobs": null})).unwrap(), answer(&["00300"], &[]));
        assert!(read(json!({"text": " 00300", "logprobs": {"top_logprobs": [{" 00300": -0.5}]}})).is_err());
    }
}
