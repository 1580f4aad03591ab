//! Waiting for a condition, with a limit, and not longer than what is waited for can still come.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{node, settings::Settings};

const POLL: Duration = Duration::from_millis(100);

/// Asks until the answer is `Ok`; `Err` says what is still missing. Ends early, with the reason, when the node or one of its
/// programs has ended, and after `limit` with what was missing last.
pub(super) async fn until<T>(
    settings: &Settings,
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let missing = match ask().await? {
            Ok(value) => return Ok(value),
            Err(missing) => missing,
        };
        node::check(settings)?;
        if started.elapsed() > limit {
            bail!(
                "{what} is not ready after {} s: {missing}; logs are in {}",
                limit.as_secs(),
                settings.state.join("log").display()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}
