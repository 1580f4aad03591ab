//! Which journeys are kept, by traffic: real requests through a real engine, and the policy in Rust decides what must have
//! arrived, from the facts that the engine itself remembers of each request, kept or not.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::json;
use sojourn_contract::attribute;
use sojourn_contract::journey::{LLM_REQUEST, Parent};
use sojourn_contract::sampling::{Decision, Facts, Keep, Parents, Policy, Rule, decide};
use sojourn_e2e::manifest::Manifest;
use sojourn_e2e::pod::{Plan, Pod};
use sojourn_e2e::receiver::{Harvest, Receiver};
use sojourn_journey::trace::Trace;

use crate::traffic::{Asked, Callers, identity};

/// Requests that run at a time.
const PLACES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rule_keeps_what_it_names_and_nothing_else() -> Result<()> {
    let every_rule = Keep {
        errors: true,
        aborted: true,
        preempted: true,
        first_token_slower_than: Some(0.4),
        queued_longer_than: Some(0.3),
        slower_than: Some(1.5),
    };
    let none = Keep::default();
    let policy = |parents, keep| Policy { rate_percent: 0.0, parents, keep };
    tokio::try_join!(
        check(policy(Parents::Respect, every_rule)),
        check(policy(Parents::Ignore, every_rule)),
        check(policy(Parents::Respect, none)),
        check(policy(Parents::Ignore, none)),
    )?;
    Ok(())
}

/// Makes every kind of request for every kind of caller, and compares what arrived with what the policy says.
async fn check(policy: Policy) -> Result<()> {
    let receiver = Receiver::start().await?;
    let pod = start(&policy, &receiver).await?;
    let asked = traffic(&pod).await?;
    pod.until_exported(asked.len() as u64).await?;
    let mut journeys = Vec::new();
    for asked in asked {
        journeys.push((pod.journey(&asked.id).await?, asked));
    }
    // What the sidecar has is sent before it ends, so nothing comes later.
    pod.end().await?;
    let mut arrived = Harvest::of(&receiver);
    arrived.gather()?;

    let mut expected = BTreeMap::new();
    for (trace, asked) in &journeys {
        let facts = facts(trace).with_context(|| format!("{asked:?}"))?;
        assert_eq!(facts.parent, asked.parent, "{asked:?}");
        let decision = decide(&policy, &facts);
        meets_its_purpose(&policy, asked, &decision);
        if let Decision::Keep(rules) = decision {
            expected.insert(asked.id.as_str(), (rules, trace));
        }
    }
    assert!(expected.len() < journeys.len(), "no request was to be dropped");
    let found: Vec<&str> = arrived.journeys.keys().map(String::as_str).collect();
    assert_eq!(found, expected.keys().copied().collect::<Vec<_>>(), "{policy:?}");
    for (id, (rules, trace)) in expected {
        is_whole(&arrived.journeys[id], &rules, trace);
    }
    Ok(())
}

async fn start(policy: &Policy, receiver: &Receiver) -> Result<Pod> {
    let seconds = |limit: Option<f64>| limit.map(|limit| format!("{}ms", limit * 1000.0));
    let keep = policy.keep;
    let mut rules = json!({"errors": keep.errors, "aborted": keep.aborted, "preempted": keep.preempted});
    for (rule, limit) in [
        ("firstTokenSlowerThan", keep.first_token_slower_than),
        ("queuedLongerThan", keep.queued_longer_than),
        ("slowerThan", keep.slower_than),
    ] {
        if let Some(limit) = seconds(limit) {
            rules[rule] = limit.into();
        }
    }
    let sampling = json!({"rate": "0%", "parents": policy.parents.as_str(), "keep": rules});
    let manifest = Manifest::smollm("smollm")
        .with("engine.maxNumSeqs", PLACES)
        .with("engine.schedulingPolicy", "priority")
        .with("tracing.destinations", json!([{"name": "here", "endpoint": receiver.url}]))
        .with("tracing.sampling", sampling);
    let model = "scripted:batch=8,block=16,blocks=65536,length=1000,step_ms=5,hang_ms=500";
    Plan::of(manifest).model(model).start().await
}

