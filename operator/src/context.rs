//! What a reconcile may touch.

use std::sync::Arc;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};

use crate::metrics::Metrics;
use crate::names;
use crate::settings::Settings;
use crate::stores::Stores;
use crate::telemetry::Answers;

/// What a reconcile may touch.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What the operator's flags say.
    pub settings: Settings,
    /// What the watches hold.
    pub stores: Stores,
    /// What sidecars said last.
    pub answers: Arc<Answers>,
    /// Publishes Events.
    pub recorder: Recorder,
    /// Counts reconciles.
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// A context on these stores.
    pub fn new(client: Client, settings: Settings, stores: Stores, answers: Arc<Answers>, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: names::FIELD_MANAGER.into(), instance: None };
        Self { recorder: Recorder::new(client.clone(), reporter), client, settings, stores, answers, metrics }
    }
}
