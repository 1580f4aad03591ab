//! Waiting for a part of the sandbox, and not longer than what is waited for can still come.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{node, settings::Settings};
use crate::wait::{self, Look};

/// Asks until the answer is `Ok`; `Err` says what is still missing. Ends early, with the reason, when the node or one of its
/// programs has ended, and after `limit` with what was missing last.
pub(super) async fn until<T>(
    settings: &Settings,
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let look = async || match ask().await? {
        Ok(value) => Ok(Look::Holds(value)),
        Err(missing) => node::check(settings).map(|()| Look::NotYet(missing)),
    };
    let logs = || format!("{what} is not ready; logs are in {}", settings.state.join("log").display());
    wait::quietly(what, limit, look).await.with_context(logs)
}
