//! Notices a step that does not come back, while it lasts. Pure: the scheduler's watch thread asks, [`Watch::look`] answers.

use std::sync::Arc;

/// A step that the backend works on.
#[derive(Debug, Clone)]
pub struct InStep {
    /// Its number.
    pub number: u64,
    /// Monotonic seconds at its beginning.
    pub began: f64,
    /// Requests in it, by `x-request-id`.
    pub requests: Vec<Arc<str>>,
}

/// A step that takes too long.
#[derive(Debug, Clone, PartialEq)]
pub struct Stall {
    /// The step's number.
    pub step: u64,
    /// How long it has taken so far.
    pub seconds: f64,
    /// Requests in it, by `x-request-id`.
    pub requests: Vec<Arc<str>>,
}

/// Remembers what was said.
#[derive(Debug)]
pub struct Watch {
    timeout: f64,
    /// Step that was last spoken of, and the seconds after which it is spoken of again.
    said: Option<(u64, f64)>,
}

impl Watch {
    /// Speaks of steps that take longer than this many seconds.
    pub fn new(timeout: f64) -> Self {
        Self { timeout, said: None }
    }

    /// The present step, if it is stalled.
    pub fn stall(timeout: f64, now: f64, step: Option<&InStep>) -> Option<Stall> {
        let step = step.filter(|step| now - step.began > timeout)?;
        Some(Stall { step: step.number, seconds: now - step.began, requests: step.requests.clone() })
    }

    /// What there is to say now: a stalled step once, and again each time that its duration has doubled.
    pub fn look(&mut self, now: f64, step: Option<&InStep>) -> Option<Stall> {
        let stall = Self::stall(self.timeout, now, step)?;
        let due = self.said.filter(|(number, _)| *number == stall.step).map_or(0.0, |(_, due)| due);
        if stall.seconds < due {
            return None;
        }
        self.said = Some((stall.step, stall.seconds * 2.0));
        Some(stall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u64, began: f64) -> InStep {
        InStep { number, began, requests: vec!["r".into()] }
    }

    #[test]
    fn a_stalled_step_is_spoken_of_at_once_and_then_more_and_more_seldom() {
        let mut watch = Watch::new(10.0);
        let said = |watch: &mut Watch, now: f64| watch.look(now, Some(&step(7, 100.0))).map(|stall| stall.seconds);
        assert_eq!(said(&mut watch, 110.0), None);
        assert_eq!(said(&mut watch, 111.0), Some(11.0));
        assert_eq!(said(&mut watch, 121.0), None);
        assert_eq!(said(&mut watch, 122.0), Some(22.0));
        assert_eq!(said(&mut watch, 143.0), None);
        assert_eq!(said(&mut watch, 144.0), Some(44.0));
    }

    #[test]
    fn the_next_step_is_a_new_matter() {
        let mut watch = Watch::new(10.0);
        assert!(watch.look(120.0, Some(&step(7, 100.0))).is_some());
        assert_eq!(watch.look(121.0, Some(&step(8, 120.5))), None);
        assert!(watch.look(131.0, Some(&step(8, 120.5))).is_some());
        assert_eq!(watch.look(132.0, None), None);
    }
}
