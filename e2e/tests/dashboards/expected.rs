//! What each panel must show, from the journeys and from what was asked.

use std::collections::BTreeMap;

use sojourn_contract::journey::{AbortReason, Bottleneck, Outcome, PreemptReason};
use sojourn_contract::{attribute, event};
use sojourn_e2e::dashboards::Query;

use super::journeys::{Request, preemptions, requests};
use super::pods::{HANG, RUNNING, STEP, Telemetry, Traces, WAITING};
use super::traffic::Asked;

/// Journeys that wait for a collector that is down, behind the one that the exporter has in hand.
pub const QUEUED: usize = 2;

/// A moment at which panels are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A step hangs.
    Stalled,
    /// Everything has ended.
    End,
    /// The collector is down.
    Down,
    /// The newest configuration is refused.
    Refused,
}

/// Values from the first to the second, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range(f64, f64);

impl Range {
    /// Whether the value is in it; NaN is in a range of NaN alone.
    pub fn holds(self, value: f64) -> bool {
        (self.0..=self.1).contains(&value) || (self.0.is_nan() && value.is_nan())
    }
}

/// The run as it is known.
pub struct Run {
    /// Every trace of the engine with the sidecar, as it arrived.
    pub traces: Vec<sojourn_journey::trace::Trace>,
    asked: Asked,
    telemetry: Telemetry,
    /// Of both engines.
    all: Vec<Request>,
    refused: Vec<Request>,
    spans_of_refused: f64,
    began: f64,
    ended: f64,
    down: f64,
    refused_at: f64,
}

/// What a query of a panel shows at a moment.
#[derive(Debug, Clone)]
pub struct Expected {
    /// When it is looked at.
    pub moment: Moment,
    /// Its series by name.
    pub series: Vec<(String, Range)>,
    dashboard: &'static str,
    panel: &'static str,
    ref_id: &'static str,
}

impl Expected {
    /// Whether it is about this query.
    pub fn is_of(&self, query: &Query) -> bool {
        (query.dashboard.as_str(), query.panel.as_str(), query.ref_id.as_str()) == (self.dashboard, self.panel, self.ref_id)
    }
}

impl Run {
    /// A run from the first scrape to its end.
    pub fn new(began: f64, ended: f64, asked: Asked, traces: Traces, telemetry: Telemetry) -> Self {
        let refused = requests(&traces.refused);
        let all = [requests(&traces.kept), refused.clone()].concat();
        let spans_of_refused = traces.refused.iter().map(|trace| trace.spans.len() as f64).sum();
        Self { traces: traces.kept, asked, telemetry, all, refused, spans_of_refused, began, ended, down: 0.0, refused_at: 0.0 }
    }

    /// Notes a moment after the end.
    pub fn at(&mut self, moment: Moment, time: f64) {
        match moment {
            Moment::Down => self.down = time,
            Moment::Refused => self.refused_at = time,
            Moment::Stalled | Moment::End => {}
        }
    }

    /// When that was, in Unix seconds.
    pub fn time(&self, moment: Moment) -> f64 {
        match moment {
            Moment::Stalled => self.asked.stalled_at,
            Moment::End => self.ended,
            Moment::Down => self.down,
            Moment::Refused => self.refused_at,
        }
    }

    /// The whole run, as Prometheus writes a time.
    pub fn window(&self) -> String {
        format!("{}s", self.seconds())
    }

    fn seconds(&self) -> f64 {
        (self.ended - self.began).ceil()
    }

    /// So many in the whole run, a second. Prometheus extends what it saw to the last scrape by at most an interval.
    fn rate(&self, count: f64) -> Range {
        between(count * 0.99 / self.seconds(), count * 1.08 / self.seconds())
    }

    fn count(&self, is: impl Fn(&Request) -> bool) -> f64 {
        self.all.iter().filter(|request| is(request)).count() as f64
    }

    fn sum(&self, of: impl Fn(&Request) -> f64) -> f64 {
        self.all.iter().map(of).sum()
    }

    fn total(&self) -> f64 {
        self.all.len() as f64
    }

