//! TelemetryReady: whether what is kept arrives, judged by what the next hop acknowledged. The worst pod decides and is
//! named. Pure.

use kube::ResourceExt;
use sojourn_contract::label;
use sojourn_contract::sidecar::{Destination, State};

use super::super::dereference::World;
use super::super::service::Tracing;
use super::{Verdict, pod};
use crate::crd::status::TelemetryReason;
use crate::telemetry::Answer;

/// Seconds without an acknowledgement, with spans waiting, after which a destination counts as not taking them.
const PATIENCE_SECONDS: u64 = 60;
/// What the errors of a destination that answers, and says no, have in common.
const REFUSALS: [&str; 7] =
    ["Unauthenticated", "PermissionDenied", "Unimplemented", "InvalidArgument", "FailedPrecondition", "x509", "tls:"];
/// HTTP's words for it.
const REFUSAL_CODES: [&str; 4] = ["400", "401", "403", "404"];

/// TelemetryReady of a service.
pub(super) fn verdict(tracing: Option<&Tracing>, world: &World) -> Verdict<TelemetryReason> {
    let Some(tracing) = tracing else {
        return verdict_of("False", TelemetryReason::Disabled, "", "spec.tracing.enabled is false");
    };
    if tracing.destinations.is_empty() {
        let detail = "nothing is exported: set spec.tracing.destinations, or give the operator a default destination";
        return verdict_of("False", TelemetryReason::NoDestination, "", detail);
    }
    let living: Vec<_> = world.pods.iter().filter(|pod| pod::is_living(pod)).collect();
    let mut findings = Vec::new();
    for pod in &living {
        let name = pod.name_any();
        let subject = format!("pod {name}");
        if sidecar_fails(pod) {
            let detail = format!("the collector's container does not run; see `kubectl logs {name} -c collector --previous`");
            findings.push((TelemetryReason::CollectorDown, subject, detail));
        } else if let Some(answer) = world.answers.get(&name) {
            findings.push(of_pod(subject, answer));
        }
    }
    let worst = findings.into_iter().min_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
    match worst {
        Some((TelemetryReason::Exporting, ..)) => {
            verdict_of("True", TelemetryReason::Exporting, "", "every destination acknowledges what is sent")
        }
        Some((TelemetryReason::Unknown, subject, detail)) => verdict_of("Unknown", TelemetryReason::Unknown, &subject, &detail),
        Some((reason, subject, detail)) => verdict_of("False", reason, &subject, &detail),
        None if living.is_empty() => verdict_of("Unknown", TelemetryReason::Unknown, "", "no pod runs"),
        None => verdict_of("Unknown", TelemetryReason::Unknown, "", "no sidecar has been asked yet"),
    }
}

/// TelemetryReady of a service whose spec was not understood.
pub(super) fn not_understood() -> Verdict<TelemetryReason> {
    verdict_of("Unknown", TelemetryReason::Unknown, "", "the spec cannot be applied; see Ready")
}

fn verdict_of(status: &'static str, reason: TelemetryReason, subject: &str, detail: &str) -> Verdict<TelemetryReason> {
    Verdict { status, reason, subject: subject.into(), detail: detail.into() }
}

fn sidecar_fails(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    statuses.filter(|container| container.name == label::COLLECTOR_CONTAINER).any(|container| {
        let state = container.state.as_ref();
        state.and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.as_deref()) == Some("CrashLoopBackOff")
    })
}

type Finding = (TelemetryReason, String, String);

fn of_pod(subject: String, answer: &Answer) -> Finding {
    let state = match &answer.latest {
        Some(Ok(state)) => state,
        Some(Err(error)) => return (TelemetryReason::Unknown, subject, format!("its sidecar cannot be asked: {error}")),
        None => return (TelemetryReason::Unknown, subject, "its sidecar has not been asked yet".into()),
    };
    let collector = &state.collector;
    if let Some(refused) = &collector.refused {
        let reason = if collector.running { TelemetryReason::ConfigurationRefused } else { TelemetryReason::CollectorDown };
        return (reason, subject, format!("its collector does not take the newest configuration: {refused}"));
    }
    if !collector.running {
        let error = collector.last_error.as_deref().unwrap_or("it left no error in its log");
        return (TelemetryReason::CollectorDown, subject, format!("its collector does not run: {error}"));
    }
    let findings = state.destinations.iter().map(|destination| {
        let before = answer.previous.as_ref().and_then(|before| same_destination(before, destination));
        let (reason, detail) = of_destination(destination, before);
        (reason, format!("{subject}, destination {}", destination.name), detail)
    });
    findings.min_by_key(|(reason, ..)| *reason).unwrap_or_else(|| {
        (TelemetryReason::Unknown, subject, "its sidecar has no destination yet: the configuration is on its way".into())
    })
}

fn same_destination<'a>(before: &'a State, destination: &Destination) -> Option<&'a Destination> {
    before.destinations.iter().find(|other| other.name == destination.name)
}

fn is_refusal(error: &str) -> bool {
    // A number that stands alone: `:4010` and `10.4.0.1` are parts of addresses.
    let words = error.split(|character: char| !(character.is_ascii_alphanumeric() || ".:".contains(character)));
    let mut numbers = words.map(|word| word.trim_end_matches([':', '.']));
    REFUSALS.iter().any(|word| error.contains(word)) || numbers.any(|number| REFUSAL_CODES.contains(&number))
}

fn of_destination(destination: &Destination, before: Option<&Destination>) -> (TelemetryReason, String) {
    if !destination.missing_keys.is_empty() {
        let keys = destination.missing_keys.join(", ");
        let detail = format!("left out, because the credentials Secret lacks {keys}; add it, no restart is needed");
        return (TelemetryReason::DestinationRefused, detail);
    }
    let error = destination.last_error.as_deref();
    let said = error.unwrap_or("the collector's log names no error");
    let refused = error.is_some_and(is_refusal);
    if before.is_some_and(|before| destination.failed_spans > before.failed_spans) {
        return match refused {
            true => (TelemetryReason::DestinationRefused, said.to_owned()),
            false => (TelemetryReason::Dropping, format!("spans are given up: {said}")),
        };
    }
    let silent = destination.seconds_since_sent.is_none_or(|seconds| seconds > PATIENCE_SECONDS);
    let never = destination.sent_spans == 0;
    if silent && (destination.queue_size > 0 || never) && error.is_some() {
        return match refused {
            true => (TelemetryReason::DestinationRefused, said.to_owned()),
            false => (TelemetryReason::DestinationUnreachable, said.to_owned()),
        };
    }
    let half_full = destination.queue_capacity > 0 && destination.queue_size * 2 > destination.queue_capacity;
    if half_full || (silent && destination.queue_size > 0) {
        return (TelemetryReason::QueueGrowing, "spans wait longer and longer; the destination takes them too slowly".into());
    }
    match never {
        true => (TelemetryReason::Unknown, "nothing was sent yet".into()),
        false => (TelemetryReason::Exporting, String::new()),
    }
}
