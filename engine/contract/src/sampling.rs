//! The sampling policy of `spec.tracing.sampling`, and what it decides for a request. The sidecar's rules are rendered from
//! the same policy; [`decide`] is their oracle.

use serde::{Deserialize, Serialize};

use crate::journey::{Kind, Outcome, Parent};
use crate::words::words;

/// What to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Of the traces whose requests no rule keeps, 0 to 100, up to four decimals.
    pub rate_percent: f64,
    /// What a caller's context means.
    pub parents: Parents,
    /// Rules that keep a request whatever the rate says.
    pub keep: Keep,
}

words! {
    /// What a caller's W3C context means for sampling (`spec.tracing.sampling.parents`).
    Parents {
        /// A sampled parent is kept, an unsampled one only by a rule.
        Respect = "Respect",
        /// The rate applies to all.
        Ignore = "Ignore",
    }
}

/// Rules that keep a request; thresholds are seconds, `None` is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Keep {
    /// Outcome `error`.
    pub errors: bool,
    /// Outcome `aborted`.
    pub aborted: bool,
    /// At least one preemption.
    pub preempted: bool,
    /// ARRIVED to the first token, or the whole duration when there was none.
    pub first_token_slower_than: Option<f64>,
    /// All waiting before the first SCHEDULED.
    pub queued_longer_than: Option<f64>,
    /// The whole of `llm_request`.
    pub slower_than: Option<f64>,
}

impl Default for Policy {
    /// Everything is kept, and errors, aborts and preemptions say so.
    fn default() -> Self {
        let keep = Keep { errors: true, aborted: true, preempted: true, ..Keep::default() };
        Self { rate_percent: 100.0, parents: Parents::Respect, keep }
    }
}

words! {
    /// A rule that matched, in the order of `journey.kept_by`.
    Rule {
        /// The caller's trace is sampled.
        Parent = "parent",
        /// `keep.errors`.
        Error = "error",
        /// `keep.aborted`.
        Aborted = "aborted",
        /// `keep.preempted`.
        Preempted = "preempted",
        /// `keep.firstTokenSlowerThan`.
        SlowFirstToken = "slow_first_token",
        /// `keep.queuedLongerThan`.
        SlowQueue = "slow_queue",
        /// `keep.slowerThan`.
        Slow = "slow",
    }
}

/// `journey.kept_by` of a journey that no rule but the rate kept.
pub const KEPT_BY_RATE: &str = "rate";

/// The facts of a journey that a policy looks at; durations in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// Start-up traces, probes and canaries are always kept.
    pub kind: Kind,
    /// How it ended.
    pub outcome: Outcome,
    /// What the caller's context said.
    pub parent: Parent,
    /// Preemptions of all its sequences.
    pub num_preemptions: u64,
    /// ARRIVED to the first token.
    pub time_to_first_token: Option<f64>,
    /// All waiting before the first SCHEDULED.
    pub time_in_queue: Option<f64>,
    /// The whole of `llm_request`.
    pub duration: f64,
}

/// What a policy says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Kept whatever the rate says: not a request, but a start-up, probe or canary.
    Always,
    /// Kept by these rules.
    Keep(Vec<Rule>),
    /// Kept if the draw of its trace says so.
    Draw,
    /// Dropped: an unsampled caller, and no rule matched.
    Drop,
}

