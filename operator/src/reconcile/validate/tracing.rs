//! `spec.tracing`: destinations, the sampling policy with the operator's defaults under it, and the collector's resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sojourn_contract::sampling::{self, Policy};

use super::{Invalid, checked_resources};
use crate::crd;
use crate::crd::tracing::{Keep, Parents, Sampling};
use crate::crd::value::Span;
use crate::names;
use crate::quantity;
use crate::reconcile::service::{Collector, Destination, Exporter, Tracing};
use crate::settings::Settings;

/// Name of the destination that comes from the operator's own default.
const DEFAULT_DESTINATION: &str = "default";
/// A collector with the components that the pipeline needs takes 45 MB before it has seen a span.
const LEAST_MEMORY: u64 = 64 << 20;

pub(super) fn validate(
    tracing: Option<&crd::tracing::Tracing>,
    service: &str,
    settings: &Settings,
) -> Result<Option<Tracing>, Invalid> {
    let tracing = tracing.cloned().unwrap_or_default();
    if tracing.enabled == Some(false) {
        return Ok(None);
    }
    let mut destinations = tracing.destinations.iter().map(destination).collect::<Result<Vec<_>, _>>()?;
    if destinations.is_empty() {
        destinations.extend(default_destination(settings));
    }
    Ok(Some(Tracing {
        destinations,
        credentials_secret: tracing.credentials_secret.unwrap_or_else(|| names::credentials_secret(service)),
        policy: policy(&tracing.sampling.unwrap_or_default(), &settings.default_sampling)?,
        detail: tracing.detail.unwrap_or_default(),
        baggage: tracing.baggage,
        resource_attributes: tracing.resource_attributes,
        collector: collector(tracing.collector.as_ref(), settings)?,
    }))
}

fn destination(destination: &crd::tracing::Destination) -> Result<Destination, Invalid> {
    let exporter = match (&destination.endpoint, &destination.exporter) {
        (Some(endpoint), None) => Exporter::Otlp {
            endpoint: endpoint.clone(),
            protocol: destination.protocol.unwrap_or_default(),
            headers: destination.headers.clone(),
            ca_secret_key: destination.tls.as_ref().map(|tls| tls.ca_secret_key.clone()),
        },
        (None, Some(exporter)) => Exporter::Other { type_: exporter.type_.clone(), config: exporter.config.clone() },
        _ => {
            let field = format!("spec.tracing.destinations[{}]", destination.name);
            return Err(Invalid::field(&field, "set exactly one of endpoint and exporter"));
        }
    };
    Ok(Destination { name: destination.name.clone(), exporter })
}

fn default_destination(settings: &Settings) -> Option<Destination> {
    let endpoint = settings.default_destination.clone()?;
    let protocol = settings.default_protocol;
    let exporter = Exporter::Otlp { endpoint, protocol, headers: Vec::new(), ca_secret_key: None };
    Some(Destination { name: DEFAULT_DESTINATION.into(), exporter })
}

/// What the service says, over what the operator says, over the product's default.
fn policy(own: &Sampling, operators: &Sampling) -> Result<Policy, Invalid> {
    let product = Policy::default();
    let field = |name: &str| format!("spec.tracing.sampling.{name}");
    let rate_percent = match own.rate.as_ref().or(operators.rate.as_ref()) {
        Some(rate) => rate.percent().ok_or_else(|| {
            Invalid::field(
                &field("rate"),
                format_args!("'{}' is no percentage from 0% to 100% with at most four decimals", rate.0),
            )
        })?,
        None => product.rate_percent,
    };
    let parents = match own.parents.or(operators.parents) {
        Some(Parents::Ignore) => sampling::Parents::Ignore,
        Some(Parents::Respect) => sampling::Parents::Respect,
        None => product.parents,
    };
    let (own, operators) = (own.keep.clone().unwrap_or_default(), operators.keep.clone().unwrap_or_default());
    let limit = |name: &str, span: fn(&Keep) -> Option<&Span>| match span(&own).or(span(&operators)) {
        Some(span) => span.seconds().map(Some).ok_or_else(|| {
            Invalid::field(
                &field(&format!("keep.{name}")),
                format_args!("'{}' is no duration: write 500ms, 2s or 1m30s", span.0),
            )
        }),
        None => Ok(None),
    };
    let keep = sampling::Keep {
        errors: own.errors.or(operators.errors).unwrap_or(product.keep.errors),
        aborted: own.aborted.or(operators.aborted).unwrap_or(product.keep.aborted),
        preempted: own.preempted.or(operators.preempted).unwrap_or(product.keep.preempted),
        first_token_slower_than: limit("firstTokenSlowerThan", |keep| keep.first_token_slower_than.as_ref())?,
        queued_longer_than: limit("queuedLongerThan", |keep| keep.queued_longer_than.as_ref())?,
        slower_than: limit("slowerThan", |keep| keep.slower_than.as_ref())?,
    };
    Ok(Policy { rate_percent, parents, keep })
}

fn collector(collector: Option<&crd::tracing::Collector>, settings: &Settings) -> Result<Collector, Invalid> {
    const FIELD: &str = "spec.tracing.collector";
    let collector = collector.cloned().unwrap_or_default();
    let image = collector.image.filter(|image| !image.is_empty());
    if image.is_some() && collector.command.is_empty() {
        let problem = "set command to the image's own entry point, for example [/otelcol-contrib]";
        return Err(Invalid::field(FIELD, problem));
    }
    let command = if collector.command.is_empty() { settings.collector_command.clone() } else { collector.command };
    let field = format!("{FIELD}.resources");
    let own = checked_resources(&field, collector.resources.as_ref())?.requirements();
    let limits = with_defaults(own.limits, [("cpu", "1"), ("memory", "256Mi")]);
    let mut requests = with_defaults(own.requests.clone(), [("cpu", "50m"), ("memory", "128Mi")]);
    for (name, limit) in &limits {
        // A request that the user did not write may not exceed a limit that he did.
        let written = own.requests.as_ref().is_some_and(|requests| requests.contains_key(name));
        let exceeds = requests.get(name).is_some_and(|request| quantity::parse(&request.0) > quantity::parse(&limit.0));
        if !written && exceeds {
            requests.insert(name.clone(), limit.clone());
        }
    }
    let memory_limit = limits.get("memory").and_then(|limit| quantity::parse(&limit.0)).unwrap_or_default() as u64;
    if memory_limit < LEAST_MEMORY {
        return Err(Invalid::field(&format!("{field}.limits.memory"), "a collector needs at least 64Mi"));
    }
    let resources = ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None };
    Ok(Collector { image: image.unwrap_or_else(|| settings.collector_image.clone()), command, resources, memory_limit })
}

fn with_defaults(own: Option<BTreeMap<String, Quantity>>, defaults: [(&str, &str); 2]) -> BTreeMap<String, Quantity> {
    let mut amounts: BTreeMap<String, Quantity> =
        defaults.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into();
    amounts.extend(own.unwrap_or_default());
    amounts
}
