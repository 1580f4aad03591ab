//! Many requests at once, a prompt in pieces and a preempted request say what each says alone.

use std::collections::HashSet;

use anyhow::Result;

use super::answer::{Answer, Outcome, ask_all, ask_each, compare};
use super::table::Row;
use super::{Device, Plan, models, say};
use crate::local::Local;
use crate::metrics::Page;

/// Two logits that are this close may change places by rounding in 32 bits: what differs is the order of sums. Those of the
/// random models spread over some 60.
const NEAR: f64 = 0.05;
/// Tokens in one step where prompts are taken in pieces.
const PIECE: &str = "48";
/// KV tokens with which the prompts cannot all run at once.
const FEW_KV_TOKENS: &str = "1536";
/// Different tokens in an answer, at least: a model that repeats itself shows no error of its KV.
const DIFFERENT: usize = 6;
/// The loader of mistral.rs warns of what nobody asked for.
const ENVIRONMENT: [(&str, &str); 1] = [("RUST_LOG", "warn,mistralrs_core=error,mistralrs_quant=error")];

/// What is compared: how, with which answers, and how many preemptions there were.
struct Compared {
    how: &'static str,
    answers: Vec<Answer>,
}

/// With 32-bit weights every departure is a failure; with others it is counted.
pub async fn check(plan: &Plan) -> Result<Vec<Row>> {
    let prompts = models::prompts(plan.prompts, plan.tokens);
    let exact = models::make(plan, plan.sizes[0], "f32").await?;
    let mut rows = in_32_bits(plan, &exact, &prompts).await?;
    if plan.device == Device::Cuda {
        rows.push(loosely(plan, &exact, "bfloat16", "BF16 activations", &prompts).await?);
    }
    let quantised = models::make(plan, plan.sizes[0], "q8_0").await?;
    rows.push(loosely(plan, &quantised, "auto", "Q8_0 weights", &prompts).await?);
    Ok(rows)
}

async fn in_32_bits(plan: &Plan, model: &str, prompts: &[Vec<u32>]) -> Result<Vec<Row>> {
    let flags = ["--dtype", "float32"];
    say("32-bit weights: one request at a time, then all at once");
    let engine = start(plan, model, &flags).await?;
    let alone = ask_each(&engine.url, prompts, plan.tokens, true).await?;
    let batched = ask_all(&engine.url, prompts, plan.tokens).await?;
    engine.terminate().await?;

    say("32-bit weights: prompts in pieces");
    let engine = start(plan, model, &[&flags[..], &["--max-num-batched-tokens", PIECE]].concat()).await?;
    let pieces = ask_each(&engine.url, prompts, plan.tokens, false).await?;
    engine.terminate().await?;

    say("32-bit weights: too few KV blocks for all");
    let engine = start(plan, model, &[&flags[..], &["--kv-cache-tokens", FEW_KV_TOKENS]].concat()).await?;
    let preempted = ask_all(&engine.url, prompts, plan.tokens).await?;
    let preemptions = Page::scrape(&engine.url).await?.sum("vllm:num_preemptions_total", &[]);
    engine.terminate().await?;

    let compared = [
        Compared { how: "all at once", answers: batched },
        Compared { how: "prompts in pieces", answers: pieces },
        Compared { how: "after preemptions", answers: preempted },
    ];
    let different = alone.iter().map(|answer| answer.tokens.iter().collect::<HashSet<_>>().len()).min().unwrap_or(0);
    let needed = DIFFERENT.min(plan.tokens as usize);
    let mut rows = vec![
        Row::demanded("different tokens in each answer", format!("{different} or more, {needed} needed"), different >= needed),
        Row::demanded("preemptions with few KV blocks", format!("{preemptions}"), preemptions > 0.0),
    ];
    rows.extend(compared.iter().map(|compared| row(&alone, compared)));
    Ok(rows)
}

async fn loosely(plan: &Plan, model: &str, dtype: &str, name: &str, prompts: &[Vec<u32>]) -> Result<Row> {
    say(&format!("{name}: one request at a time, then all at once"));
    let engine = start(plan, model, &["--dtype", dtype]).await?;
    let alone = ask_each(&engine.url, prompts, plan.tokens, true).await?;
    let batched = ask_all(&engine.url, prompts, plan.tokens).await?;
    engine.terminate().await?;
    let outcomes = outcomes(&alone, &batched);
    Ok(Row::noted(format!("{name}, all at once against alone"), tell(&outcomes)))
}

async fn start(plan: &Plan, model: &str, flags: &[&str]) -> Result<Local> {
    let arguments = [&[model][..], &plan.flags(), flags].concat();
    Local::engine(&arguments, &ENVIRONMENT).await
}

fn outcomes(alone: &[Answer], other: &[Answer]) -> Vec<Outcome> {
    alone.iter().zip(other).map(|(alone, other)| compare(alone, other, NEAR)).collect()
}

fn row(alone: &[Answer], compared: &Compared) -> Row {
    let outcomes = outcomes(alone, &compared.answers);
    let departs = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Departs(..)));
    let what = format!("32-bit weights, {} against alone", compared.how);
    Row::demanded(what, tell(&outcomes), !departs && !outcomes.is_empty())
}

/// How many are equal, and where the others depart.
fn tell(outcomes: &[Outcome]) -> String {
    let (mut near, mut departing) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Outcome::Equal => {}
            Outcome::NearTie(at) => near.push(format!("token {at}")),
            Outcome::Departs(at, margin) => departing.push(format!("token {at} (logits {margin:.2} apart)")),
        }
    }
    let equal = outcomes.len() - near.len() - departing.len();
    let mut told = format!("{equal} of {} equal", outcomes.len());
    for (places, how) in [(near, format!("where two logits are within {NEAR}")), (departing, "elsewhere".to_owned())] {
        if !places.is_empty() {
            told += &format!("; {} depart {how}: {}", places.len(), places.join(", "));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: &[&str], margins: &[f64]) -> Answer {
        Answer { tokens: tokens.iter().map(|token| (*token).to_owned()).collect(), margins: margins.to_vec() }
    }

    #[test]
    fn a_departure_fails_only_where_the_logits_are_apart() {
        let alone = [answer(&["a", "b"], &[1.0, 0.01]), answer(&["c", "d"], &[1.0, 1.0])];
        let verdict = |answers: [Answer; 2]| row(&alone, &Compared { how: "all at once", answers: answers.into() });
        let near = verdict([answer(&["a", "x"], &[]), answer(&["c", "d"], &[])]);
        assert_eq!(near.verdict, crate::gpu_check::table::Verdict::Passed);
        assert_eq!(near.found, "1 of 2 equal; 1 depart where two logits are within 0.05: token 1");
        let apart = verdict([answer(&["a", "b"], &[]), answer(&["x", "d"], &[])]);
        assert_eq!(apart.verdict, crate::gpu_check::table::Verdict::Failed);
        assert_eq!(apart.found, "1 of 2 equal; 1 depart elsewhere: token 0 (logits 1.00 apart)");
    }
}