    fn outcome(&self, outcome: Outcome) -> f64 {
        self.count(|request| request.word(attribute::OUTCOME) == outcome.as_str())
    }

    fn reason(&self, reason: AbortReason) -> f64 {
        self.count(|request| request.word(attribute::ABORT_REASON) == reason.as_str())
    }

    /// Requests that did not get their answer, as `reason in phase`.
    fn aborts(&self) -> BTreeMap<String, usize> {
        let mut aborts = BTreeMap::new();
        for request in self.all.iter().filter(|request| !request.word(attribute::ABORT_REASON).is_empty()) {
            let name = format!("{} in {}", request.word(attribute::ABORT_REASON), request.word(attribute::ABORT_PHASE));
            *aborts.entry(name).or_default() += 1;
        }
        aborts
    }

    fn answered(&self) -> impl Iterator<Item = &Request> {
        self.all.iter().filter(|request| request.word(attribute::OUTCOME) == Outcome::Ok.as_str())
    }

    /// Part of the answered requests whose first token came within these seconds.
    pub fn in_time(&self, seconds: f64) -> Range {
        let first: Vec<f64> = self.answered().filter_map(|request| request.seconds(attribute::TIME_TO_FIRST_TOKEN)).collect();
        near(first.iter().filter(|first| **first <= seconds).count() as f64 / first.len() as f64)
    }

    fn first_tokens(&self, quantile: f64) -> Range {
        const BOUNDS: &[f64] = &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
        bucket(quantile, BOUNDS, self.answered().filter_map(|request| request.seconds(attribute::TIME_TO_FIRST_TOKEN)))
    }

    /// Of all requests; series that appear with their first error show only what came after it, so that the bounds are wide.
    fn durations(&self, quantile: f64) -> Range {
        const BOUNDS: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
        let of = |requests: Vec<&Request>| {
            bucket(quantile, BOUNDS, requests.iter().filter_map(|request| request.seconds(attribute::DURATION_SECONDS)))
        };
        let (all, answered) = (of(self.all.iter().collect()), of(self.answered().collect()));
        between(all.0.min(answered.0), all.1.max(answered.1))
    }

    fn part(&self, part: Bottleneck) -> Range {
        const BOUNDS: &[f64] =
            &[0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0];
        bucket(0.95, BOUNDS, self.all.iter().filter_map(|request| request.part(part)))
    }

    fn preempted(&self, reason: PreemptReason) -> f64 {
        *preemptions(&self.all).get(reason.as_str()).unwrap_or(&0) as f64
    }

    fn recomputed(&self) -> f64 {
        self.sum(|request| request.tokens(attribute::JOURNEY_RECOMPUTED_TOKENS))
    }

    fn prompt(&self) -> f64 {
        self.sum(|request| request.sum(event::FIRST_TOKEN, attribute::PREFILL_TOTAL_TOKENS))
    }

    fn generated(&self) -> f64 {
        self.sum(|request| request.sum(event::FINISHED, attribute::DECODE_DONE_TOKENS))
    }

    fn reused(&self) -> Range {
        let hits = self.sum(|request| request.tokens(attribute::USAGE_CACHE_READ_INPUT_TOKENS));
        near(hits / self.sum(Request::prompt_begun))
    }

    fn recomputed_ratio(&self) -> Range {
        near(self.recomputed() / (self.recomputed() + self.prompt() + self.generated()))
    }

    fn preemptions(&self) -> f64 {
        PreemptReason::ALL.iter().map(|reason| self.preempted(*reason)).sum()
    }

    /// Spans of the pod with the sidecar that the sidecar delivered, those before the first scrape included.
    fn delivered(&self) -> Range {
        let sent = self.telemetry.of("tempo").sent_spans as f64;
        let unseen: f64 = self
            .traces
            .iter()
            .filter(|trace| requests(std::slice::from_ref(trace)).is_empty())
            .map(|trace| trace.spans.len() as f64)
            .sum();
        between(self.rate(sent - unseen).0, self.rate(sent).1)
    }

