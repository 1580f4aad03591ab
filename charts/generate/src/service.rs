//! The dashboard of one service: where its requests' time goes, what slows and breaks them, and the traces that show it.

use serde_json::Value;
use sojourn_contract::attribute;
use sojourn_contract::journey::Outcome;
use sojourn_contract::metric::{self, label};

use crate::dashboard::{Choice, Id, Row, dashboard};
use crate::panel::{Judge, Panel, Series, Unit, comparison, lines, number, spans, stacked, words};
use crate::promql::{CHOSEN, NAMESPACE, POD, occurring, parts, ratio, sum};
use crate::questions::{OBJECTIVE, error_ratio, in_time, recomputed_ratio, requests};
use crate::traceql;

const ALL: [&str; 0] = [];
/// The variable with the seconds from which on a request is listed as slow, in queries.
const SLOW: &str = "$slow";

/// The dashboard.
pub fn service() -> Value {
    let slow = Choice {
        name: "slow",
        label: "Slow from (s)",
        description: "Requests that took longer than this, in seconds, are listed and compared below.",
        values: &["1", "2", "5", "10", "30", "60", "120"],
        default: "10",
    };
    let description = "Where the time of a service's requests goes. Numbers are Prometheus': they count every request. Lists of traces are \
                       Tempo's, and have what sampling kept.";
    let rows = vec![
        Row { title: "Now", height: 4, panels: now() },
        Row { title: "Where the time goes", height: 9, panels: time() },
        Row { title: "Latency", height: 8, panels: latency() },
        Row { title: "Preemptions", height: 8, panels: preemptions() },
        Row { title: "Aborts and errors", height: 8, panels: aborts() },
        Row { title: "Work", height: 8, panels: work() },
        Row { title: "Traces: the slowest, and what they have that others have not", height: 10, panels: traces() },
    ];
    dashboard(Id::Service, description, &[OBJECTIVE, slow], rows)
}

fn now() -> Vec<(u32, Panel)> {
    let within =
        words("First tokens in time", "Part of the answered requests whose first token came within the chosen objective.");
    let first = words("First token, p95", "First byte of the request to its first token, of answered requests.");
    let whole = words("Whole request, p95", "First byte of the request to the last byte of its answer.");
    let errors = words(
        "Errors",
        "Part of the requests that failed on our side. Red: *Errors and aborts* below lists them with their traces.",
    );
    let stalled = words(
        "Stalled step",
        "How long the present step of the model has taken, once it is longer than --step-stall-timeout. Red: the device hangs; the \
         engine's log says since when, deleting the pod helps.",
    );
    vec![
        (
            4,
            number(words("Requests", "Requests that end, a second."), Unit::Requests, Judge::Nothing, &requests(&CHOSEN, &ALL)),
        ),
        (4, number(within, Unit::Ratio, Judge::LowIsBad(0.95, 0.99), &in_time(&CHOSEN, &ALL))),
        (4, number(first, Unit::Seconds, Judge::Nothing, &CHOSEN.quantile(0.95, &metric::TIME_TO_FIRST_TOKEN, &ALL))),
        (4, number(whole, Unit::Seconds, Judge::Nothing, &CHOSEN.quantile(0.95, &metric::REQUEST_DURATION, &ALL))),
        (4, number(errors, Unit::Ratio, Judge::HighIsBad(0.001, 0.01), &error_ratio(&CHOSEN, &ALL))),
        (
            4,
            number(
                stalled,
                Unit::Seconds,
                Judge::HighIsBad(0.001, 1.0),
                &format!("max({})", CHOSEN.gauge(&metric::STEP_STALLED)),
            ),
        ),
    ]
}

fn time() -> Vec<(u32, Panel)> {
    let mean = words(
        "Where the mean request's time goes",
        "The parts add up to the mean duration; means are stacked because percentiles of parts add up to nothing. queue: too few \
         replicas or too small a maxNumSeqs. prefill: long prompts. preempted: too small a KV cache. client: slow readers.",
    );
    let shares = words("The same as shares", "Shares of all requests' time.");
    let by_part = sum(&[label::PART], &CHOSEN.sum_rate(&metric::REQUEST_PART));
    let requests = requests(&CHOSEN, &ALL);
    let all = sum(&ALL, &CHOSEN.sum_rate(&metric::REQUEST_PART));
    vec![
        (14, stacked(mean, Unit::Seconds, &[Series("{{part}}", parts(&by_part, &requests))])),
        (10, stacked(shares, Unit::Ratio, &[Series("{{part}}", parts(&by_part, &all))])),
    ]
}

