//! How long to leave a receiver alone that did not take a request. Pure.

use std::time::Duration;

/// Many failures lengthen the pause so many times; 15 seconds with the default.
const MOST: u32 = 60;

/// The pause after so many failures in a row: `first` doubled, and no shorter than what the receiver `asked` for. `chance`,
/// from 0 to 1, spreads it over its upper half, so that the engines of a service do not come back all at once.
pub fn pause(first: Duration, failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let doubled = first.saturating_mul((1 << failures.saturating_sub(1).min(16)).min(MOST));
    asked.unwrap_or_default() + doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(250);

    fn millis(failures: u32, chance: f64) -> u128 {
        pause(FIRST, failures, None, chance).as_millis()
    }

    #[test]
    fn each_failure_doubles_the_pause_up_to_a_bound() {
        assert_eq!([1, 2, 3, 4].map(|failures| millis(failures, 1.0)), [250, 500, 1_000, 2_000]);
        assert_eq!([7, 8, 1_000].map(|failures| millis(failures, 1.0)), [15_000; 3]);
    }

    #[test]
    fn chance_spreads_the_pause_over_its_upper_half() {
        assert_eq!([0.0, 0.5, 1.0].map(|chance| millis(2, chance)), [250, 375, 500]);
    }

    #[test]
    fn a_pause_that_the_receiver_asks_for_is_kept() {
        let asked = Duration::from_secs(60);
        assert_eq!(pause(FIRST, 1, Some(asked), 1.0), asked + FIRST);
        assert!(pause(FIRST, 1, Some(Duration::ZERO), 0.0) > Duration::ZERO);
    }
}
