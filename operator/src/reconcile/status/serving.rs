//! Ready: whether every replica serves the revision that the spec asks for. Counts alone say nothing: the pods that count
//! are those of that revision. Telemetry has no say. Pure.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use kube::ResourceExt;

use super::super::Problem;
use super::super::dereference::World;
use super::super::service::Service;
use super::{Verdict, pod};
use crate::crd::status::ReadyReason;

/// Ready of a service whose children are applied.
pub(super) fn verdict(service: &Service, revision: &str, world: &World) -> Verdict<ReadyReason> {
    if service.suspended {
        return not_ready(ReadyReason::Suspended, "", "spec.suspend is true; set it to false to serve again");
    }
    if service.replicas == 0 {
        return not_ready(ReadyReason::Suspended, "", "spec.replicas is 0");
    }
    let (current, older): (Vec<_>, Vec<_>) =
        world.pods.iter().filter(|pod| pod::is_living(pod)).partition(|pod| pod::revision(pod) == Some(revision));
    let serving = current.iter().filter(|pod| pod::is_ready(pod)).count();
    let wanted = usize::try_from(service.replicas).unwrap_or(0);
    if serving >= wanted && older.is_empty() {
        return Verdict {
            status: "True",
            reason: ReadyReason::Serving,
            subject: String::new(),
            detail: format!("every replica serves revision {revision}"),
        };
    }
    let waiting = current.iter().filter(|pod| !pod::is_ready(pod));
    let mut problems: Vec<(ReadyReason, String, String)> = waiting
        .map(|pod| {
            let (reason, detail) = pod::problem(pod, service);
            (reason, format!("pod {}", pod.name_any()), detail)
        })
        .collect();
    let evicted = world.pods.iter().filter(|pod| pod::revision(pod) == Some(revision));
    problems.extend(evicted.filter_map(|pod| {
        let (reason, detail) = pod::outgrown_cache(pod)?;
        Some((reason, format!("pod {}", pod.name_any()), detail))
    }));
    problems.extend(world.deployment.as_deref().and_then(refused_pods));
    let worst = problems.into_iter().min_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
    let (reason, subject, detail) = match worst {
        Some((ReadyReason::Loading, subject, detail)) if world.deployment.as_deref().is_some_and(is_late) => {
            let detail = format!("{detail}, and has done so for longer than spec.startup.timeout and 30 minutes; see its log");
            (ReadyReason::StartupStalled, subject, detail)
        }
        Some(problem) => problem,
        None => (ReadyReason::Loading, String::new(), format!("pods of revision {revision} are being created")),
    };
    let still_serving = if older.iter().any(|pod| pod::is_ready(pod)) { "; an older revision goes on serving" } else { "" };
    not_ready(reason, &subject, &format!("{detail}{still_serving}"))
}

/// Ready of a service that could not be applied.
pub(super) fn problem(problem: &Problem) -> Verdict<ReadyReason> {
    not_ready(problem.reason, "", &problem.message)
}

/// Ready of a service that nobody has looked at yet.
pub(super) fn not_begun() -> Verdict<ReadyReason> {
    not_ready(ReadyReason::Loading, "", "not looked at yet")
}

fn not_ready(reason: ReadyReason, subject: &str, detail: &str) -> Verdict<ReadyReason> {
    Verdict { status: "False", reason, subject: subject.into(), detail: detail.into() }
}

/// Pods that the API server refuses are in the Deployment's ReplicaFailure, copied from its ReplicaSet.
fn refused_pods(deployment: &Deployment) -> Option<(ReadyReason, String, String)> {
    let failure = condition(deployment, "ReplicaFailure").filter(|condition| condition.status.as_deref() == Some("True"))?;
    let said = failure.message.clone().unwrap_or_default();
    let by_quota =
        ["exceeded quota", "failed quota", "must specify", "maximum ", "minimum "].iter().any(|word| said.contains(word));
    let subject = format!("Deployment {}", deployment.name_any());
    Some(if by_quota {
        let detail = format!("pods are refused ({said}); raise the namespace's quota or limits, or lower spec.resources");
        (ReadyReason::QuotaExceeded, subject, detail)
    } else {
        (ReadyReason::InvalidConfiguration, subject, format!("pods are refused: {said}"))
    })
}

fn is_late(deployment: &Deployment) -> bool {
    condition(deployment, "Progressing").is_some_and(|condition| {
        condition.status.as_deref() == Some("False") && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    })
}

fn condition<'a>(deployment: &'a Deployment, type_: &str) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_.as_deref() == Some(type_))
}
