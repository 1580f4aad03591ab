//! The dashboard of every service: traffic, errors, latency against an objective, saturation.

use serde_json::Value;
use sojourn_contract::journey::Outcome;
use sojourn_contract::metric::{self, label};

use crate::dashboard::{Id, Row, dashboard};
use crate::panel::{Column, Judge, Panel, Series, Unit, lines, number, services, stacked, words};
use crate::promql::{CHOSEN, EACH_SERVICE, NAMESPACE, SERVICE, count, max, sum};
use crate::questions::{OBJECTIVE, error_ratio, in_time, recomputed_ratio, refused_ratio, requests};

/// Name of a series that stands for a service.
const EACH: &str = "{{namespace}}/{{service}}";

/// The dashboard.
pub fn fleet() -> Value {
    let description =
        "Every InferenceService: who is asked, who fails, who is slow, who is full. A row of the table leads to its service.";
    let rows = vec![
        Row { title: "Now", height: 4, panels: now() },
        Row { title: "Services", height: 9, panels: vec![(24, table())] },
        Row { title: "Traffic and errors", height: 8, panels: traffic() },
        Row { title: "Latency", height: 8, panels: latency() },
        Row { title: "Saturation", height: 8, panels: saturation() },
    ];
    dashboard(Id::Fleet, description, &[OBJECTIVE], rows)
}

fn now() -> Vec<(u32, Panel)> {
    let engines =
        words("Engines", "Engines that are scraped. Fewer than replicas: `kubectl get sjn` says why a service is not ready.");
    let traffic = words("Requests", "Requests that end, a second.");
    let errors = words(
        "Errors",
        "Part of the requests that failed on our side: generation, time-out, shutdown. Red: see *Errors by reason* below, then the \
         service's *Errors and aborts* table.",
    );
    let refused = words(
        "Refused",
        "Part of the requests that were answered 429. Red: add replicas, or let the queue be longer (spec.engine.maxQueueSize).",
    );
    let within = words(
        "First tokens in time",
        "Part of the answered requests whose first token came within the chosen objective. Red: the service's *Where the time goes* \
         says whether they waited or computed.",
    );
    let waiting = words("Waiting", "Sequences in waiting queues. More than run, for long: add replicas.");
    let none: [&str; 0] = [];
    vec![
        (4, number(engines, Unit::Short, Judge::Nothing, &count(&none, &CHOSEN.series(&metric::BUILD, "", &[])))),
        (4, number(traffic, Unit::Requests, Judge::Nothing, &requests(&CHOSEN, &none))),
        (4, number(errors, Unit::Ratio, Judge::HighIsBad(0.001, 0.01), &error_ratio(&CHOSEN, &none))),
        (4, number(refused, Unit::Ratio, Judge::HighIsBad(0.001, 0.01), &refused_ratio(&CHOSEN, &none))),
        (4, number(within, Unit::Ratio, Judge::LowIsBad(0.95, 0.99), &in_time(&CHOSEN, &none))),
        (4, number(waiting, Unit::Short, Judge::Nothing, &sum(&none, &CHOSEN.gauge(&metric::NUM_REQUESTS_WAITING)))),
    ]
}

fn table() -> Panel {
    let column = |title, unit, judge, query| Column { title, unit, judge, query };
    let columns = [
        column("Requests", Unit::Requests, Judge::Nothing, requests(&CHOSEN, &EACH_SERVICE)),
        column("Errors", Unit::Ratio, Judge::HighIsBad(0.001, 0.01), error_ratio(&CHOSEN, &EACH_SERVICE)),
        column("Refused", Unit::Ratio, Judge::HighIsBad(0.001, 0.01), refused_ratio(&CHOSEN, &EACH_SERVICE)),
        column("In time", Unit::Ratio, Judge::LowIsBad(0.95, 0.99), in_time(&CHOSEN, &EACH_SERVICE)),
        column(
            "First token p95",
            Unit::Seconds,
            Judge::Nothing,
            CHOSEN.quantile(0.95, &metric::TIME_TO_FIRST_TOKEN, &EACH_SERVICE),
        ),
        column("Running", Unit::Short, Judge::Nothing, sum(&EACH_SERVICE, &CHOSEN.gauge(&metric::NUM_REQUESTS_RUNNING))),
        column("Waiting", Unit::Short, Judge::Nothing, sum(&EACH_SERVICE, &CHOSEN.gauge(&metric::NUM_REQUESTS_WAITING))),
        column(
            "KV cache",
            Unit::Ratio,
            Judge::HighIsBad(0.9, 0.98),
            max(&EACH_SERVICE, &CHOSEN.gauge(&metric::KV_CACHE_USAGE)),
        ),
        column("Recomputed", Unit::Ratio, Judge::HighIsBad(0.05, 0.2), recomputed_ratio(&CHOSEN, &EACH_SERVICE)),
    ];
    let link =
        format!("{}&var-namespace=${{__data.fields.namespace}}&var-service=${{__data.fields.service}}", Id::Service.url());
    let about = words(
        "Services",
        "One row for each service. *Recomputed* is the part of the computed tokens that preemptions made to be computed twice.",
    );
    services(about, [NAMESPACE, SERVICE], &link, &columns)
}

