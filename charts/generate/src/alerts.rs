//! The alerts: few, each with what to do. They are rules of Prometheus, which the chart puts into a PrometheusRule.

use serde_json::{Value, json};
use sojourn_contract::metric::{self, sidecar};

use crate::promql::{EACH_SERVICE, LE, POD, Scope, sum};
use crate::questions::{dropped_ratio, recomputed_ratio, refused_ratio, requests};

/// Stands where the chart's value `alerts.firstToken.seconds` goes.
pub const SECONDS: &str = "FIRST_TOKEN_SECONDS";
/// Stands where the chart's value `alerts.firstToken.budget` goes.
pub const BUDGET: &str = "FIRST_TOKEN_BUDGET";

/// What an alert says and when.
struct Alert {
    name: &'static str,
    expression: String,
    for_: &'static str,
    severity: &'static str,
    summary: &'static str,
    description: &'static str,
    action: &'static str,
}

/// The groups of rules.
pub fn groups() -> Value {
    let alerts = [
        queue(),
        burn("1h", "5m", "14.4", "2m", "critical"),
        burn("6h", "30m", "6", "15m", "warning"),
        preemptions(),
        stalled(),
    ];
    let telemetry = [not_taken(), not_delivered()];
    json!({"groups": [group("sojourn-serving", &alerts), group("sojourn-telemetry", &telemetry)]})
}

fn group(name: &str, alerts: &[Alert]) -> Value {
    json!({"name": name, "rules": alerts.iter().map(rule).collect::<Vec<_>>()})
}

fn rule(alert: &Alert) -> Value {
    json!({
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.for_,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.description, "action": alert.action},
    })
}

fn each_sum(scope: &Scope, metric: &metric::Metric) -> String {
    sum(&EACH_SERVICE, &scope.gauge(metric))
}

fn queue() -> Alert {
    let now = Scope::everything("5m");
    let (waiting, running) = (each_sum(&now, &metric::NUM_REQUESTS_WAITING), each_sum(&now, &metric::NUM_REQUESTS_RUNNING));
    Alert {
        name: "SojournQueueSaturated",
        expression: format!("{waiting} > {running} or {} > 0.01", refused_ratio(&now, &EACH_SERVICE)),
        for_: "10m",
        severity: "warning",
        summary: "Requests of {{ $labels.namespace }}/{{ $labels.service }} wait for longer than its engines can catch up",
        description: "For 10 minutes more sequences have waited than run, or more than 1 % of the requests were answered 429.",
        action: "Add replicas (kubectl scale sjn NAME --replicas N). If the running set is below replicas x maxNumSeqs, the KV cache is \
                 the limit: raise spec.engine.kvCacheTokens.",
    }
}

/// Budget burn over a long window, and still over a short one, so that the alert ends soon after its cause.
fn burn(long: &'static str, short: &'static str, factor: &str, for_: &'static str, severity: &'static str) -> Alert {
    let late = |window| {
        let scope = Scope::everything(window);
        let rate = |suffix, also: &[(&str, &str)]| {
            let series = scope.series(&metric::TIME_TO_FIRST_TOKEN, suffix, also);
            sum(&EACH_SERVICE, &format!("rate({series}[{window}])"))
        };
        format!("1 - {} / {} > {factor} * {BUDGET}", rate("_bucket", &[(LE, SECONDS)]), rate("_count", &[]))
    };
    let critical = severity == "critical";
    Alert {
        name: if critical { "SojournFirstTokenBudgetBurnsFast" } else { "SojournFirstTokenBudgetBurns" },
        expression: format!("({}) and ({})", late(long), late(short)),
        for_,
        severity,
        summary: "First tokens of {{ $labels.namespace }}/{{ $labels.service }} come late",
        description: if critical {
            "{{ $value | humanizePercentage }} of the first tokens of the last hour came later than FIRST_TOKEN_SECONDS s: at this speed \
             the error budget of 30 days is gone in two days."
        } else {
            "{{ $value | humanizePercentage }} of the first tokens of the last six hours came later than FIRST_TOKEN_SECONDS s: at this \
             speed the error budget of 30 days is gone in five days."
        },
        action: "Open the dashboard Sojourn / Service: the queue's part of the time asks for replicas, prefill's for shorter prompts or \
                 a faster device, the preempted part for a larger KV cache. Its table of slow requests leads to their traces.",
    }
}

