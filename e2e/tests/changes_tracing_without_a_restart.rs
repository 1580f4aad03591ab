//! Each hot part of `spec.tracing`, edited on a running service, takes effect at the destination: no container restarts, no
//! journey is lost on the way, and a file that the collector refuses leaves the one before it working.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use sojourn_e2e::change::Changes;
use sojourn_e2e::chat::{Caller, Chat, Question};
use sojourn_e2e::lab::Lab;
use sojourn_e2e::manifest::{JAEGER, Manifest};
use sojourn_e2e::receiver::{Harvest, Receiver};
use sojourn_e2e::service::Service;
use sojourn_e2e::wait::{self, Look};
use sojourn_journey::trace::Span;

/// Longest wait for a change; the kubelet alone takes up to a dozen seconds in the sandbox.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn changes_tracing_without_a_restart() -> Result<()> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("changes-tracing").await?;
    namespace.secret("smollm-telemetry", &[("token", "Bearer first\n")]).await?;
    let manifest = Manifest::smollm("smollm")
        .with("tracing.sampling.parents", "Ignore")
        .with("engine.extraArgs", vec!["--request-timeout", "3"]);
    let service = namespace.apply(&manifest.yaml()).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    service.becomes("TelemetryReady", Lab::PATIENCE, |_| {}).await?;
    let (chat, _tunnel) = service.chat().await?;
    let before = service.containers().await?;
    let own = Receiver::start_on(lab.cluster.host_address()).await?;
    own.require("authorization", "Bearer first");
    let mut changes = Changes::of(&service, &chat, Harvest::of(&own));

    let jaeger = json!({"name": "jaeger", "endpoint": JAEGER});
    let header = json!({"name": "authorization", "secretKey": "token"});
    let destinations = json!([jaeger, {"name": "own", "endpoint": own.url, "headers": [header]}]);
    let change = service.change(json!({"tracing": {"destinations": destinations}}));
    edit(&mut changes, "a destination with a header from the Secret", change, |_| true).await?;

    let change = service.change(json!({"tracing": {"resourceAttributes": {"team": "search"}}}));
    edit(&mut changes, "a resource attribute", change, |span| span.resource.text("team") == Some("search")).await?;

    own.require("authorization", "Bearer second");
    let change = namespace.secret("smollm-telemetry", &[("token", "Bearer second")]);
    edit(&mut changes, "a key of the Secret", change, |_| true).await?;

    // The one destination that was there all the time has every journey that was asked for meanwhile.
    assert!(!changes.answers.is_empty());
    for answer in changes.answers.drain(..) {
        lab.jaeger.trace(&answer.trace_id, 1).await?;
    }

    let change = service.change(json!({"tracing": {"sampling": {"rate": "0%"}}}));
    edit(&mut changes, "a sampling policy", change, |_| true).await?;
    only_failures_are_kept(&lab, &chat).await?;

    let odd = json!({"name": "odd", "exporter": {"type": "otlp_grpc", "config": {"no_such_field": true}}});
    let mut with_odd: Vec<Value> = destinations.as_array().cloned().unwrap_or_default();
    with_odd.push(odd);
    service.change(json!({"tracing": {"destinations": with_odd}})).await?;
    let refused = service.reports("TelemetryReady", "ConfigurationRefused", PATIENCE).await?;
    assert_eq!(refused.status, "False");
    for words in ["does not take the newest configuration", "no_such_field"] {
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    works_again(&service).await?;
    only_failures_are_kept(&lab, &chat).await?;
    assert!(service.pod_is_ready().await?);
    assert_eq!(service.condition("Ready").await?.status, "True");

    assert_eq!(service.containers().await?, before, "no container restarted");
    namespace.delete().await
}

/// Makes an edit and waits for its effect; how long that takes is worth seeing each time, so it is said past the test's own
/// capture.
async fn edit(
    changes: &mut Changes<'_>,
    what: &str,
    edit: impl Future<Output = Result<()>>,
    is_such: impl Fn(&Span) -> bool,
) -> Result<()> {
    let took = changes.take_effect(what, PATIENCE, edit, is_such).await?;
    writeln!(std::io::stderr(), "{what}: in effect {:.1} s after the edit", took.as_secs_f64())?;
    Ok(())
}

fn fine() -> Question {
    Question::new("Say yes.").with("max_tokens", 4)
}

/// Of two requests the fine one is dropped and the one that runs into its time limit is kept.
async fn only_failures_are_kept(lab: &Lab, chat: &Chat) -> Result<()> {
    let (dropped, failed) = (Caller::new(true), Caller::new(true));
    assert_eq!(chat.ask(fine().within(&dropped), |_| {}).await?.status, 200);
    let long = Question::new("Write a long story.").with("max_tokens", 1500).with("ignore_eos", true);
    chat.ask(long.within(&failed), |_| {}).await?;
    lab.jaeger.trace(&failed.trace_id, 1).await?;
    // What was sent before it took the same way and would be there by now.
    assert!(lab.jaeger.find(&dropped.trace_id).await?.is_none(), "dropped under the policy in effect");
    Ok(())
}

/// Waits until the collector runs again, with the file from before the refused one.
async fn works_again(service: &Service) -> Result<()> {
    wait::quietly("the old configuration works again", PATIENCE, || async {
        let collector = service.telemetry().await?.collector;
        let works = collector.running && collector.refused.is_some();
        Ok(if works { Look::Holds(()) } else { Look::NotYet(format!("{collector:?}")) })
    })
    .await
}