fn traffic() -> Vec<(u32, Panel)> {
    let by_service = words("Requests by service", "Requests that end, a second.");
    let by_outcome = words(
        "Requests by outcome",
        "ok: answered. rejected: the request was wrong or there was no room. aborted: the client went away. error: ours.",
    );
    let errors = words(
        "Errors by reason",
        "generation_error: the engine's log has the trace id. timeout: see *Where the time goes*. shutdown: spec.drain.timeout is too short \
         for the requests that ran.",
    );
    let outcome = sum(&[label::OUTCOME], &CHOSEN.rate(&metric::REQUESTS));
    let failed = CHOSEN.rate_where(&metric::REQUESTS, &[(label::OUTCOME, Outcome::Error.as_str())]);
    let reason = sum(&[NAMESPACE, SERVICE, label::REASON], &failed);
    vec![
        (8, stacked(by_service, Unit::Requests, &[Series(EACH, requests(&CHOSEN, &EACH_SERVICE))])),
        (8, stacked(by_outcome, Unit::Requests, &[Series("{{outcome}}", outcome)])),
        (8, stacked(errors, Unit::Requests, &[Series("{{namespace}}/{{service}} {{reason}}", reason)])),
    ]
}

fn latency() -> Vec<(u32, Panel)> {
    let within = words(
        "First tokens in time by service",
        "Part of the answered requests whose first token came within the chosen objective.",
    );
    let first = words(
        "First token, p95",
        "First byte of the request to its first token. Rising with *Waiting*: capacity. Rising without: longer prompts.",
    );
    let whole = words(
        "Whole request, p95",
        "First byte of the request to the last byte of its answer. It grows with the length of answers and with slow readers.",
    );
    let tokens = words(
        "Time per output token, p95",
        "Mean time for each token after the first. Rising with *Running*: more sequences share a step.",
    );
    let each = |metric| [Series(EACH, CHOSEN.quantile(0.95, metric, &EACH_SERVICE))];
    let in_time_query = in_time(&CHOSEN, &EACH_SERVICE);
    vec![
        (12, lines(within, Unit::Ratio, &[Series(EACH, in_time_query)])),
        (12, lines(first, Unit::Seconds, &each(&metric::TIME_TO_FIRST_TOKEN))),
        (12, lines(whole, Unit::Seconds, &each(&metric::REQUEST_DURATION))),
        (12, lines(tokens, Unit::Seconds, &each(&metric::TIME_PER_OUTPUT_TOKEN))),
    ]
}

fn saturation() -> Vec<(u32, Panel)> {
    let waiting = words(
        "Waiting sequences",
        "Waiting in queues. For long more than run: add replicas (`kubectl scale sjn NAME --replicas`).",
    );
    let running =
        words("Running sequences", "In running sets. Flat at replicas x spec.engine.maxNumSeqs with a queue behind it: full.");
    let cache = words(
        "KV cache held",
        "The fullest engine of each service. At 100 % sequences are preempted: raise spec.engine.kvCacheTokens, or lower \
         spec.engine.maxNumSeqs.",
    );
    let preemptions = words(
        "Preemptions",
        "Evictions from running sets, a second. Each costs the tokens that it makes to be computed again.",
    );
    let sums = |metric| [Series(EACH, sum(&EACH_SERVICE, &CHOSEN.gauge(metric)))];
    vec![
        (12, lines(waiting, Unit::Short, &sums(&metric::NUM_REQUESTS_WAITING))),
        (12, lines(running, Unit::Short, &sums(&metric::NUM_REQUESTS_RUNNING))),
        (12, lines(cache, Unit::Ratio, &[Series(EACH, max(&EACH_SERVICE, &CHOSEN.gauge(&metric::KV_CACHE_USAGE)))])),
        (12, lines(preemptions, Unit::PerSecond, &[Series(EACH, sum(&EACH_SERVICE, &CHOSEN.rate(&metric::PREEMPTIONS)))])),
    ]
}
