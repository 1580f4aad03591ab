//! One reconcile in five steps, each a file: dereference (read), validate (pure), render (pure), apply (write), status (pure,
//! then one patch).

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::context::Context;
use crate::crd::InferenceService;
use crate::crd::status::ReadyReason;

pub mod apply;
pub mod dereference;
pub mod render;
pub mod service;
pub mod status;
pub mod validate;

use apply::ApplyError;
use dereference::World;
use render::render;
use service::Service;
use status::Seen;
use validate::{Invalid, validate};

/// Why a reconcile has to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster could not be read.
    #[error("cannot read the cluster")]
    Dereference(#[source] kube::Error),
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The status could not be written.
    #[error("cannot write the status")]
    Status(#[source] kube::Error),
}

impl Error {
    /// A word of a closed set, for metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Dereference(_) => "dereference",
            Self::Apply(_) => "apply",
            Self::Status(_) => "status",
        }
    }
}

/// What only the user can put right: it goes into the status and is not tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Reason of the Ready condition.
    pub reason: ReadyReason,
    /// What is wrong and what to do.
    pub message: String,
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let reason = match &invalid {
            Invalid::Configuration(_) => ReadyReason::InvalidConfiguration,
            Invalid::PodTemplate(_) => ReadyReason::InvalidPodTemplate,
        };
        Self { reason, message: invalid.to_string() }
    }
}

/// Time after which a name that belongs to somebody else is looked at again: such an object is in no watch of ours.
const CONFLICT_RETRY: Duration = Duration::from_secs(60);
const ERROR_RETRY: Duration = Duration::from_secs(10);

/// Brings the cluster to what the object says, and the object's status to what the cluster says.
pub async fn reconcile(object: Arc<InferenceService>, context: Arc<Context>) -> Result<Action, Error> {
    let begun = Instant::now();
    let result = steps(&object, &context).await;
    let outcome = result.as_ref().map_or_else(Error::category, |_| "ok");
    context.metrics.reconciled(outcome, begun.elapsed().as_secs_f64());
    result
}

async fn steps(object: &InferenceService, context: &Context) -> Result<Action, Error> {
    if object.metadata.deletion_timestamp.is_some() {
        // Children go by their owner reference.
        return Ok(Action::await_change());
    }
    let mut world = dereference::dereference(object, context).await.map_err(Error::Dereference)?;
    let understood = validate(object, &context.settings)
        .and_then(|service| render(&service, &context.settings).map(|children| (service, children)));
    let mut problem = None;
    match &understood {
        Err(invalid) => problem = Some(Problem::from(invalid.clone())),
        Ok((service, children)) => match apply::apply(service, children, &world, context).await {
            Ok(deployment) => world.deployment = Some(deployment),
            Err(error) => problem = Some(for_the_user(error, service)?),
        },
    }
    publish(
        object,
        context,
        &world,
        understood.as_ref().ok().map(|(service, c)| (service, c.revision.as_str())),
        problem.as_ref(),
    )
    .await?;
    Ok(match problem {
        Some(Problem { reason: ReadyReason::NameConflict, .. }) => Action::requeue(CONFLICT_RETRY),
        _ => Action::await_change(),
    })
}

async fn publish(
    object: &InferenceService,
    context: &Context,
    world: &World,
    understood: Option<(&Service, &str)>,
    problem: Option<&Problem>,
) -> Result<(), Error> {
    let seen = Seen { object, understood, problem, world };
    let status = status::compute(&seen, Timestamp::now());
    status::publish(object, &status, context).await.map_err(Error::Status)
}

/// A name conflict, and an object that the API server calls invalid, are the user's; anything else is tried again.
fn for_the_user(error: ApplyError, service: &Service) -> Result<Problem, Error> {
    match &error {
        ApplyError::NameConflict { .. } => Ok(Problem { reason: ReadyReason::NameConflict, message: error.to_string() }),
        ApplyError::Api { kind, source: kube::Error::Api(status), .. } if matches!(status.code, 400 | 422) => {
            let from_template = kind == "Deployment" && service.pod_template.is_some();
            let reason = if from_template { ReadyReason::InvalidPodTemplate } else { ReadyReason::InvalidConfiguration };
            Ok(Problem { reason, message: format!("{error}: {}", status.message) })
        }
        ApplyError::Api { .. } => Err(Error::Apply(error)),
    }
}

/// Says what went wrong and when to try again.
pub fn error_policy(object: Arc<InferenceService>, error: &Error, _: Arc<Context>) -> Action {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(service = %object.name_any(), namespace = ?object.namespace(), %error, cause, "cannot reconcile");
    Action::requeue(ERROR_RETRY)
}
