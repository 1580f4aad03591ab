//! What the supervisor says of itself and its collector. Pure.

use std::time::Instant;

use sojourn_contract::sidecar::{Collector, State};

use crate::ledger::Ledger;
use crate::supervise::Supervisor;

/// The answer of `/telemetry` at this moment.
pub fn describe(supervisor: &Supervisor, ledger: &Ledger, last_error: Option<&str>, now: Instant) -> State {
    let (starts, crashes) = supervisor.counts();
    let collector = Collector {
        running: supervisor.is_up(),
        starts,
        crashes,
        revision: supervisor.running_file().map(|file| file.revision.clone()).unwrap_or_default(),
        refused: supervisor.refused().map(str::to_owned),
        last_error: last_error.map(str::to_owned),
        memory_bytes: supervisor.memory(),
    };
    let routes = supervisor.file().map(|file| file.routes.as_slice()).unwrap_or_default();
    State { collector, destinations: routes.iter().map(|route| ledger.destination(route, now)).collect() }
}
