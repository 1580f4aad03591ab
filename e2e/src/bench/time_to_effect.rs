//! From an edit of a running service to its effect: what is hot in `spec.tracing`, with healthy destinations and with a dead one.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::report::{Section, Table, Unit, Verdict};
use super::{Part, Plan, say};
use crate::change::Changes;
use crate::lab::Lab;
use crate::manifest::Manifest;
use crate::namespace::Namespace;
use crate::receiver::{Harvest, Receiver};
use crate::service::Service;
use crate::statistics::Spread;

/// Longest wait for one edit: three minutes are the bound with a dead destination.
const PATIENCE: Duration = Duration::from_secs(300);
const SECRET: &str = "smollm-telemetry";

/// What is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edit {
    Sampling,
    ResourceAttribute,
    Destination,
    SecretKey,
    /// While a second destination refuses every connection and has journeys in its queue.
    SamplingWithOneDead,
}

impl Edit {
    /// In turns.
    const HEALTHY: [Self; 4] = [Self::Sampling, Self::ResourceAttribute, Self::Destination, Self::SecretKey];

    fn name(self) -> &'static str {
        match self {
            Self::Sampling => "`sampling`",
            Self::ResourceAttribute => "`resourceAttributes`",
            Self::Destination => "`destinations`",
            Self::SecretKey => "a key of the credentials Secret",
            Self::SamplingWithOneDead => "`sampling`, one of two destinations dead",
        }
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    seconds: BTreeMap<Edit, Vec<f64>>,
    answers: usize,
    restarts: i32,
}

/// A service with a destination of ours, and a second one that comes and goes.
struct Edited<'a> {
    namespace: &'a Namespace,
    service: &'a Service,
    changes: Changes<'a>,
    own: &'a Receiver,
    second: &'a Receiver,
    seen: Seen,
}

/// Measures it.
pub async fn measure(plan: &Plan) -> Result<Section> {
    let lab = Lab::open().await?;
    let namespace = lab.namespace("time-to-effect").await?;
    namespace.secret(SECRET, &[("token", "Bearer 0")]).await?;
    let address = lab.cluster.host_address();
    let (own, second) = (Receiver::start_on(address).await?, Receiver::start_on(address).await?);
    let manifest =
        Manifest::smollm("smollm").with("tracing.destinations", destinations(&own, None)).with("tracing.sampling", sampling(0));
    let service = namespace.apply(&manifest.yaml()).await?;
    service.becomes("Ready", Lab::PATIENCE, |_| {}).await?;
    service.becomes("TelemetryReady", Lab::PATIENCE, |_| {}).await?;
    let (chat, _tunnel) = service.chat().await?;
    let before = service.containers().await?;
    let changes = Changes::of(&service, &chat, Harvest::of(&own));
    let seen = Seen::default();
    let mut edited = Edited { namespace: &namespace, service: &service, changes, own: &own, second: &second, seen };
    edited.while_all_is_well(plan.edits).await?;
    edited.while_one_is_dead(plan.edits).await?;
    edited.seen.answers = edited.changes.have_all_arrived().await?;
    let after = service.containers().await?;
    ensure!(after.pod_uid == before.pod_uid, "the pod was replaced: {before:?}, {after:?}");
    let restarts = |all: &crate::service::Containers| all.containers.iter().map(|(_, count, _)| count).sum::<i32>();
    edited.seen.restarts = restarts(&after) - restarts(&before);
    let section = section(plan.edits, &edited.seen);
    namespace.delete().await?;
    Ok(section)
}

