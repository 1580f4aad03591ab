//! The quantities that several dashboards and alerts ask for, each written once.

use sojourn_contract::journey::{AbortReason, Outcome};
use sojourn_contract::metric::{self, label};

use crate::dashboard::Choice;
use crate::promql::{Scope, or_zero, ratio, sum};

/// Upper bounds of the buckets that a first token's time can be held against, in seconds, as Prometheus writes them.
pub const FIRST_TOKEN_BOUNDS: [&str; 6] = ["0.5", "1.0", "2.5", "5.0", "7.5", "10.0"];
/// The one that is held against unless something else is chosen.
pub const FIRST_TOKEN_BOUND: &str = "2.5";

/// The objective as a variable of a dashboard.
pub const OBJECTIVE: Choice = Choice {
    name: "first_token",
    label: "First token within (s)",
    description: "The objective that first tokens are held against, in seconds: a bound of the histogram's buckets.",
    values: &FIRST_TOKEN_BOUNDS,
    default: FIRST_TOKEN_BOUND,
};

/// Part of the answered requests whose first token came within the objective that the dashboard's variable chooses.
pub fn in_time(scope: &Scope, by: &[&str]) -> String {
    scope.within("$first_token", &metric::TIME_TO_FIRST_TOKEN, by)
}

/// Requests that ended, a second.
pub fn requests(scope: &Scope, by: &[&str]) -> String {
    sum(by, &scope.rate(&metric::REQUESTS))
}

/// Part of the requests that failed on our side.
pub fn error_ratio(scope: &Scope, by: &[&str]) -> String {
    outcome_ratio(scope, by, label::OUTCOME, Outcome::Error.as_str())
}

/// Part of the requests that were refused because the queue was full.
pub fn refused_ratio(scope: &Scope, by: &[&str]) -> String {
    outcome_ratio(scope, by, label::REASON, AbortReason::Overloaded.as_str())
}

fn outcome_ratio(scope: &Scope, by: &[&str], label: &str, value: &str) -> String {
    let all = requests(scope, by);
    let some = sum(by, &scope.rate_where(&metric::REQUESTS, &[(label, value)]));
    ratio(&or_zero(&some, &all), &all)
}

/// Part of the computed tokens that were computed again after a preemption.
pub fn recomputed_ratio(scope: &Scope, by: &[&str]) -> String {
    let again = sum(by, &scope.rate(&metric::RECOMPUTED_TOKENS));
    let useful = [&metric::PROMPT_TOKENS, &metric::GENERATION_TOKENS].map(|metric| sum(by, &scope.rate(metric)));
    ratio(&again, &format!("({again} + {} + {})", useful[0], useful[1]))
}

/// Part of the journeys that nobody took.
pub fn dropped_ratio(scope: &Scope, by: &[&str]) -> String {
    let exported = sum(by, &scope.rate(&metric::JOURNEYS_EXPORTED));
    let dropped = or_zero(&sum(by, &scope.rate(&metric::JOURNEYS_DROPPED)), &exported);
    ratio(&dropped, &format!("({exported} + {dropped})"))
}