    fn fill(&self, destination: &str) -> f64 {
        let destination = self.telemetry.of(destination);
        destination.queue_size as f64 / destination.queue_capacity as f64
    }
}

/// What every query of PromQL shows.
pub fn panels(run: &Run) -> Vec<Expected> {
    // The run had what it was made for.
    let asked = &run.asked;
    for (outcome, count) in [
        (Outcome::Ok, asked.ok + asked.of_refused),
        (Outcome::Rejected, asked.invalid + asked.overloaded),
        (Outcome::Aborted, asked.aborted()),
        (Outcome::Error, asked.failed),
    ] {
        assert_eq!(run.outcome(outcome), count as f64, "{outcome}: {asked:?}");
    }
    let aborts = run.aborts();
    for (name, count) in [
        ("validation_error in api", asked.invalid),
        ("overloaded in api", asked.overloaded),
        ("client_disconnect in decode", asked.left_decoding),
        ("client_disconnect in waiting", asked.left_waiting),
    ] {
        assert_eq!(aborts.get(name), Some(&count), "{name}: {aborts:?}");
    }
    for reason in PreemptReason::ALL {
        assert!(run.preempted(*reason) > 0.0, "nothing was preempted by {reason}");
    }
    assert!(run.recomputed() > 0.0 && run.reused().0 > 0.0, "nothing was computed again, or nothing reused");
    [fleet(run), service(run), telemetry_health(run)].concat()
}

const EACH: &str = "web/chat";

