//! Says what became of a service: [`compute`] is a pure function of what was seen, [`publish`] writes it if it changed and
//! tells each transition as an Event.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use sojourn_contract::label;

use super::Problem;
use super::dereference::World;
use super::render::sampling_summary;
use super::service::Service;
use crate::context::Context;
use crate::crd::InferenceService;
use crate::crd::status::{Applied, InferenceServiceStatus, READY, ReadyReason, TELEMETRY_READY, TelemetryReason};
use crate::names;

mod pod;
mod serving;
mod telemetry;

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict<R> {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// The reason, of a closed set.
    pub reason: R,
    /// Whom it is about. While it stays the same, so does the message: details that only vary are no transition.
    pub subject: String,
    /// What is the matter and what to do.
    pub detail: String,
}

/// What was seen of a service in one reconcile.
pub struct Seen<'a> {
    /// The object with the status that it had.
    pub object: &'a InferenceService,
    /// The service and its rendered revision, as far as the reconcile came.
    pub understood: Option<(&'a Service, &'a str)>,
    /// Why it did not come to its end.
    pub problem: Option<&'a Problem>,
    /// The cluster.
    pub world: &'a World,
}

/// Computes the status.
pub fn compute(seen: &Seen<'_>, now: Timestamp) -> InferenceServiceStatus {
    let object = seen.object;
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let previous = object.status.clone().unwrap_or_default();
    let tracing = seen.understood.and_then(|(service, _)| service.tracing.as_ref());
    let pods = &seen.world.pods;
    let living = || pods.iter().filter(|pod| pod::is_living(pod));
    let ready = match (seen.problem, seen.understood) {
        (Some(problem), _) => serving::problem(problem),
        (None, Some((service, revision))) => serving::verdict(service, revision, seen.world),
        (None, None) => serving::not_begun(),
    };
    let telemetry = match seen.understood {
        Some((service, _)) => telemetry::verdict(service.tracing.as_ref(), seen.world),
        None => telemetry::not_understood(),
    };
    let conditions =
        vec![condition(READY, ready, object, &previous, now), condition(TELEMETRY_READY, telemetry, object, &previous, now)];
    let applied = seen.problem.is_none().then(|| seen.world.deployment.as_ref().map(|d| images(&d.spec.template))).flatten();
    InferenceServiceStatus {
        url: Some(names::url(&name, &namespace)),
        replicas: count(living().count()),
        ready_replicas: count(living().filter(|pod| pod::is_ready(pod)).count()),
        selector: Some(names::selector_text(&name)),
        observed_generation: object.metadata.generation,
        revision: seen.understood.map(|(_, revision)| revision.to_owned()).or(previous.revision),
        applied: applied.or(previous.applied),
        sampling: match seen.understood {
            Some(_) => tracing.map(|tracing| sampling_summary(&tracing.policy)),
            None => previous.sampling,
        },
        conditions,
    }
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

fn images(template: &PodTemplateSpec) -> Applied {
    let spec = template.spec.as_ref();
    let image = |name: &str| {
        let mut containers =
            spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        containers.find(|container| container.name == name).and_then(|container| container.image.clone())
    };
    Applied { engine_image: image(label::ENGINE_CONTAINER), collector_image: image(label::COLLECTOR_CONTAINER) }
}

fn condition<R: std::fmt::Display>(
    type_: &str,
    verdict: Verdict<R>,
    object: &InferenceService,
    previous: &InferenceServiceStatus,
    now: Timestamp,
) -> Condition {
    let Verdict { status, reason, subject, detail } = verdict;
    let before = previous.conditions.iter().find(|condition| condition.type_ == type_);
    let same_status = before.filter(|before| before.status == status);
    let same_subject = same_status.filter(|before| {
        before.reason == reason.to_string() && !subject.is_empty() && before.message.starts_with(&format!("{subject}: "))
    });
    let message = if subject.is_empty() { detail } else { format!("{subject}: {detail}") };
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.to_string(),
        message: same_subject.map_or(message, |before| before.message.clone()),
        observed_generation: object.metadata.generation,
        last_transition_time: same_status.map_or(Time(whole_seconds(now)), |before| before.last_transition_time.clone()),
    }
}

/// Kubernetes' times have no fractions.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The conditions whose reason is another one than before, as Events. That a new service is loading is no news.
pub fn transitions(previous: Option<&InferenceServiceStatus>, next: &InferenceServiceStatus) -> Vec<Event> {
    let reason_before = |type_: &str| {
        let conditions = previous.map(|status| status.conditions.as_slice()).unwrap_or_default();
        conditions.iter().find(|condition| condition.type_ == type_).map(|condition| condition.reason.as_str())
    };
    next.conditions
        .iter()
        .filter(|condition| reason_before(&condition.type_) != Some(condition.reason.as_str()))
        .filter(|condition| previous.is_some() || !is_normal(&condition.reason))
        .map(|condition| Event {
            type_: if is_normal(&condition.reason) { EventType::Normal } else { EventType::Warning },
            reason: condition.reason.clone(),
            note: Some(condition.message.chars().take(1000).collect()),
            action: condition.type_.clone(),
            secondary: None,
        })
        .collect()
}

fn is_normal(reason: &str) -> bool {
    let ready = [ReadyReason::Serving, ReadyReason::Loading, ReadyReason::Suspended].map(|reason| reason.to_string());
    let telemetry =
        [TelemetryReason::Exporting, TelemetryReason::Disabled, TelemetryReason::Unknown].map(|reason| reason.to_string());
    ready.iter().chain(&telemetry).any(|normal| normal == reason)
}

/// Writes the status if it is another one than before, then tells the transitions.
pub async fn publish(object: &InferenceService, status: &InferenceServiceStatus, context: &Context) -> Result<(), kube::Error> {
    if object.status.as_ref() == Some(status) {
        return Ok(());
    }
    let name = object.name_any();
    let api = Api::<InferenceService>::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": InferenceService::api_version(&()),
        "kind": InferenceService::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
    api.patch_status(&name, &parameters, &Patch::Apply(&patch)).await?;
    for event in transitions(object.status.as_ref(), status) {
        // The status says the same and was written; an Event that is lost is no reason to do all of it again.
        if let Err(error) = context.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(%error, service = %name, reason = %event.reason, "cannot publish an event");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
