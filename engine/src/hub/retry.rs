//! Trying again: what passes by itself, how long to wait for it, and when to give up.

use std::time::Duration;

use super::error::HubError;
use super::settings::Settings;

/// Attempts in a row without any progress.
const ATTEMPTS: u32 = 5;
/// The same where the cache has the model: nobody should wait long for an answer that can be done without.
const ATTEMPTS_WITH_CACHE: u32 = 2;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause that the hub may ask for: its limits are per five minutes.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(300);

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The next one may succeed.
    Passing {
        why: String,
        /// The hub asks for this pause.
        after: Option<Duration>,
    },
    /// The next one would fail too.
    Final(HubError),
}

impl Failure {
    pub fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), after: None }
    }
}

/// Counts attempts.
#[derive(Debug)]
pub(super) struct Retry {
    endpoint: String,
    first_pause: Duration,
    attempts: u32,
    failed: u32,
}

impl Retry {
    pub fn new(settings: &Settings) -> Self {
        let endpoint = settings.endpoint.as_str().trim_end_matches('/').to_owned();
        Self { endpoint, first_pause: settings.first_pause, attempts: ATTEMPTS, failed: 0 }
    }

    pub fn impatient_if(self, impatient: bool) -> Self {
        Self { attempts: if impatient { ATTEMPTS_WITH_CACHE } else { self.attempts }, ..self }
    }

    /// Something moved: the count begins again.
    pub fn progress(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt, or says that there is none.
    pub async fn after(&mut self, failure: Failure) -> Result<(), HubError> {
        let (why, asked) = match failure {
            Failure::Passing { why, after } => (why, after),
            Failure::Final(error) => return Err(error),
        };
        self.failed += 1;
        if self.failed >= self.attempts {
            return Err(HubError::Unavailable { endpoint: self.endpoint.clone(), why });
        }
        let pause = self.pause(asked);
        tracing::warn!(endpoint = self.endpoint, why, pause_seconds = pause.as_secs_f64(), "the hub is asked again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn pause(&self, asked: Option<Duration>) -> Duration {
        let own = self.first_pause.saturating_mul(1 << (self.failed - 1).min(16)).min(LONGEST_PAUSE);
        asked.map_or(own, |asked| asked.min(LONGEST_ASKED_PAUSE).max(own))
    }

    /// Asks until there is an answer.
    pub async fn run<T>(mut self, mut ask: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, HubError> {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.after(failure).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(failed: u32) -> Retry {
        Retry { endpoint: "https://hub".into(), first_pause: Duration::from_secs(1), attempts: ATTEMPTS, failed }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_are_never_shorter_than_the_hub_asks() {
        let seconds = |failed, asked: Option<u64>| retry(failed).pause(asked.map(Duration::from_secs)).as_secs();
        assert_eq!([1, 2, 3, 9].map(|failed| seconds(failed, None)), [1, 2, 4, 30]);
        assert_eq!((seconds(1, Some(55)), seconds(1, Some(9999)), seconds(3, Some(0))), (55, 300, 4));
    }
}
