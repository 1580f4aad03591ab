//! What the operator makes of a pod's sidecar: its own memory of answers, its own computation of the status.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod as KubernetesPod;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use sojourn_contract::label;
use sojourn_contract::sidecar::State;
use sojourn_operator::cli;
use sojourn_operator::crd::status::TELEMETRY_READY;
use sojourn_operator::reconcile::dereference::World;
use sojourn_operator::reconcile::render::render;
use sojourn_operator::reconcile::status::{Seen, compute};
use sojourn_operator::reconcile::validate::validate;
use sojourn_operator::settings::Settings;
use sojourn_operator::telemetry::Answers;

use super::rendered::POD;
use crate::manifest::Manifest;

const SERVICE: &str = "smollm";
const NAMESPACE: &str = "default";

/// The operator, as far as it judges telemetry.
#[derive(Default)]
pub struct Judge(Answers);

impl Judge {
    /// Takes one round's answer.
    pub fn hear(&self, said: Result<State, String>) {
        self.0.remember(SERVICE, NAMESPACE, &[POD.to_owned()], vec![(POD.to_owned(), said)]);
    }

    /// Status, reason and message of TelemetryReady.
    pub fn judge(&self, manifest: &Manifest) -> Result<(String, String, String)> {
        let settings = Settings::default();
        let object = cli::parse(&manifest.yaml())?.remove(0);
        let service = validate(&object, &settings)?;
        let children = render(&service, &settings)?;
        let pod: KubernetesPod = serde_json::from_value(json!({
            "metadata": {"name": POD, "labels": {label::REVISION: children.revision}},
            "status": {"phase": "Running", "initContainerStatuses": [{
                "name": label::COLLECTOR_CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }]},
        }))?;
        let world = World { pods: vec![pod.into()], answers: self.0.of(SERVICE, NAMESPACE), ..World::default() };
        let seen = Seen { object: &object, understood: Some((&service, &children.revision)), problem: None, world: &world };
        let status = compute(&seen, Timestamp::now());
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == TELEMETRY_READY);
        let condition = condition.context("the status has no TelemetryReady")?;
        Ok((condition.status, condition.reason, condition.message))
    }
}