impl Edited<'_> {
    async fn while_all_is_well(&mut self, rounds: usize) -> Result<()> {
        for round in 1..=rounds {
            for edit in Edit::HEALTHY {
                say(&format!("to its effect: round {round} of {rounds}, {}", edit.name()));
                self.measure(edit, round).await?;
            }
        }
        Ok(())
    }

    async fn while_one_is_dead(&mut self, rounds: usize) -> Result<()> {
        self.second.close().await;
        if !has_second(rounds) {
            let both = json!({"tracing": {"destinations": destinations(self.own, Some(self.second))}});
            self.changes.take_effect("a dead destination", PATIENCE, self.service.change(both), |_| true).await?;
        }
        for round in 1..=rounds {
            say(&format!("to its effect: round {round} of {rounds}, {}", Edit::SamplingWithOneDead.name()));
            self.measure(Edit::SamplingWithOneDead, rounds + round).await?;
        }
        Ok(())
    }

    async fn measure(&mut self, edit: Edit, round: usize) -> Result<()> {
        let (service, namespace) = (self.service, self.namespace);
        let token = format!("Bearer {round}");
        let spec = match edit {
            Edit::Sampling | Edit::SamplingWithOneDead => Some(json!({"sampling": sampling(round)})),
            Edit::ResourceAttribute => Some(json!({"resourceAttributes": {"round": round.to_string()}})),
            Edit::Destination => {
                Some(json!({"destinations": destinations(self.own, Some(self.second).filter(|_| has_second(round)))}))
            }
            Edit::SecretKey => None,
        };
        let make = async {
            match spec {
                Some(spec) => service.change(json!({"tracing": spec})).await,
                None => namespace.secret(SECRET, &[("token", &token)]).await,
            }
        };
        let took = self.changes.take_effect(edit.name(), PATIENCE, make, |_| true).await?;
        self.seen.seconds.entry(edit).or_default().push(took.as_secs_f64());
        Ok(())
    }
}

/// The second destination comes with one round and goes with the next.
fn has_second(round: usize) -> bool {
    round % 2 == 1
}

fn destinations(own: &Receiver, second: Option<&Receiver>) -> Value {
    let header = json!({"name": "authorization", "secretKey": "token"});
    let first = json!({"name": "own", "endpoint": own.url, "headers": [header]});
    std::iter::once(first).chain(second.map(|second| json!({"name": "second", "endpoint": second.url}))).collect()
}

/// Keeps everything, by another policy in every round.
fn sampling(round: usize) -> Value {
    json!({"rate": "100%", "parents": "Ignore", "keep": {"slowerThan": format!("{}s", 1_000 + round)}})
}

fn section(rounds: usize, seen: &Seen) -> Section {
    let of = |edit: Edit| seen.seconds.get(&edit).and_then(|seconds| Spread::of(seconds));
    let mut table = Table::new(&["edit of `spec.tracing`", "in effect after"]);
    table.rows = seen.seconds.keys().map(|edit| vec![edit.name().to_owned(), Unit::Seconds.spread(of(*edit))]).collect();
    let limit = "The kubelet's next look at its volumes, and what the old collector still has to send.";
    Section {
        title: Part::TimeToEffect.title(),
        how: format!(
            "A running service is edited (`kubectl edit`, so to say) while a client asks it one question after the other. The\n\
             time ends when the probe span of the collector that works by the edit is at a destination: the operator's write,\n\
             the kubelet's update of the volume, and the collector's renewal. The sandbox's kubelet looks after its volumes every\n\
             10 s (`syncFrequency`); one with the default does so every minute, which can add 50 s. The dead destination refuses\n\
             every connection and has journeys in its queue. Rounds: {rounds}."
        ),
        tables: vec![table],
        verdicts: vec![
            Verdict::below("`sampling` in effect within 120 s", of(Edit::Sampling), 120.0, Unit::Seconds, limit),
            Verdict::below("with a dead destination, within 180 s", of(Edit::SamplingWithOneDead), 180.0, Unit::Seconds, limit),
            Verdict::below(
                "no container restarts",
                Spread::of(&[f64::from(seen.restarts)]),
                1.0,
                Unit::Whole(""),
                "`kubectl describe pod` says why.",
            ),
        ],
        notes: vec![format!(
            "The healthy destination has the journey of each of the {} requests that were answered meanwhile.",
            seen.answers
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_becomes_rows_and_verdicts() {
        let seconds = [(Edit::Sampling, vec![4.0, 10.0, 6.0]), (Edit::SamplingWithOneDead, vec![200.0])].into();
        let section = section(3, &Seen { seconds, answers: 40, restarts: 0 });
        assert_eq!(section.tables[0].rows[0], ["`sampling`", "6.00 s (4.00 s..10.00 s)"]);
        let met: Vec<Option<bool>> = section.verdicts.iter().map(Verdict::is_met).collect();
        assert_eq!(met, [Some(true), Some(false), Some(true)]);
        assert!(section.notes[0].contains("40 requests"));
    }

    #[test]
    fn every_round_has_another_policy_that_keeps_everything() {
        assert_ne!(sampling(1), sampling(2));
        assert_eq!(sampling(1)["rate"], "100%");
    }
}