fn percentiles(metric: &metric::Metric) -> [Series<'static>; 3] {
    [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)].map(|(name, quantile)| Series(name, CHOSEN.quantile(quantile, metric, &ALL)))
}

fn latency() -> Vec<(u32, Panel)> {
    let first = words("First token", "First byte of the request to its first token, of answered requests.");
    let whole = words("Whole request", "First byte of the request to the last byte of its answer.");
    let token = words("Between tokens", "One token of a sequence to its next: what a reader of a stream notices.");
    let each = words("Parts, p95", "Each part for itself. They do not add up to the p95 of the whole.");
    let late = traceql::slower_than(attribute::TIME_TO_FIRST_TOKEN, "$first_token");
    let slow = traceql::slower_than(attribute::DURATION_SECONDS, SLOW);
    let by_part = CHOSEN.quantile(0.95, &metric::REQUEST_PART, &[label::PART]);
    vec![
        (12, lines(first, Unit::Seconds, &percentiles(&metric::TIME_TO_FIRST_TOKEN)).link("Late first tokens in Tempo", &late)),
        (12, lines(whole, Unit::Seconds, &percentiles(&metric::REQUEST_DURATION)).link("Slow requests in Tempo", &slow)),
        (12, lines(token, Unit::Seconds, &percentiles(&metric::INTER_TOKEN_LATENCY))),
        (12, lines(each, Unit::Seconds, &[Series("{{part}}", by_part)])),
    ]
}

fn preemptions() -> Vec<(u32, Panel)> {
    let reasons = words(
        "Preemptions by reason",
        "kv_exhausted: raise spec.engine.kvCacheTokens or lower maxNumSeqs. priority: more urgent requests took the place. step_failed: \
         see the engine's log.",
    );
    let wasted =
        words("Recomputed tokens", "Tokens that had to be computed again, a second, and their part of all computed tokens.");
    let cache = words("KV cache held, by pod", "At 100 % sequences are preempted.");
    let by_reason = sum(&[label::REASON], &CHOSEN.rate(&metric::PREEMPTIONS));
    let again = sum(&ALL, &CHOSEN.rate(&metric::RECOMPUTED_TOKENS));
    let usage = sum(&[POD], &CHOSEN.gauge(&metric::KV_CACHE_USAGE));
    vec![
        (
            8,
            stacked(reasons, Unit::PerSecond, &[Series("{{reason}}", by_reason)])
                .link("Requests preempted so in Tempo", &traceql::preempted_for("${__field.labels.reason}")),
        ),
        (6, lines(wasted, Unit::PerSecond, &[Series("tokens", again)])),
        (
            4,
            number(
                words("Part of the work", "Above 20 %: preemptions cost more than they give."),
                Unit::Ratio,
                Judge::HighIsBad(0.05, 0.2),
                &recomputed_ratio(&CHOSEN, &ALL),
            ),
        ),
        (6, lines(cache, Unit::Ratio, &[Series("{{pod}}", usage)])),
    ]
}

fn aborts() -> Vec<(u32, Panel)> {
    let by_reason = words(
        "Aborts by reason and phase",
        "client_disconnect in waiting or prefill: people give up before the first token. overloaded: the queue was full. timeout: \
         --request-timeout or --queue-timeout.",
    );
    let outcomes = words("Requests by outcome", "Everything that ended.");
    let reasons = occurring(&sum(&[label::REASON, label::PHASE], &CHOSEN.rate(&metric::ABORTS)));
    let by_outcome = sum(&[label::OUTCOME], &CHOSEN.rate(&metric::REQUESTS));
    vec![
        (
            14,
            stacked(by_reason, Unit::Requests, &[Series("{{reason}} in {{phase}}", reasons)])
                .link("Requests aborted so in Tempo", &traceql::aborted("${__field.labels.reason}", "${__field.labels.phase}")),
        ),
        (10, stacked(outcomes, Unit::Requests, &[Series("{{outcome}}", by_outcome)])),
    ]
}