fn preemptions() -> Alert {
    Alert {
        name: "SojournPreemptionStorm",
        expression: format!("{} > 0.2", recomputed_ratio(&Scope::everything("10m"), &EACH_SERVICE)),
        for_: "10m",
        severity: "warning",
        summary: "{{ $labels.namespace }}/{{ $labels.service }} computes much of its work twice",
        description: "{{ $value | humanizePercentage }} of the tokens computed in the last 10 minutes had been computed before and were lost \
                      to preemptions.",
        action: "Raise spec.engine.kvCacheTokens or lower spec.engine.maxNumSeqs; the dashboard Sojourn / Service shows the reasons.",
    }
}

fn stalled() -> Alert {
    Alert {
        name: "SojournStepStalled",
        expression: format!(
            "max by ({}, {POD}) ({}) > 0",
            EACH_SERVICE.join(", "),
            Scope::everything("5m").gauge(&metric::STEP_STALLED)
        ),
        for_: "1m",
        severity: "critical",
        summary: "The model of {{ $labels.namespace }}/{{ $labels.pod }} does not answer",
        description: "A step of the backend has not come back for {{ $value | humanizeDuration }}; nothing is generated meanwhile.",
        action: "See the engine's log (kubectl logs POD -c main) and the device's health; delete the pod if it does not recover.",
    }
}

/// Engine to sidecar. With tracing off the metrics are absent, and the alert is silent.
fn not_taken() -> Alert {
    let scope = Scope::everything("10m");
    let silent = format!(
        "{} == 0 and {} > 0",
        sum(&EACH_SERVICE, &scope.rate(&metric::JOURNEYS_EXPORTED)),
        requests(&scope, &EACH_SERVICE)
    );
    Alert {
        name: "SojournJourneysNotTaken",
        expression: format!("{} > 0.01 or ({silent})", dropped_ratio(&scope, &EACH_SERVICE)),
        for_: "10m",
        severity: "warning",
        summary: "Journeys of {{ $labels.namespace }}/{{ $labels.service }} do not leave the engine",
        description: "For 10 minutes engines have given up more than 1 % of their journeys, or exported none although requests ended. \
                      Requests are served all the same.",
        action: "kubectl get sjn names the reason in its column TELEMETRY; kubectl logs POD -c collector has the collector's errors.",
    }
}

/// Sidecar to destination.
fn not_delivered() -> Alert {
    let by = [EACH_SERVICE[0], EACH_SERVICE[1], metric::label::DESTINATION];
    let scope = Scope::everything("10m");
    let failed = sum(&by, &scope.rate(&sidecar::FAILED_SPANS));
    let full = format!(
        "max by ({0}) ({1} / {2}) > 0.9",
        by.join(", "),
        scope.gauge(&sidecar::QUEUE_BYTES),
        scope.gauge(&sidecar::QUEUE_CAPACITY_BYTES)
    );
    Alert {
        name: "SojournTelemetryNotArriving",
        expression: format!("{failed} > 0 or {full}"),
        for_: "10m",
        severity: "warning",
        summary: "Traces of {{ $labels.namespace }}/{{ $labels.service }} do not reach {{ $labels.destination }}",
        description: "For 10 minutes sidecars have given up spans for this destination, or their queue for it has been nearly full. Requests \
                      are served all the same.",
        action: "kubectl describe sjn NAME has the destination's last error: a refused credential, a wrong endpoint, a backend that is down \
                 or too slow. A changed destination or key needs no restart.",
    }
}
