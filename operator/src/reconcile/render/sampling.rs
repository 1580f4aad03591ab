//! The sampling policy as the collector's rules. They mirror [`sojourn_contract::sampling::decide`] statement by statement:
//! a journey's facts are on every one of its spans, so each span is decided alone and all come to the same end.

use sojourn_contract::attribute;
use sojourn_contract::journey::{Kind, Outcome, Parent};
use sojourn_contract::sampling::{KEPT_BY_RATE, Parents, Policy, Rule};

/// Statements of the `transform` processor in front of the sampler.
///
/// They leave `journey.kept_by` on each span, and `sampling.priority` where the rate has no say: 1 keeps, 0 drops.
pub(super) fn statements(policy: &Policy) -> Vec<String> {
    let kept_by = span_attribute(attribute::KEPT_BY);
    let priority = span_attribute(attribute::SAMPLING_PRIORITY);
    let kind = span_attribute(attribute::KIND);
    let parent = span_attribute(attribute::PARENT);
    let rules = r#"span.cache["rules"]"#;

    // Nothing that a caller sent, by baggage or otherwise, may decide.
    let mut statements = vec![format!(r#"delete_key(span.attributes, "{}")"#, attribute::SAMPLING_PRIORITY)];
    if policy.parents == Parents::Ignore {
        statements.extend(drop_callers_threshold());
    }
    statements.push(format!(r#"set({rules}, "")"#));
    for rule in Rule::ALL {
        if let Some(condition) = condition(*rule, policy) {
            statements.push(format!(r#"set({rules}, Concat([{rules}, ",{rule}"], "")) where {condition}"#));
        }
    }
    statements.push(format!(r#"set({kept_by}, "{KEPT_BY_RATE}") where {rules} == """#));
    if policy.parents == Parents::Respect {
        statements.push(format!(r#"set({priority}, 0) where {rules} == "" and {parent} == "{}""#, Parent::Unsampled));
    }
    statements.push(format!(r#"set({kept_by}, TrimPrefix({rules}, ",")) where {rules} != """#));
    statements.push(format!(r#"set({priority}, 1) where {rules} != """#));
    let always = Kind::ALL.iter().filter(|kind| **kind != Kind::Request);
    let always = always.map(|word| format!(r#"{kind} == "{word}""#)).collect::<Vec<_>>().join(" or ");
    statements.push(format!("set({kept_by}, {kind}) where {always}"));
    statements.push(format!("set({priority}, 1) where {always}"));
    statements
}

/// The condition of a rule; `None` where the policy does not have it.
///
/// An attribute that is absent compares as false, so each number stands for something that did happen.
fn condition(rule: Rule, policy: &Policy) -> Option<String> {
    let keep = &policy.keep;
    let outcome = |outcome: Outcome| format!(r#"{} == "{outcome}""#, span_attribute(attribute::OUTCOME));
    let exceeds = |name: &str, limit: f64| format!("{} > {limit:?}", span_attribute(name));
    match rule {
        Rule::Parent => (policy.parents == Parents::Respect)
            .then(|| format!(r#"{} == "{}""#, span_attribute(attribute::PARENT), Parent::Sampled)),
        Rule::Error => keep.errors.then(|| outcome(Outcome::Error)),
        Rule::Aborted => keep.aborted.then(|| outcome(Outcome::Aborted)),
        Rule::Preempted => keep.preempted.then(|| format!("{} > 0", span_attribute(attribute::JOURNEY_NUM_PREEMPTIONS))),
        Rule::SlowFirstToken => keep.first_token_slower_than.map(|limit| {
            let first_token = attribute::TIME_TO_FIRST_TOKEN;
            let slow = exceeds(first_token, limit);
            let slow_without_one = exceeds(attribute::DURATION_SECONDS, limit);
            format!("({slow} or ({} == nil and {slow_without_one}))", span_attribute(first_token))
        }),
        Rule::SlowQueue => keep.queued_longer_than.map(|limit| exceeds(attribute::TIME_IN_QUEUE, limit)),
        Rule::Slow => keep.slower_than.map(|limit| exceeds(attribute::DURATION_SECONDS, limit)),
    }
}

/// A sampler in proportional mode multiplies a caller's threshold by the rate; where the caller's decision is to be ignored,
/// so is its threshold. Its explicit randomness (`rv`) stays.
fn drop_callers_threshold() -> [String; 4] {
    const MEMBER: &str = r#"span.trace_state["ot"]"#;
    [
        format!(r#"replace_pattern({MEMBER}, "^th:[0-9a-f]*;", "") where IsMatch({MEMBER}, "^th:[0-9a-f]*;")"#),
        format!(r#"replace_pattern({MEMBER}, ";th:[0-9a-f]*", "") where IsMatch({MEMBER}, ";th:[0-9a-f]*")"#),
        r#"replace_pattern(span.trace_state, "^ *ot=th:[0-9a-f]* *,?", "")"#.into(),
        r#"replace_pattern(span.trace_state, ", *ot=th:[0-9a-f]*", "")"#.into(),
    ]
}

fn span_attribute(name: &str) -> String {
    format!(r#"span.attributes["{name}"]"#)
}

/// The policy in words, for the status: `10% + errors, aborted, preempted, first token > 2s`.
pub fn summary(policy: &Policy) -> String {
    let keep = &policy.keep;
    let over = |what: &str, limit: Option<f64>| limit.map(|limit| format!("{what} > {limit}s"));
    let kept: Vec<String> = [
        keep.errors.then(|| "errors".to_owned()),
        keep.aborted.then(|| "aborted".to_owned()),
        keep.preempted.then(|| "preempted".to_owned()),
        over("first token", keep.first_token_slower_than),
        over("queue", keep.queued_longer_than),
        over("request", keep.slower_than),
    ]
    .into_iter()
    .flatten()
    .collect();
    match kept.as_slice() {
        [] => format!("{}%", policy.rate_percent),
        rules => format!("{}% + {}", policy.rate_percent, rules.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use sojourn_contract::sampling::Keep;

    use super::*;

    #[test]
    fn a_policy_has_a_short_text() {
        assert_eq!(summary(&Policy::default()), "100% + errors, aborted, preempted");
        let keep = Keep { first_token_slower_than: Some(2.0), queued_longer_than: Some(0.5), ..Keep::default() };
        let policy = Policy { rate_percent: 0.5, keep, ..Policy::default() };
        assert_eq!(summary(&policy), "0.5% + first token > 2s, queue > 0.5s");
        assert_eq!(summary(&Policy { keep: Keep::default(), ..policy }), "0.5%");
    }

    #[test]
    fn each_rule_that_the_policy_has_stands_once_and_in_order() {
        let keep = Keep {
            errors: true,
            aborted: true,
            preempted: true,
            first_token_slower_than: Some(2.0),
            queued_longer_than: Some(1.0),
            slower_than: Some(30.0),
        };
        let text = statements(&Policy { keep, ..Policy::default() }).join("\n");
        let places: Vec<usize> = Rule::ALL.iter().map(|rule| text.find(&format!("\",{rule}\"")).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        let none = statements(&Policy { keep: Keep::default(), parents: Parents::Ignore, rate_percent: 1.0 }).join("\n");
        assert!(!none.contains("Concat"), "{none}");
    }
}
