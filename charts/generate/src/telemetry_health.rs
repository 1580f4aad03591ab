//! The dashboard that says whether journeys arrive: engine to sidecar, sidecar to destination, and what Tempo has.

use serde_json::Value;
use sojourn_contract::attribute;
use sojourn_contract::journey::{ENGINE_STARTUP, SIDECAR_PROBE};
use sojourn_contract::metric::{self, Metric, label, sidecar};

use crate::dashboard::{Id, Row, dashboard};
use crate::panel::{Judge, Panel, Series, Unit, lines, number, spans, stacked, trace_counts, words};
use crate::promql::{CHOSEN, EACH_SERVICE, NAMESPACE, POD, SERVICE, max, occurring, or_zero, ratio, sum};
use crate::questions::{dropped_ratio, requests};
use crate::traceql;

const ALL: [&str; 0] = [];
const EACH_DESTINATION: [&str; 3] = [NAMESPACE, SERVICE, label::DESTINATION];
const EACH: &str = "{{namespace}}/{{service}} to {{destination}}";

/// The dashboard.
pub fn telemetry_health() -> Value {
    let description = "Whether journeys arrive. Read it from left to right: engine to sidecar, sidecar to destination, destination. \
                       `kubectl get sjn` says the same in one word, and `kubectl describe sjn NAME` why.";
    let rows = vec![
        Row { title: "Now", height: 4, panels: now() },
        Row { title: "Engine to sidecar", height: 8, panels: engine() },
        Row { title: "Sidecar to destination", height: 8, panels: destination() },
        Row { title: "Collector", height: 8, panels: collector() },
        Row { title: "What Tempo has", height: 8, panels: tempo() },
    ];
    dashboard(Id::TelemetryHealth, description, &[], rows)
}

fn rate(metric: &Metric, by: &[&str]) -> String {
    sum(by, &CHOSEN.rate(metric))
}

/// Part of the spans that were given up, of those that a sidecar was done with.
fn failed_ratio() -> String {
    let (sent, failed) = (rate(&sidecar::SENT_SPANS, &ALL), rate(&sidecar::FAILED_SPANS, &ALL));
    ratio(&failed, &format!("({sent} + {failed})"))
}

/// How full queues are, for each destination.
fn queue_ratio() -> String {
    let of = |metric| max(&EACH_DESTINATION, &CHOSEN.gauge(metric));
    ratio(&of(&sidecar::QUEUE_BYTES), &of(&sidecar::QUEUE_CAPACITY_BYTES))
}

fn now() -> Vec<(u32, Panel)> {
    let dropped = words(
        "Dropped by engines",
        "Part of the journeys that no sidecar took. Red: the collector is down or slow; see *Collector* below and the engine's log.",
    );
    let failed = words(
        "Given up by sidecars",
        "Part of the spans that a destination did not take for good. Red: `kubectl describe sjn NAME` has the destination's last error.",
    );
    let queue = words("Fullest queue", "Red: a destination is slower than its traffic; at 100 % spans are given up.");
    let down = words("Collectors down", "Sidecars whose collector does not run. Red: `kubectl logs POD -c collector`.");
    let refused =
        words("Configurations refused", "Sidecars that go on with the last good file, because the newest one does not run.");
    let keys = words(
        "Missing keys",
        "Keys that the credentials Secret lacks; their destinations are left out. Add them: no restart is needed.",
    );
    let down_now = format!("sum(1 - {})", CHOSEN.gauge(&sidecar::COLLECTOR_UP));
    vec![
        (4, number(dropped, Unit::Ratio, Judge::HighIsBad(0.0001, 0.01), &dropped_ratio(&CHOSEN, &ALL))),
        (4, number(failed, Unit::Ratio, Judge::HighIsBad(0.0001, 0.01), &failed_ratio())),
        (4, number(queue, Unit::Ratio, Judge::HighIsBad(0.5, 0.9), &max(&ALL, &queue_ratio()))),
        (4, number(down, Unit::Short, Judge::HighIsBad(0.5, 1.0), &down_now)),
        (4, number(refused, Unit::Short, Judge::HighIsBad(0.5, 1.0), &sum(&ALL, &CHOSEN.gauge(&sidecar::COLLECTOR_REFUSED)))),
        (4, number(keys, Unit::Short, Judge::HighIsBad(0.5, 1.0), &max(&ALL, &CHOSEN.gauge(&sidecar::MISSING_KEYS)))),
    ]
}