/// What a panel shows at the end, if nothing else is said.
struct Sheet(&'static str, Vec<Expected>);

impl Sheet {
    fn all(&mut self, moment: Moment, panel: &'static str, ref_id: &'static str, series: Vec<(String, Range)>) {
        self.1.push(Expected { moment, series, dashboard: self.0, panel, ref_id });
    }

    fn one(&mut self, moment: Moment, panel: &'static str, ref_id: &'static str, name: &str, range: Range) {
        self.all(moment, panel, ref_id, vec![(name.to_owned(), range)]);
    }

    fn end(&mut self, panel: &'static str, name: &str, range: Range) {
        self.one(Moment::End, panel, "A", name, range);
    }

    /// Three percentiles.
    fn percentiles(&mut self, panel: &'static str, of: impl Fn(f64) -> Range) {
        for (ref_id, name, quantile) in [("A", "p50", 0.5), ("B", "p95", 0.95), ("C", "p99", 0.99)] {
            self.one(Moment::End, panel, ref_id, name, of(quantile));
        }
    }

    /// Every request by how it ended.
    fn outcomes(&mut self, run: &Run) {
        let by_outcome = Outcome::ALL.iter().map(|outcome| (outcome.to_string(), run.rate(run.outcome(*outcome))));
        self.all(Moment::End, "Requests by outcome", "A", by_outcome.collect());
    }
}

fn fleet(run: &Run) -> Vec<Expected> {
    let mut sheet = Sheet("fleet", Vec::new());
    let (errors, refused) = (run.outcome(Outcome::Error) / run.total(), run.reason(AbortReason::Overloaded) / run.total());
    let (running, waiting) = (exactly(RUNNING as f64 - 1.0), exactly(WAITING as f64));
    let held = between(0.05, 1.0);
    sheet.end("Engines", "", exactly(2.0));
    sheet.end("Requests", "", run.rate(run.total()));
    sheet.end("Errors", "", near(errors));
    sheet.end("Refused", "", near(refused));
    sheet.end("Waiting", "", exactly(0.0));
    sheet.one(Moment::Stalled, "Waiting", "A", "", waiting);
    sheet.end("First tokens in time", "", run.in_time(2.5));
    sheet.end("First tokens in time by service", EACH, run.in_time(2.5));

    let columns = [
        (Moment::End, "A", run.rate(run.total())),
        (Moment::End, "B", near(errors)),
        (Moment::End, "C", near(refused)),
        (Moment::End, "D", run.in_time(2.5)),
        (Moment::End, "E", run.first_tokens(0.95)),
        (Moment::Stalled, "F", running),
        (Moment::Stalled, "G", waiting),
        (Moment::Stalled, "H", held),
        (Moment::End, "I", run.recomputed_ratio()),
    ];
    for (moment, ref_id, range) in columns {
        sheet.one(moment, "Services", ref_id, "chat", range);
    }

    sheet.end("Requests by service", EACH, run.rate(run.total()));
    sheet.outcomes(run);
    let errors = AbortReason::ALL.iter().filter(|reason| reason.outcome() == Outcome::Error);
    let by_reason = errors.map(|reason| (format!("{EACH} {reason}"), run.rate(run.reason(*reason))));
    sheet.all(Moment::End, "Errors by reason", "A", by_reason.collect());
    sheet.end("First token, p95", EACH, run.first_tokens(0.95));
    sheet.end("Whole request, p95", EACH, run.durations(0.95));
    sheet.end("Time per output token, p95", EACH, between(STEP, run.seconds()));
    sheet.one(Moment::Stalled, "Waiting sequences", "A", EACH, waiting);
    sheet.one(Moment::Stalled, "Running sequences", "A", EACH, running);
    sheet.one(Moment::Stalled, "KV cache held", "A", EACH, held);
    sheet.end("Preemptions", EACH, run.rate(run.preemptions()));
    sheet.1
}

fn service(run: &Run) -> Vec<Expected> {
    let mut sheet = Sheet("service", Vec::new());
    sheet.end("Requests", "", run.rate(run.total()));
    sheet.end("First tokens in time", "", run.in_time(2.5));
    sheet.end("First token, p95", "", run.first_tokens(0.95));
    sheet.end("Whole request, p95", "", run.durations(0.95));
    sheet.end("Errors", "", near(run.outcome(Outcome::Error) / run.total()));
    sheet.one(Moment::Stalled, "Stalled step", "A", "", between(1.0, HANG * 2.0));
    sheet.end("Stalled step", "", exactly(0.0));

    let time = |part: Bottleneck| run.sum(|request| request.part(part).unwrap_or(0.0));
    let whole = run.sum(|request| request.seconds(attribute::DURATION_SECONDS).unwrap_or(0.0));
    let parts = |of: f64| Bottleneck::ALL.iter().map(|part| (part.to_string(), near(time(*part) / of))).collect();
    sheet.all(Moment::End, "Where the mean request's time goes", "A", parts(run.total()));
    sheet.all(Moment::End, "The same as shares", "A", parts(whole));

    sheet.percentiles("First token", |quantile| run.first_tokens(quantile));
    sheet.percentiles("Whole request", |quantile| run.durations(quantile));
    sheet.percentiles("Between tokens", |_| between(STEP, run.seconds()));
    let each = Bottleneck::ALL.iter().map(|part| (part.to_string(), run.part(*part)));
    sheet.all(Moment::End, "Parts, p95", "A", each.collect());

    let reasons = PreemptReason::ALL.iter().map(|reason| (reason.to_string(), run.rate(run.preempted(*reason))));
    sheet.all(Moment::End, "Preemptions by reason", "A", reasons.collect());
    sheet.end("Recomputed tokens", "tokens", run.rate(run.recomputed()));
    sheet.end("Part of the work", "", run.recomputed_ratio());
    let held = [("chat-a".to_owned(), between(0.05, 1.0)), ("chat-b".to_owned(), exactly(0.0))];
    sheet.all(Moment::Stalled, "KV cache held, by pod", "A", held.into());

    let aborts = run.aborts().into_iter().map(|(name, count)| (name, run.rate(count as f64)));
    sheet.all(Moment::End, "Aborts by reason and phase", "A", aborts.collect());
    sheet.outcomes(run);

    sheet.end("Tokens", "prompt", run.rate(run.prompt()));
    sheet.one(Moment::End, "Tokens", "B", "generated", run.rate(run.generated()));
    sheet.one(Moment::Stalled, "Running and waiting", "A", "running", exactly(1.0));
    sheet.one(Moment::Stalled, "Running and waiting", "B", "waiting", exactly(WAITING as f64));
    sheet.end("Prompt tokens reused", "reused", run.reused());
    let step = ["chat-a", "chat-b"].map(|pod| (pod.to_owned(), between(STEP / 2.0, HANG * 2.0)));
    sheet.all(Moment::End, "Step of the backend, p95", "A", step.into());
    sheet.1
}

fn telemetry_health(run: &Run) -> Vec<Expected> {
    let mut sheet = Sheet("telemetry-health", Vec::new());
    let (dropped, total) = (run.refused.len() as f64, run.total());
    let nothing = exactly(0.0);
    sheet.end("Dropped by engines", "", near(dropped / total));
    sheet.end("Given up by sidecars", "", between(0.45, 0.55));
    sheet.end("Fullest queue", "", near(run.fill("down")));
    sheet.end("Collectors down", "", nothing);
    sheet.one(Moment::Down, "Collectors down", "A", "", exactly(1.0));
    sheet.end("Configurations refused", "", nothing);
    sheet.one(Moment::Refused, "Configurations refused", "A", "", exactly(1.0));
    sheet.end("Missing keys", "", exactly(1.0));

    sheet.end("Ended and exported", "ended", run.rate(total));
    sheet.one(Moment::End, "Ended and exported", "B", "exported", run.rate(total - dropped));
    let refused = format!("{EACH} refused");
    sheet.end("Dropped journeys", &refused, run.rate(dropped));
    // The trace of its start may have been dropped before the first scrape.
    sheet.end("Dropped spans", &refused, between(run.rate(run.spans_of_refused * 0.7).0, run.rate(run.spans_of_refused).1));
    let waiting = |count: usize| vec![("chat-a".to_owned(), exactly(count as f64)), ("chat-b".to_owned(), nothing)];
    sheet.all(Moment::End, "Waiting for export", "A", waiting(0));
    sheet.all(Moment::Down, "Waiting for export", "A", waiting(QUEUED));
    sheet.end("Exported spans", EACH, run.delivered());

    let each = |of: [Range; 4]| {
        let names = ["tempo", "refusing", "down", "keyless"].map(|name| format!("{EACH} to {name}"));
        names.into_iter().zip(of).collect::<Vec<_>>()
    };
    sheet.all(Moment::End, "Acknowledged spans", "A", each([run.delivered(), nothing, nothing, nothing]));
    sheet.all(Moment::End, "Given up", "A", each([nothing, run.delivered(), nothing, nothing]));
    let none = between(f64::NAN, f64::NAN);
    let full = each([nothing, nothing, near(run.fill("down")), none]);
    sheet.all(Moment::End, "How full queues are", "A", full);

    // Each within the last hour, of which less than two minutes were seen.
    sheet.one(Moment::Refused, "Starts and crashes", "A", "chat-a starts", between(0.9, 4.0));
    sheet.one(Moment::Refused, "Starts and crashes", "B", "chat-a crashes", between(0.9, 2.5));
    sheet.end("Memory", "chat-a", between(1e6, 1e9));
    sheet.1
}

fn exactly(value: f64) -> Range {
    Range(value, value)
}

fn between(least: f64, most: f64) -> Range {
    Range(least, most)
}

/// A quotient of two rates, which were extended by the same time but for what a scrape comes late.
fn near(value: f64) -> Range {
    Range(value * 0.95, value * 1.05)
}

/// Where a quantile of these values can be that is taken from buckets: anywhere in the bucket of its rank, or of a neighbour's,
/// because two engines are not scraped at the same instant.
fn bucket(quantile: f64, bounds: &[f64], values: impl Iterator<Item = f64>) -> Range {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let rank = (quantile * values.len() as f64).ceil().max(1.0) as usize;
    let (below, above) = (values[rank.saturating_sub(2)], values[rank.min(values.len() - 1)]);
    let least = bounds.iter().rev().find(|bound| **bound < below).copied().unwrap_or(0.0);
    let most = bounds.iter().find(|bound| **bound >= above).copied().unwrap_or(above);
    Range(least, most)
}