/// Every kind of request, by every kind of caller. All requests of a caller with a trace are in that one trace.
async fn traffic(pod: &Pod) -> Result<Vec<Asked>> {
    let [none, sampled, unsampled] = [Parent::None, Parent::Sampled, Parent::Unsampled].map(Callers::of);
    let all = [&none, &sampled, &unsampled];
    let mut asked = Vec::new();
    for callers in all {
        for _ in 0..3 {
            asked.push(callers.fine(pod).await?);
        }
        asked.push(callers.rejected(pod).await?);
        asked.push(callers.failed(pod).await?);
        asked.push(callers.fine(pod).await?);
        asked.push(callers.aborted(pod).await?);
        asked.push(callers.slow_first_token(pod).await?);
    }
    for callers in all {
        asked.extend(callers.preempted(pod, PLACES, 60).await?);
    }
    asked.extend(none.slow_queue(pod, PLACES, 130).await?);
    asked.extend(unsampled.slow_queue(pod, PLACES, 130).await?);
    let slow = tokio::try_join!(none.slow(pod, 330), sampled.slow(pod, 330), unsampled.slow(pod, 330))?;
    asked.extend(<[Asked; 3]>::from(slow));
    Ok(asked)
}

/// What the policy may look at, from the engine's own memory of a journey.
fn facts(trace: &Trace) -> Result<Facts> {
    let request = trace.spans.iter().find(|span| span.name == LLM_REQUEST).context("the journey has no request")?;
    let attributes = &request.attributes;
    let word = |name: &str| attributes.text(name).with_context(|| format!("no {name}"));
    Ok(Facts {
        kind: word(attribute::KIND)?.parse()?,
        outcome: word(attribute::OUTCOME)?.parse()?,
        parent: word(attribute::PARENT)?.parse()?,
        num_preemptions: attributes.int(attribute::JOURNEY_NUM_PREEMPTIONS).unwrap_or(0).cast_unsigned(),
        time_to_first_token: attributes.float(attribute::TIME_TO_FIRST_TOKEN),
        time_in_queue: attributes.float(attribute::TIME_IN_QUEUE),
        duration: attributes.float(attribute::DURATION_SECONDS).context("no duration")?,
    })
}

/// A request that was made for a rule must be kept by it where the policy has it, so that no rule goes untested.
fn meets_its_purpose(policy: &Policy, asked: &Asked, decision: &Decision) {
    let Some(rule) = asked.meant else { return };
    let keep = &policy.keep;
    let has_rule = match rule {
        Rule::Parent => policy.parents == Parents::Respect,
        Rule::Error => keep.errors,
        Rule::Aborted => keep.aborted,
        Rule::Preempted => keep.preempted,
        Rule::SlowFirstToken => keep.first_token_slower_than.is_some(),
        Rule::SlowQueue => keep.queued_longer_than.is_some(),
        Rule::Slow => keep.slower_than.is_some(),
    };
    let is_kept = matches!(decision, Decision::Keep(rules) if rules.contains(&rule));
    assert_eq!(is_kept, has_rule, "{asked:?}: {decision:?}");
    if !has_rule && (policy.parents != Parents::Respect || asked.parent != Parent::Sampled) {
        assert!(!matches!(decision, Decision::Keep(_)), "{asked:?}: {decision:?}");
    }
}

/// All spans of a journey came, once each, and each says why.
fn is_whole(spans: &[sojourn_journey::trace::Span], rules: &[Rule], trace: &Trace) {
    let mut found: Vec<_> = spans.iter().map(identity).collect();
    let mut expected: Vec<_> = trace.spans.iter().map(identity).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let kept_by = rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    for span in spans {
        assert_eq!(span.attributes.text(attribute::KEPT_BY), Some(kept_by.as_str()), "{span:?}");
        assert_eq!(span.attributes.get(attribute::SAMPLING_PRIORITY), None, "{span:?}");
        assert_eq!(span.trace_state, "ot=th:0", "a rule keeps all that it names: one stands for one");
    }
}
