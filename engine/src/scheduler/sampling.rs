//! Chooses the next token from a row of logits. Pure but for the sequence's own random numbers, which are a function of the
//! seed and of how many tokens were chosen, never of what else runs.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::request::{Constraint, Logprobs, SamplingParams};
use crate::backend::{Logits, Want};

/// Candidates that are sorted first; the whole vocabulary is sorted only when they do not reach `top_p`.
const HEAD: usize = 1024;

/// One sequence's sampler.
pub struct Sampler {
    params: SamplingParams,
    rng: StdRng,
    /// The prompt's tokens, each once, where they count: with a repetition penalty.
    prompt: HashSet<u32>,
    /// How often each token was generated.
    generated: HashMap<u32, u32>,
    /// Grammar of the sequence.
    constraint: Option<Box<dyn Constraint>>,
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its id.
    pub id: u32,
    /// Probabilities, if the request asked for them.
    pub logprobs: Option<Logprobs>,
    /// The grammar lets nothing follow.
    pub is_last: bool,
}

impl Sampler {
    /// A sampler for the sequence of this index of its request.
    pub fn new(params: SamplingParams, sequence: u32, prompt: &[u32], constraint: Option<Box<dyn Constraint>>) -> Self {
        let seed = params.seed.map_or_else(rand::random, |seed| seed.wrapping_add(u64::from(sequence)));
        let prompt = if params.repetition_penalty == 1.0 { &[] } else { prompt };
        let prompt = prompt.iter().copied().collect();
        Self { params, rng: StdRng::seed_from_u64(seed), prompt, generated: HashMap::new(), constraint }
    }

    /// How much of the logits it needs, given whether some tokens are banned.
    pub fn want(&self, bans: bool) -> Want {
        let p = &self.params;
        let shifts = p.presence_penalty != 0.0 || p.frequency_penalty != 0.0 || p.repetition_penalty != 1.0;
        let plain = p.temperature == 0.0 && !shifts && p.logit_bias.is_empty() && p.logprobs.is_none() && !bans;
        if plain && self.constraint.is_none() { Want::Best } else { Want::Row }
    }

    /// Chooses the next token; `banned` ones are chosen only where the grammar allows nothing else. An error, for the client,
    /// if there is none to choose.
    pub fn choose(&mut self, logits: Logits, banned: &[u32]) -> Result<Choice, String> {
        let mut row = match logits {
            Logits::Best(id) if self.constraint.is_none() => return Ok(self.chosen(id, None, false)),
            Logits::Best(_) | Logits::Nothing => return Err("the backend gave no logits".to_owned()),
            Logits::Row(row) => row,
        };
        // In vLLM's order: the grammar first, so that log probabilities are those of the tokens that it allows.
        if let Some(constraint) = &mut self.constraint {
            constraint.mask(&mut row)?;
        }
        let id = self.pick(&row, banned).or_else(|| {
            self.constraint.as_ref()?;
            self.pick(&row, &[])
        });
        let id = id.ok_or("the model gave no finite logit")?;
        let is_last = self.constraint.as_mut().map_or(Ok(false), |constraint| constraint.advance(id))?;
        let logprobs = self.params.logprobs.map(|top| logprobs(&row, id, top as usize));
        Ok(self.chosen(id, logprobs, is_last))
    }

    fn pick(&mut self, row: &[f32], banned: &[u32]) -> Option<u32> {
        let mut shifted = row.to_vec();
        self.shift(&mut shifted, banned);
        if self.params.temperature == 0.0 { best(&shifted) } else { self.draw(&shifted) }
    }

    fn chosen(&mut self, id: u32, logprobs: Option<Logprobs>, is_last: bool) -> Choice {
        *self.generated.entry(id).or_default() += 1;
        Choice { id, logprobs, is_last }
    }

    /// Biases, penalties and bans, in vLLM's order: a repetition penalty also scales a bias.
    fn shift(&self, row: &mut [f32], banned: &[u32]) {
        let p = &self.params;
        for (id, bias) in &p.logit_bias {
            if let Some(at) = position(row, *id) {
                row[at] += bias;
            }
        }
        if p.repetition_penalty != 1.0 {
            let generated = self.generated.keys().filter(|id| !self.prompt.contains(id));
            for at in self.prompt.iter().chain(generated).filter_map(|id| position(row, *id)).collect::<Vec<_>>() {
                row[at] *= if row[at] > 0.0 { p.repetition_penalty.recip() } else { p.repetition_penalty };
            }
        }
        for (id, count) in &self.generated {
            if let Some(at) = position(row, *id) {
                row[at] -= p.presence_penalty + p.frequency_penalty * *count as f32;
            }
        }
        for at in banned.iter().filter_map(|id| position(row, *id)).collect::<Vec<_>>() {
            row[at] = f32::NEG_INFINITY;
        }
    }

    fn draw(&mut self, row: &[f32]) -> Option<u32> {
        let highest = row[best(row)? as usize];
        let temperature = self.params.temperature;
        let weight = |logit: f32| f64::from((logit - highest) / temperature).exp();
        let candidates = self.candidates(row, &weight);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut rest = self.rng.random::<f64>() * total;
        for (id, weight) in &candidates {
            rest -= weight;
            if rest < 0.0 {
                return Some(*id);
            }
        }
        candidates.last().map(|(id, _)| *id)
    }