/// Decides for one request.
pub fn decide(policy: &Policy, facts: &Facts) -> Decision {
    if facts.kind != Kind::Request {
        return Decision::Always;
    }
    let respect = policy.parents == Parents::Respect;
    let keep = &policy.keep;
    let exceeds = |value: Option<f64>, limit: Option<f64>| matches!((value, limit), (Some(v), Some(l)) if v > l);
    let matched = |rule: Rule| match rule {
        Rule::Parent => respect && facts.parent == Parent::Sampled,
        Rule::Error => keep.errors && facts.outcome == Outcome::Error,
        Rule::Aborted => keep.aborted && facts.outcome == Outcome::Aborted,
        Rule::Preempted => keep.preempted && facts.num_preemptions > 0,
        Rule::SlowFirstToken => exceeds(facts.time_to_first_token.or(Some(facts.duration)), keep.first_token_slower_than),
        Rule::SlowQueue => exceeds(facts.time_in_queue, keep.queued_longer_than),
        Rule::Slow => exceeds(Some(facts.duration), keep.slower_than),
    };
    let rules: Vec<Rule> = Rule::ALL.iter().copied().filter(|rule| matched(*rule)).collect();
    if !rules.is_empty() {
        return Decision::Keep(rules);
    }
    match (respect, facts.parent) {
        (true, Parent::Unsampled) => Decision::Drop,
        _ => Decision::Draw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Facts = Facts {
        kind: Kind::Request,
        outcome: Outcome::Ok,
        parent: Parent::None,
        num_preemptions: 0,
        time_to_first_token: Some(0.1),
        time_in_queue: Some(0.0),
        duration: 1.0,
    };

    fn strict() -> Policy {
        let keep = Keep {
            errors: true,
            aborted: true,
            preempted: true,
            first_token_slower_than: Some(2.0),
            queued_longer_than: Some(1.0),
            slower_than: Some(30.0),
        };
        Policy { rate_percent: 0.0, parents: Parents::Respect, keep }
    }

    #[test]
    fn a_request_that_no_rule_names_is_left_to_the_draw() {
        assert_eq!(decide(&strict(), &FINE), Decision::Draw);
    }

    #[test]
    fn each_rule_keeps_what_it_names() {
        let cases = [
            (Facts { parent: Parent::Sampled, ..FINE }, Rule::Parent),
            (Facts { outcome: Outcome::Error, ..FINE }, Rule::Error),
            (Facts { outcome: Outcome::Aborted, ..FINE }, Rule::Aborted),
            (Facts { num_preemptions: 1, ..FINE }, Rule::Preempted),
            (Facts { time_to_first_token: Some(2.1), ..FINE }, Rule::SlowFirstToken),
            (Facts { time_in_queue: Some(1.1), ..FINE }, Rule::SlowQueue),
            (Facts { duration: 30.1, ..FINE }, Rule::Slow),
        ];
        for (facts, rule) in cases {
            assert_eq!(decide(&strict(), &facts), Decision::Keep(vec![rule]));
        }
    }

    #[test]
    fn a_request_without_a_token_is_judged_by_its_duration() {
        let facts = Facts { time_to_first_token: None, duration: 2.5, ..FINE };
        assert_eq!(decide(&strict(), &facts), Decision::Keep(vec![Rule::SlowFirstToken]));
    }

    #[test]
    fn rules_are_named_in_their_order() {
        let facts = Facts { outcome: Outcome::Error, num_preemptions: 2, duration: 31.0, parent: Parent::Sampled, ..FINE };
        assert_eq!(decide(&strict(), &facts), Decision::Keep(vec![Rule::Parent, Rule::Error, Rule::Preempted, Rule::Slow]));
    }

    #[test]
    fn an_unsampled_caller_is_dropped_unless_a_rule_matches_or_parents_are_ignored() {
        let facts = Facts { parent: Parent::Unsampled, ..FINE };
        assert_eq!(decide(&strict(), &facts), Decision::Drop);
        assert_eq!(decide(&Policy { parents: Parents::Ignore, ..strict() }, &facts), Decision::Draw);
        let error = Facts { outcome: Outcome::Error, ..facts };
        assert_eq!(decide(&strict(), &error), Decision::Keep(vec![Rule::Error]));
    }

    #[test]
    fn a_start_up_trace_is_always_kept() {
        assert_eq!(decide(&strict(), &Facts { kind: Kind::Startup, parent: Parent::Unsampled, ..FINE }), Decision::Always);
    }
}