fn engine() -> Vec<(u32, Panel)> {
    let ended = words(
        "Ended and exported",
        "Requests that ended and journeys that a sidecar took, a second. They should be one line; start-ups and canaries are journeys too.",
    );
    let dropped = words(
        "Dropped journeys",
        "Journeys that were given up. queue_full: requests end faster than the sidecar takes them. undeliverable: no sidecar was there \
         for too long. refused: it will never take them; see the engine's log.",
    );
    let lost = words(
        "Dropped spans",
        "The same in spans, with those of start-ups. partial_success: the receiver took a request, but not these spans of it.",
    );
    let queued = words(
        "Waiting for export",
        "Journeys in the export queue of each engine. It stands at thousands while the collector is away; what finds it full is dropped.",
    );
    let spans = words("Exported spans", "Spans that sidecars took, a second. Sampling comes after this.");
    let by_reason = |metric| occurring(&rate(metric, &[NAMESPACE, SERVICE, label::REASON]));
    let legend = "{{namespace}}/{{service}} {{reason}}";
    vec![
        (
            8,
            lines(
                ended,
                Unit::PerSecond,
                &[Series("ended", requests(&CHOSEN, &ALL)), Series("exported", rate(&metric::JOURNEYS_EXPORTED, &ALL))],
            ),
        ),
        (8, stacked(dropped, Unit::PerSecond, &[Series(legend, by_reason(&metric::JOURNEYS_DROPPED))])),
        (8, stacked(lost, Unit::PerSecond, &[Series(legend, by_reason(&metric::SPANS_DROPPED))])),
        (12, lines(queued, Unit::Short, &[Series("{{pod}}", sum(&[POD], &CHOSEN.gauge(&metric::JOURNEYS_QUEUED)))])),
        (
            12,
            lines(spans, Unit::PerSecond, &[Series("{{namespace}}/{{service}}", rate(&metric::SPANS_EXPORTED, &EACH_SERVICE))]),
        ),
    ]
}

fn destination() -> Vec<(u32, Panel)> {
    let sent = words(
        "Acknowledged spans",
        "Spans that the next hop acknowledged, a second. Without traffic: the start-up trace and the probe only.",
    );
    let failed = words("Given up", "Spans that were refused for good, found no room in the queue, or were left in it.");
    let queue = words(
        "How full queues are",
        "The fullest sidecar for each destination. It rises while a destination is down, and falls when it is back.",
    );
    vec![
        (8, lines(sent, Unit::PerSecond, &[Series(EACH, rate(&sidecar::SENT_SPANS, &EACH_DESTINATION))])),
        (8, stacked(failed, Unit::PerSecond, &[Series(EACH, rate(&sidecar::FAILED_SPANS, &EACH_DESTINATION))])),
        (8, lines(queue, Unit::Ratio, &[Series(EACH, queue_ratio())])),
    ]
}

fn collector() -> Vec<(u32, Panel)> {
    let starts = words(
        "Starts and crashes",
        "Starts in the last hour by pod; each change of the configuration is one. Crashes are those that nobody asked for.",
    );
    let memory =
        words("Memory", "Collector and supervisor by pod. Near the limit (spec.tracing.collector.resources): raise it.");
    let hour = |metric: &Metric| sum(&[POD], &format!("increase({}[1h])", CHOSEN.series(metric, "", &[])));
    let crashes = or_zero(&hour(&sidecar::COLLECTOR_CRASHES), &hour(&sidecar::COLLECTOR_STARTS));
    vec![
        (
            12,
            lines(
                starts,
                Unit::Short,
                &[Series("{{pod}} starts", hour(&sidecar::COLLECTOR_STARTS)), Series("{{pod}} crashes", crashes)],
            ),
        ),
        (12, lines(memory, Unit::Bytes, &[Series("{{pod}}", sum(&[POD], &CHOSEN.gauge(&sidecar::COLLECTOR_MEMORY)))])),
    ]
}

fn tempo() -> Vec<(u32, Panel)> {
    let kept = words(
        "Kept requests by rule",
        "What arrived, by the rules that kept it (journey.kept_by). Too many of one: make its threshold higher. None but rate: the rules \
         match nothing, which may be good.",
    );
    let starts = words(
        "Start-ups",
        "Each engine's start is a trace that is always kept: with no traffic at all it proves that journeys arrive.",
    );
    let probes = words("Probes", "The span that a sidecar sends after each start of its collector.");
    let services = traceql::chosen_services();
    let named = |name: &str, columns: &[&str]| traceql::list(&format!(r#"{services} && span:name="{name}""#), columns);
    vec![
        (8, trace_counts(kept, &traceql::count_by(&traceql::requests(), attribute::KEPT_BY))),
        (8, spans(starts, None, &named(ENGINE_STARTUP, &[attribute::KIND]))),
        (8, spans(probes, None, &named(SIDECAR_PROBE, &[attribute::KIND]))),
    ]
}