    /// Token ids with their unnormalised weights after top-k, top-p and min-p, best first where that matters.
    fn candidates(&self, row: &[f32], weight: &impl Fn(f32) -> f64) -> Vec<(u32, f64)> {
        let p = &self.params;
        let mut all: Vec<(u32, f64)> =
            row.iter().enumerate().filter(|(_, l)| l.is_finite()).map(|(id, l)| (id as u32, weight(*l))).collect();
        if p.min_p > 0.0 {
            all.retain(|(_, weight)| *weight >= f64::from(p.min_p));
        }
        let top_k = if p.top_k == 0 { all.len() } else { p.top_k as usize };
        if top_k < all.len() {
            all.select_nth_unstable_by(top_k, descending);
            all.truncate(top_k);
        }
        if p.top_p < 1.0 {
            keep_top_p(&mut all, f64::from(p.top_p));
        }
        all
    }
}

fn position(row: &[f32], id: u32) -> Option<usize> {
    Some(id as usize).filter(|at| *at < row.len())
}

fn descending(a: &(u32, f64), b: &(u32, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the smallest set of best candidates whose share reaches `top_p`, at least one.
fn keep_top_p(all: &mut Vec<(u32, f64)>, top_p: f64) {
    let goal = all.iter().map(|(_, weight)| weight).sum::<f64>() * top_p;
    if all.len() > HEAD {
        all.select_nth_unstable_by(HEAD, descending);
        let head: f64 = all[..HEAD].iter().map(|(_, weight)| weight).sum();
        if head >= goal {
            all.truncate(HEAD);
        }
    }
    all.sort_unstable_by(descending);
    let mut sum = 0.0;
    let reached = all.iter().position(|(_, weight)| {
        sum += weight;
        sum >= goal
    });
    all.truncate(reached.map_or(all.len(), |at| at + 1));
}

fn best(row: &[f32]) -> Option<u32> {
    let finite = row.iter().enumerate().filter(|(_, logit)| logit.is_finite());
    finite
        .fold(None, |best: Option<(usize, f32)>, (id, logit)| match best {
            Some((_, highest)) if highest >= *logit => best,
            _ => Some((id, *logit)),
        })
        .map(|(id, _)| id as u32)
}

/// Natural logarithms of the model's own probabilities, before penalties and temperature; a token that is impossible is no
/// alternative.
fn logprobs(row: &[f32], chosen: u32, top: usize) -> Logprobs {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    let log = |id: u32| (f64::from(row[id as usize] - highest) - sum.ln()) as f32;
    let finite = row.iter().enumerate().filter(|(_, logit)| logit.is_finite());
    let mut ids: Vec<(u32, f64)> = finite.map(|(id, logit)| (id as u32, f64::from(*logit))).collect();
    let top = top.min(ids.len());
    if top < ids.len() {
        ids.select_nth_unstable_by(top, descending);
        ids.truncate(top);
    }
    ids.sort_unstable_by(descending);
    Logprobs { chosen: log(chosen), top: ids.into_iter().map(|(id, _)| (id, log(id))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: [f32; 5] = [1.0, 3.0, 2.0, f32::NEG_INFINITY, 0.0];

    fn choose(params: SamplingParams, banned: &[u32]) -> Choice {
        Sampler::new(params, 0, &[], None).choose(Logits::Row(ROW.to_vec()), banned).unwrap()
    }

    fn greedy() -> SamplingParams {
        SamplingParams { temperature: 0.0, ..SamplingParams::default() }
    }

    /// Which of the five tokens are ever drawn in many tries.
    fn drawn(params: &SamplingParams) -> Vec<u32> {
        let mut seen: Vec<u32> =
            (0..2000).map(|seed| choose(SamplingParams { seed: Some(seed), ..params.clone() }, &[]).id).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    #[test]
    fn temperature_zero_takes_the_best_that_is_not_banned() {
        assert_eq!(choose(greedy(), &[]).id, 1);
        assert_eq!(choose(greedy(), &[1]).id, 2);
    }

    #[test]
    fn greedy_without_shifts_needs_only_the_best() {
        assert_eq!(Sampler::new(greedy(), 0, &[], None).want(false), Want::Best);
        assert_eq!(Sampler::new(greedy(), 0, &[], None).want(true), Want::Row);
        assert_eq!(Sampler::new(SamplingParams { logprobs: Some(0), ..greedy() }, 0, &[], None).want(false), Want::Row);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let tokens = |seed| {
            let mut sampler = Sampler::new(SamplingParams { seed: Some(seed), ..SamplingParams::default() }, 0, &[], None);
            (0..50).map(|_| sampler.choose(Logits::Row(ROW.to_vec()), &[]).unwrap().id).collect::<Vec<_>>()
        };
        assert_eq!(tokens(7), tokens(7));
        assert_ne!(tokens(7), tokens(8));
    }

    #[test]
    fn top_k_top_p_and_min_p_bound_what_can_be_drawn() {
        let plain = SamplingParams::default();
        assert_eq!(drawn(&plain), [0, 1, 2, 4]);
        assert_eq!(drawn(&SamplingParams { top_k: 2, ..plain.clone() }), [1, 2]);
        assert_eq!(drawn(&SamplingParams { top_p: 0.5, ..plain.clone() }), [1]);
        assert_eq!(drawn(&SamplingParams { top_p: 0.7, ..plain.clone() }), [1, 2]);
        assert_eq!(drawn(&SamplingParams { min_p: 0.2, ..plain }), [1, 2]);
    }

    #[test]
    fn penalties_and_biases_shift_the_choice() {
        assert_eq!(choose(SamplingParams { logit_bias: vec![(4, 100.0)], ..greedy() }, &[]).id, 4);
        let mut sampler = Sampler::new(SamplingParams { presence_penalty: 2.0, ..greedy() }, 0, &[], None);
        let ids: Vec<u32> = (0..3).map(|_| sampler.choose(Logits::Row(ROW.to_vec()), &[]).unwrap().id).collect();
        assert_eq!(ids, [1, 2, 0]);
        let mut sampler = Sampler::new(SamplingParams { repetition_penalty: 4.0, ..greedy() }, 0, &[1], None);
        assert_eq!(sampler.choose(Logits::Row(ROW.to_vec()), &[]).unwrap().id, 2);
    }

    #[test]
    fn a_repetition_penalty_also_scales_a_bias() {
        let params = SamplingParams { repetition_penalty: 2.0, logit_bias: vec![(4, 3.0)], ..greedy() };
        // 4 has 0 + 3 and 1 has 3; halved, both are below 2's 2.
        assert_eq!(Sampler::new(params, 0, &[1, 4], None).choose(Logits::Row(ROW.to_vec()), &[]).unwrap().id, 2);
    }

    #[test]
    fn probabilities_are_natural_logarithms_of_the_raw_row() {
        let logprobs = choose(SamplingParams { logprobs: Some(2), ..greedy() }, &[]).logprobs.unwrap();
        let sum: f32 = [1.0f32, 3.0, 2.0, 0.0].iter().map(|l| l.exp()).sum();
        assert!((logprobs.chosen - (3.0 - sum.ln())).abs() < 1e-5);
        assert_eq!(logprobs.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
    }

    /// Allows the tokens of a list, one after the other, and then nothing.
    struct Only(Vec<u32>);

    impl Constraint for Only {
        fn fresh(&self) -> Box<dyn Constraint> {
            Box::new(Self(self.0.clone()))
        }

        fn mask(&mut self, row: &mut [f32]) -> Result<(), String> {
            let next = *self.0.first().ok_or("stuck")?;
            (0..).zip(row).filter(|(id, _)| *id != next).for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
            Ok(())
        }

        fn advance(&mut self, token: u32) -> Result<bool, String> {
            assert_eq!(self.0.remove(0), token);
            Ok(self.0.is_empty())
        }
    }

    fn held(params: SamplingParams, tokens: &[u32]) -> Sampler {
        Sampler::new(params, 0, &[], Some(Box::new(Only(tokens.to_vec()))))
    }

    #[test]
    fn a_grammar_decides_before_everything_else() {
        let biased = SamplingParams { logit_bias: vec![(1, 100.0)], top_k: 1, top_p: 0.1, ..greedy() };
        for params in [greedy(), SamplingParams::default(), biased] {
            let mut sampler = held(params, &[4, 0]);
            assert_eq!(sampler.want(false), Want::Row);
            let mut next = || {
                let choice = sampler.choose(Logits::Row(ROW.to_vec()), &[]).unwrap();
                (choice.id, choice.is_last)
            };
            assert_eq!([next(), next()], [(4, false), (0, true)]);
        }
    }

    #[test]
    fn a_ban_gives_way_where_the_grammar_allows_nothing_else() {
        assert_eq!(held(greedy(), &[2]).choose(Logits::Row(ROW.to_vec()), &[2]).unwrap().id, 2);
    }

    #[test]
    fn probabilities_are_of_what_the_grammar_allows() {
        let choice = held(SamplingParams { logprobs: Some(3), ..greedy() }, &[4]).choose(Logits::Row(ROW.to_vec()), &[]);
        assert_eq!(choice.unwrap().logprobs, Some(Logprobs { chosen: 0.0, top: vec![(4, 0.0)] }));
    }

    #[test]
    fn a_grammar_that_is_stuck_is_an_error() {
        assert_eq!(held(greedy(), &[]).choose(Logits::Row(ROW.to_vec()), &[]), Err("stuck".to_owned()));
        // The model itself rules out token 3.
        assert!(held(greedy(), &[3]).choose(Logits::Row(ROW.to_vec()), &[]).is_err());
        assert!(held(greedy(), &[1]).choose(Logits::Best(1), &[]).is_err());
    }

    #[test]
    fn a_row_without_a_finite_logit_is_no_choice() {
        assert_eq!(Sampler::new(greedy(), 0, &[], None).choose(Logits::Row(vec![f32::NAN; 3]), &[]).ok(), None);
    }
}