fn work() -> Vec<(u32, Panel)> {
    let tokens = words("Tokens", "Prompt tokens processed and tokens generated, a second.");
    let load = words("Running and waiting", "Sequences in the running set and in the queue.");
    let hits = words("Prompt tokens reused", "Part of the prompt tokens whose KV an earlier request had computed.");
    let step = words("Step of the backend, p95", "One step by pod. One pod slower than the others: look at its node.");
    let rate = |metric| sum(&ALL, &CHOSEN.rate(metric));
    let gauge = |metric| sum(&ALL, &CHOSEN.gauge(metric));
    vec![
        (
            6,
            lines(
                tokens,
                Unit::PerSecond,
                &[Series("prompt", rate(&metric::PROMPT_TOKENS)), Series("generated", rate(&metric::GENERATION_TOKENS))],
            ),
        ),
        (
            6,
            lines(
                load,
                Unit::Short,
                &[
                    Series("running", gauge(&metric::NUM_REQUESTS_RUNNING)),
                    Series("waiting", gauge(&metric::NUM_REQUESTS_WAITING)),
                ],
            ),
        ),
        (
            6,
            lines(
                hits,
                Unit::Ratio,
                &[Series("reused", ratio(&rate(&metric::PREFIX_CACHE_HITS), &rate(&metric::PREFIX_CACHE_QUERIES)))],
            ),
        ),
        (6, lines(step, Unit::Seconds, &[Series("{{pod}}", CHOSEN.quantile(0.95, &metric::STEP_DURATION, &[POD]))])),
    ]
}

fn traces() -> Vec<(u32, Panel)> {
    let requests = traceql::requests();
    let slow = traceql::list(
        &format!("{requests} && {} > {SLOW}", traceql::span(attribute::DURATION_SECONDS)),
        &[
            attribute::DURATION_SECONDS,
            attribute::BOTTLENECK,
            attribute::TIME_TO_FIRST_TOKEN,
            attribute::TIME_IN_QUEUE,
            attribute::JOURNEY_NUM_PREEMPTIONS,
            attribute::USAGE_INPUT_TOKENS,
            attribute::USAGE_OUTPUT_TOKENS,
            attribute::KEPT_BY,
        ],
    );
    let outcome = traceql::span(attribute::OUTCOME);
    let failed = traceql::list(
        &format!(r#"{requests} && ({outcome}="{}" || {outcome}="{}")"#, Outcome::Error, Outcome::Aborted),
        &[
            attribute::OUTCOME,
            attribute::ABORT_REASON,
            attribute::ABORT_PHASE,
            attribute::DURATION_SECONDS,
            attribute::REQUEST_ID,
        ],
    );
    let preempted = traceql::list(
        &format!("{requests} && {} > 0", traceql::span(attribute::JOURNEY_NUM_PREEMPTIONS)),
        &[
            attribute::JOURNEY_NUM_PREEMPTIONS,
            attribute::PREEMPT_REASONS,
            attribute::PREEMPTED_SECONDS,
            attribute::JOURNEY_RECOMPUTED_TOKENS,
            attribute::DURATION_SECONDS,
        ],
    );
    let slowest = words(
        "Slowest requests",
        "Kept requests that took longer than *Slow from*, the slowest first; a row leads to its trace. Empty although requests are slow: \
         let spec.tracing.sampling.keep.slowerThan keep them.",
    );
    let compared = words(
        "What slow requests have that ordinary ones have not",
        "compare(): attributes of requests slower than *Slow from* (selection) against those that only the rate kept (baseline). A value \
         that is frequent in the selection and rare in the baseline is a suspect: a pod, a node, a bottleneck, a model.",
    );
    let ended = words(
        "Errors and aborts",
        "Kept requests that did not get their answer, the newest first. A click on a request id leads to its lines in the engine's log.",
    );
    let log = format!(r#"{{{NAMESPACE}=~"$namespace"}} |= "${{__value.raw}}""#);
    let evicted = words("Preempted requests", "Kept requests that were preempted, with what it cost them.");
    vec![
        (24, spans(slowest, Some(attribute::DURATION_SECONDS), &slow)),
        (24, comparison(compared, &traceql::slow_against_ordinary(SLOW))),
        (12, spans(ended, None, &failed).column_to_logs(attribute::REQUEST_ID, "Lines of this request in Loki", &log)),
        (12, spans(evicted, None, &preempted)),
    ]
}
