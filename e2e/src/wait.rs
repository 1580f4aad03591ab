//! Waiting for a condition, with a deadline and a name: the only place where a test lets time pass.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const INTERVAL: Duration = Duration::from_millis(100);

/// What a look at the world found.
pub enum Look<T> {
    /// The condition holds.
    Holds(T),
    /// It does not hold yet, because of this.
    NotYet(String),
}

/// Looks again and again until the condition holds; after `patience` the last look's reason is the error. `on_change` hears
/// each new reason.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut on_change: impl FnMut(&str),
    mut look: impl AsyncFnMut() -> Result<Look<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut last = String::new();
    loop {
        match look().await? {
            Look::Holds(found) => return Ok(found),
            Look::NotYet(reason) if reason != last => {
                on_change(&reason);
                last = reason;
            }
            Look::NotYet(_) => {}
        }
        if start.elapsed() > patience {
            bail!("{what}: not within {} s; last seen: {last}", patience.as_secs());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// [`until`] without a listener.
pub async fn quietly<T>(what: &str, patience: Duration, look: impl AsyncFnMut() -> Result<Look<T>>) -> Result<T> {
    until(what, patience, |_| {}, look).await
}
