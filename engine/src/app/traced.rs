//! Switches journey tracing on: the exporter, the registry in front of it that the admin port shows, and who we are to callers.

use std::sync::Arc;

use sojourn_contract::exit::Termination;
use sojourn_contract::flag;
use sojourn_journey::trace::Attributes;

use crate::cli::Telemetry;
use crate::journeys::registry::Registry;
use crate::telemetry::environment::Environment;
use crate::telemetry::export::Exporter;
use crate::telemetry::propagation::Propagators;
use crate::telemetry::settings::Settings;
use crate::telemetry::{Tracing, resource};

/// Journey tracing that is on.
pub struct Traced {
    /// Sends what has ended.
    pub exporter: Arc<Exporter>,
    /// Knows what is in flight and what ended last.
    pub registry: Arc<Registry>,
    /// Who the spans come from.
    pub resource: Attributes,
    propagators: Propagators,
    baggage: Arc<[String]>,
}

impl Traced {
    /// What the API layer needs.
    pub fn tracing(&self) -> Tracing {
        Tracing {
            sink: self.registry.clone(),
            counts: self.exporter.counts().clone(),
            propagators: self.propagators.clone(),
            baggage: self.baggage.clone(),
        }
    }
}

/// Starts the exporter as flags and environment say; `None` with tracing off.
///
/// # Errors
/// The configuration would send journeys to the wrong place, or nowhere.
pub fn start(telemetry: &Telemetry) -> Result<Option<Traced>, Termination> {
    if !telemetry.enable_journey_tracing {
        if telemetry.otlp_traces_endpoint.is_some() {
            let (endpoint, switch) = (flag::OTLP_TRACES_ENDPOINT, flag::ENABLE_JOURNEY_TRACING);
            tracing::warn!("--{endpoint} does nothing by itself: add --{switch} to trace requests");
        }
        return Ok(None);
    }
    let environment = Environment::new(&|name| std::env::var(name).ok());
    let settings = Settings::read(telemetry.otlp_traces_endpoint.as_deref(), &environment);
    let (attributes, propagators) = (resource::attributes(&environment), Propagators::read(&environment));
    environment.into_warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let resource = resource::resource(attributes.clone());
    let exporter = settings.and_then(|settings| Exporter::start(&settings, resource, telemetry.journey_detail));
    let exporter = exporter.map_err(|error| super::invalid(error.to_string()))?;
    let registry = Arc::new(Registry::new(telemetry.journey_history, exporter.clone()));
    let baggage = telemetry.journey_baggage.clone().into();
    Ok(Some(Traced { exporter, registry, resource: attributes.into_iter().collect(), propagators, baggage }))
}
