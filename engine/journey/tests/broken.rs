//! Traces broken by hand: each is refused by exactly the rule that names its fault, and every rule has its trace.

mod journeys;

use sojourn_contract::attribute::*;
use sojourn_contract::event::*;
use sojourn_contract::journey::{Detail, LLM_CORE};
use sojourn_journey::check::check;
use sojourn_journey::check::rule::Rule;
use sojourn_journey::log::CoreLog;
use sojourn_journey::read::otlp;
use sojourn_journey::trace::{SpanKind, Status, Trace, Value};

use journeys::edit::*;

/// The rule, what was done to the trace, the trace, and the deed.
type Broken = (Rule, &'static str, fn() -> Trace, fn(&mut Trace));

/// Two sequences, one of them preempted, below a caller's span: from a file, as a collector wrote it.
fn good() -> Trace {
    let [trace] = &Trace::read(include_str!("traces/preempted.json")).expect("a trace")[..] else { panic!("one trace") };
    trace.clone()
}

/// The same without phase spans.
fn plain() -> Trace {
    let mut trace = good();
    trace.spans.retain(|span| !["queue", "prefill", "decode", "preempted"].contains(&span.name.as_ref()));
    trace
}

fn rejected() -> Trace {
    journeys::trace(&journeys::rejected(), Detail::Phases, Some(429))
}

fn disconnected() -> Trace {
    journeys::trace(&journeys::disconnected(), Detail::Phases, None)
}

fn failed() -> Trace {
    journeys::trace(&journeys::failed(), Detail::Phases, Some(500))
}

/// Evicted more often than is written out.
fn repeats() -> Trace {
    let mut journey = journeys::preempted();
    for core in &mut journey.cores {
        let mut log = CoreLog::with_bound(0);
        core.iter().for_each(|record| log.push(*record));
        *core = log.into_records();
    }
    journeys::trace(&journey, Detail::Phases, Some(200))
}

fn startup() -> Trace {
    journeys::startup()
}

const BROKEN: &[Broken] = &[
    (Rule::SpanIds, "both llm_core have one id", plain, |trace| second(trace).span_id = core(trace, 0).span_id),
    (Rule::SpanIds, "a phase has the id 0", good, |trace| phase(trace, "queue", 0).span_id = 0),
    (Rule::SpanNames, "a phase has a name of its own", good, |trace| phase(trace, "decode", 2).name = "thinking".into()),
    (Rule::SpanScope, "llm_core is of the API's scope", good, |trace| second(trace).scope = "sojourn.api".into()),
    (Rule::SpanScope, "a phase is of a foreign scope", good, |trace| phase(trace, "queue", 1).scope = "vllm.scheduler".into()),
    (Rule::SpanKind, "llm_request is INTERNAL", good, |trace| request(trace).kind = SpanKind::Internal),
    (Rule::SpanTimes, "llm_request ends before it starts", rejected, |trace| request(trace).end_unix_nanos -= 2_000_000),
    (Rule::SchemaUrl, "llm_request names the general conventions", good, |trace| {
        request(trace).schema_url = Some("https://opentelemetry.io/schemas/1.37.0".into());
    }),
    (Rule::CoreParent, "llm_core has lost its parent", plain, |trace| second(trace).parent_span_id = None),
    (Rule::CoreParent, "llm_core is the caller's child", plain, |trace| {
        second(trace).parent_span_id = Some(journeys::CALLER_SPAN_ID);
    }),
    (Rule::PhaseParent, "a phase is llm_request's child", good, |trace| {
        phase(trace, "queue", 0).parent_span_id = Some(journeys::REQUEST_SPAN_ID);
    }),
    (Rule::StartupAttributes, "the start does not say its kind", startup, |trace| remove(&mut trace.spans[0].attributes, KIND)),
    (Rule::StartupAttributes, "the load was rejected", startup, |trace| {
        set(&mut trace.spans[2].attributes, OUTCOME, "rejected")
    }),
    (Rule::SpanAttributes, "nobody says how many requests waited", good, |trace| remove_fact(trace, QUEUE_DEPTH_AT_ARRIVAL)),
    (Rule::SpanAttributes, "the duration is a text", good, |trace| set_fact(trace, DURATION_SECONDS, "0.704")),
    (Rule::EventAttributes, "DEPARTED has no ts.monotonic", good, |trace| {
        remove(&mut event(request(trace), DEPARTED).attributes, TS_MONOTONIC);
    }),
    (Rule::EventAttributes, "RESUME does not say what is recomputed", good, |trace| {
        remove(&mut event(second(trace), SCHEDULED).attributes, RECOMPUTED_TOKENS);
    }),
    (Rule::EventAttributes, "a count of tokens is a float", good, |trace| {
        set(&mut event(second(trace), FIRST_TOKEN).attributes, DECODE_DONE_TOKENS, Value::Float(1.0));
    }),
    (Rule::ClosedWords, "a preemption for lack of memory", good, |trace| {
        set(&mut event(second(trace), PREEMPTED).attributes, PREEMPT_REASON, "no_memory");
    }),
    (Rule::ClosedWords, "an outcome of its own", good, |trace| set_fact(trace, OUTCOME, "fine")),
    (Rule::KnownEvents, "llm_request has an event of the core", good, |trace| {
        let queued = event(second(trace), QUEUED).clone();
        request(trace).events.push(queued);
    }),
    (Rule::KnownEvents, "a phase has an event", good, |trace| {
        let token = event(second(trace), FIRST_TOKEN).clone();
        phase(trace, "decode", 0).events.push(token);
    }),
    (Rule::FactsEqual, "llm_core says another outcome", good, |trace| set(&mut second(trace).attributes, OUTCOME, "error")),
    (Rule::FactsEqual, "a phase has no request id", good, |trace| {
        remove(&mut phase(trace, "prefill", 0).attributes, REQUEST_ID);
    }),
    (Rule::SameResource, "llm_core comes from another service", good, |trace| {
        set(&mut second(trace).resource, SERVICE_NAME, "smollm.scheduler");
    }),
    (Rule::RequestOnly, "llm_core has the usage as well", good, |trace| {
        second(trace).attributes.push(USAGE_OUTPUT_TOKENS, Value::Int(28));
    }),
    (Rule::ParentFact, "the caller's child says that it is a root", good, |trace| set_fact(trace, PARENT, "none")),
    (Rule::ParentFact, "a root says that it has a caller", good, |trace| request(trace).parent_span_id = None),
    (Rule::ArrivedFirst, "ARRIVED is missing", good, |trace| drop_event(request(trace), ARRIVED)),
    (Rule::ArrivedFirst, "it arrives twice", good, |trace| repeat(request(trace), ARRIVED, 0.5)),
    (Rule::ArrivedFirst, "it arrives after the handoff", good, |trace| shift(event(request(trace), ARRIVED), 2.5)),
    (Rule::OneTerminalEvent, "it never ends", good, |trace| drop_event(request(trace), DEPARTED)),
    (Rule::OneTerminalEvent, "it departs twice", good, |trace| repeat(request(trace), DEPARTED, 0.0)),
    (Rule::OneTerminalEvent, "it departs and is aborted", disconnected, |trace| {
        let mut departed = event(request(trace), ABORTED).clone();
        departed.name = DEPARTED.into();
        request(trace).events.push(departed);
    }),
    (Rule::TerminalLast, "a token comes after the abort", disconnected, |trace| {
        shift(event(request(trace), FIRST_RESPONSE_FROM_CORE), 770.0);
    }),
    (Rule::ApiOrder, "it is handed off twice", good, |trace| repeat(request(trace), HANDOFF_TO_CORE, 0.1)),
    (Rule::ApiOrder, "two first responses", good, |trace| repeat(request(trace), FIRST_RESPONSE_FROM_CORE, 1.0)),
    (Rule::CoreIffHandoff, "llm_core without a handoff", good, |trace| drop_event(request(trace), HANDOFF_TO_CORE)),
    (Rule::CoreIffHandoff, "a handoff without llm_core", plain, |trace| {
        drop_event(request(trace), FIRST_RESPONSE_FROM_CORE);
        trace.spans.retain(|span| span.name != LLM_CORE);
    }),
    (Rule::SequenceIndices, "the first sequence is missing", plain, |trace| {
        trace.spans.retain(|span| span.attributes.int(SEQUENCE_INDEX) != Some(0));
    }),
    (Rule::HandoffBeforeQueued, "it is queued before the handoff", good, |trace| {
        shift(event(request(trace), HANDOFF_TO_CORE), 4.0);
    }),
    (Rule::ResponseAfterToken, "a response before the token", good, |trace| {
        shift(event(request(trace), FIRST_RESPONSE_FROM_CORE), -30.0);
    }),
    (Rule::DepartedAfterFinished, "it departs while a sequence decodes", good, |trace| {
        shift(event(request(trace), DEPARTED), -100.0);
    }),
    (Rule::DepartedAfterFinished, "it is answered though a sequence failed", good, |trace| {
        set(&mut event(second(trace), FINISHED).attributes, FINISH_STATUS, "error");
    }),
    (Rule::QueuedFirst, "QUEUED is missing", good, |trace| drop_event(second(trace), QUEUED)),
    (Rule::QueuedFirst, "it is queued twice", good, |trace| repeat(second(trace), QUEUED, 1.0)),
    (Rule::QueuedFirst, "it is queued after it was scheduled", good, |trace| shift(event(second(trace), QUEUED), 30.0)),
    (Rule::FinishedLast, "it never finishes", good, |trace| drop_event(second(trace), FINISHED)),
    (Rule::FinishedLast, "it finishes twice", disconnected, |trace| {
        let span = core(trace, 0);
        repeat(span, FINISHED, 0.0);
    }),
    (Rule::FirstSchedule, "the first SCHEDULED is RESUME", failed, |trace| {
        let scheduled = event(core(trace, 0), SCHEDULED);
        set(&mut scheduled.attributes, SCHEDULE_KIND, "RESUME");
        set(&mut scheduled.attributes, CACHED_TOKENS, Value::Int(0));
        set(&mut scheduled.attributes, RECOMPUTED_TOKENS, Value::Int(0));
    }),
    (Rule::FirstSchedule, "it is scheduled for the first time twice", good, |trace| {
        set(&mut event(second(trace), SCHEDULED).attributes, SCHEDULE_KIND, "FIRST");
    }),
    (Rule::ResumeAfterPreempted, "it resumes without a preemption", good, |trace| drop_event(second(trace), PREEMPTED)),
    (Rule::PreemptedWhileRunning, "it is evicted twice", good, |trace| repeat(second(trace), PREEMPTED, 1.0)),
    (Rule::PreemptedWhileRunning, "it is evicted while it waits", good, |trace| {
        let preempted = event(second(trace), PREEMPTED).clone();
        let span = core(trace, 0);
        span.events.push(preempted);
        shift(event(span, PREEMPTED), -190.0);
        set(&mut event(span, PREEMPTED).attributes, NUM_PREEMPTIONS, Value::Int(0));
    }),
    (Rule::FirstTokenOnce, "it has two first tokens", good, |trace| repeat(second(trace), FIRST_TOKEN, 10.0)),
    (Rule::FirstTokenWhileRunning, "it samples while it is evicted", good, |trace| {
        shift(event(second(trace), FIRST_TOKEN), 150.0);
    }),
    (Rule::FinishStatus, "it stops while it is evicted", good, |trace| drop_event(second(trace), SCHEDULED)),
    (Rule::FinishStatus, "it reaches its length without a token", failed, |trace| {
        set(&mut event(core(trace, 0), FINISHED).attributes, FINISH_STATUS, "length");
    }),
    (Rule::TimeOrder, "the wall clock jumps back before PREEMPTED", good, |trace| {
        event(second(trace), PREEMPTED).unix_nanos -= 150_000_000;
    }),
    (Rule::EventInSpan, "the span ends before its last event", plain, |trace| second(trace).end_unix_nanos -= 50_000_000),
    (Rule::Prefill, "prefill falls at the preemption", good, |trace| {
        set(&mut event(second(trace), PREEMPTED).attributes, PREFILL_DONE_TOKENS, Value::Int(39));
    }),
    (Rule::Prefill, "more of the prompt is done than there is", good, |trace| {
        set(&mut event(second(trace), FINISHED).attributes, PREFILL_DONE_TOKENS, Value::Int(41));
    }),
    (Rule::FirstTokenAfterPrefill, "a token before the prompt is processed", failed, |trace| {
        let span = core(trace, 0);
        repeat(span, SCHEDULED, 20.0);
        let token = event(span, SCHEDULED);
        token.name = FIRST_TOKEN.into();
        set(&mut token.attributes, PHASE, "decode");
        set(&mut event(span, FINISHED).attributes, PHASE, "decode");
        trace.spans.retain(|span| span.name != "queue" && span.name != "prefill");
    }),
    (Rule::Decode, "more tokens than may be generated", good, |trace| {
        set(&mut event(core(trace, 0), FINISHED).attributes, DECODE_DONE_TOKENS, Value::Int(17));
    }),
    (Rule::Decode, "tokens are lost after the preemption", good, |trace| {
        set(&mut event(second(trace), FINISHED).attributes, DECODE_DONE_TOKENS, Value::Int(6));
    }),
    (Rule::StepOrder, "the scheduler counts back", good, |trace| {
        set(&mut event(second(trace), SCHEDULED).attributes, SCHEDULER_STEP, Value::Int(11));
    }),
    (Rule::PhaseWord, "it decodes before the first token", good, |trace| {
        set(&mut event(core(trace, 0), SCHEDULED).attributes, PHASE, "decode");
    }),
    (Rule::PhaseWord, "it waits after it was evicted", good, |trace| {
        set(&mut event(second(trace), PREEMPTED).attributes, PHASE, "waiting");
    }),
    (Rule::PreemptionCount, "the end forgets the preemption", good, |trace| {
        set(&mut event(second(trace), FINISHED).attributes, NUM_PREEMPTIONS, Value::Int(0));
    }),
    (Rule::ResumeTokens, "more is recomputed than was processed", good, |trace| {
        set(&mut event(second(trace), SCHEDULED).attributes, RECOMPUTED_TOKENS, Value::Int(40));
    }),
    (Rule::PhasesInCore, "a phase outlives its llm_core", good, |trace| phase(trace, "decode", 2).end_unix_nanos += 10_000_000),
    (Rule::PhasesInCore, "two phases overlap", good, |trace| phase(trace, "queue", 0).end_unix_nanos += 10_000_000),
    (Rule::PhasesFollowEvents, "a phase is too short", good, |trace| phase(trace, "preempted", 0).end_unix_nanos -= 10_000_000),
    (Rule::PhasesFollowEvents, "the last phase is missing", good, |trace| {
        let last = phase(trace, "decode", 2).span_id;
        trace.spans.retain(|span| span.span_id != last);
    }),
    (Rule::OutcomeFollowsEvents, "it departed, and says that it was aborted", good, |trace| {
        set_fact(trace, OUTCOME, "aborted")
    }),
    (Rule::OutcomeFollowsEvents, "a client that went away counts as our error", disconnected, |trace| {
        set_fact(trace, OUTCOME, "error");
    }),
    (Rule::OutcomeFollowsEvents, "it was aborted while it decoded, and says delivery", disconnected, |trace| {
        set_fact(trace, ABORT_PHASE, "delivery");
    }),
    (Rule::ErrorType, "a rejection without its code", rejected, |trace| set_fact(trace, ERROR_TYPE, "overloaded")),
    (Rule::ErrorType, "an error without its type", failed, |trace| remove_fact(trace, ERROR_TYPE)),
    (Rule::SpanStatus, "a client that went away is an error", disconnected, |trace| {
        request(trace).status = Status::Error("client_disconnect".into());
    }),
    (Rule::SpanStatus, "a 429 is an error", rejected, |trace| request(trace).status = Status::Error("429".into())),
    (Rule::SpanStatus, "llm_core of a failed request is not one", failed, |trace| core(trace, 0).status = Status::Unset),
    (Rule::PreemptionFacts, "the preemption is not counted", good, |trace| {
        set_fact(trace, JOURNEY_NUM_PREEMPTIONS, Value::Int(0));
    }),
    (Rule::PreemptionFacts, "another reason than the event's", good, |trace| {
        set_fact(trace, PREEMPT_REASONS, Value::Strings(vec!["priority".into()]));
    }),
    (Rule::PreemptionFacts, "other tokens than the event's", good, |trace| {
        set_fact(trace, JOURNEY_RECOMPUTED_TOKENS, Value::Int(16));
    }),
    (Rule::PreemptionFacts, "preemptions that were left out are not counted", repeats, |trace| {
        set_fact(trace, JOURNEY_NUM_PREEMPTIONS, Value::Int(0));
    }),
    (Rule::PreemptionCount, "nothing was left out, but there are too few preemptions", repeats, |trace| {
        second(trace).dropped_events = 0;
        remove(&mut second(trace).attributes, DROPPED_EVENTS);
    }),
    (Rule::DurationsFollowEvents, "the first token came earlier, and events were left out", repeats, |trace| {
        add_to_fact(trace, TIME_TO_FIRST_TOKEN, -0.02);
    }),
    (Rule::AbsentFacts, "time to a token that never came", failed, |trace| {
        set_fact(trace, TIME_TO_FIRST_TOKEN, Value::Float(0.05));
    }),
    (Rule::AbsentFacts, "a token came, but nobody says when", good, |trace| remove_fact(trace, TIME_TO_FIRST_TOKEN)),
    (Rule::SumsAddUp, "the queue takes longer than there is time", good, |trace| add_to_fact(trace, TIME_IN_QUEUE, 0.1)),
    (Rule::DurationsFollowEvents, "decode takes what prefill took", good, |trace| {
        add_to_fact(trace, TIME_IN_MODEL_PREFILL, -0.01);
        add_to_fact(trace, TIME_IN_MODEL_DECODE, 0.01);
    }),
    (Rule::DurationsFollowEvents, "the first token came earlier", good, |trace| add_to_fact(trace, TIME_TO_FIRST_TOKEN, -0.02)),
    (Rule::LargestPart, "the bottleneck is a small part", good, |trace| set_fact(trace, BOTTLENECK, "queue")),
];

#[test]
fn each_broken_trace_is_refused_by_exactly_the_rule_that_names_its_fault() {
    let mut misjudged = Vec::new();
    for (rule, fault, base, edit) in BROKEN {
        let mut trace = base();
        let before = check(&trace);
        assert!(before.is_legal(), "before '{fault}': {before}");
        edit(&mut trace);
        // On the way through a file, as a trace from a backend would come.
        let written = otlp::write(&[trace]).to_string();
        let report = check(&Trace::read(&written).expect("a trace")[0]);
        let is_named = !report.is_legal() && report.violations.iter().all(|violation| violation.rule == *rule);
        if !is_named {
            misjudged.push(format!("'{fault}' should break {rule}: {report}"));
        }
    }
    assert!(misjudged.is_empty(), "{}", misjudged.join("\n\n"));
}

#[test]
fn every_rule_has_a_trace_that_breaks_it() {
    for rule in Rule::ALL {
        assert!(BROKEN.iter().any(|(broken, ..)| broken == rule), "no trace breaks {rule}");
    }
}

#[test]
fn rule_names_are_unique_and_in_kebab_case() {
    let mut names: Vec<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Rule::ALL.len());
}

#[test]
fn the_good_trace_is_what_a_preempted_journey_becomes() {
    let mut trace = journeys::trace(&journeys::preempted(), Detail::Phases, Some(200));
    trace.spans.insert(0, journeys::caller(&trace));
    let pretty = serde_json::to_string_pretty(&otlp::write(&[trace])).expect("JSON") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces/preempted.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &pretty).expect("the file can be written");
    }
    assert_eq!(std::fs::read_to_string(path).expect("the file"), pretty, "UPDATE_GOLDEN=1 writes the file anew");
    assert!(check(&good()).is_legal());
}

#[test]
fn the_spans_of_others_are_nobodys_business() {
    let trace = Trace { spans: vec![journeys::caller(&good())] };
    let report = check(&trace);
    assert_eq!((report.journeys, report.is_legal()), (0, true));
}

#[test]
fn a_fault_in_one_journey_does_not_hide_another_in_the_same_trace() {
    let mut trace = good();
    let mut other = rejected();
    other.spans[0].span_id = 0xffff;
    trace.spans.append(&mut other.spans);
    request(&mut trace).kind = SpanKind::Client;
    trace.spans.last_mut().expect("a span").status = Status::Ok;
    let report = check(&trace);
    let rules: Vec<Rule> = report.violations.iter().map(|violation| violation.rule).collect();
    assert_eq!((report.journeys, rules), (2, vec![Rule::SpanKind, Rule::SpanStatus]));
}

#[test]
fn a_report_is_for_people() {
    let mut trace = good();
    set_fact(&mut trace, BOTTLENECK, "queue");
    assert_eq!(
        check(&trace).to_string(),
        "1 journey, 1 violation\n\
         bottleneck-is-largest: llm_request 0102030405060708: queue has 0.017000 s, another part 0.500000 s\n    \
         rule: journey.bottleneck is the largest part"
    );
    assert_eq!(check(&good()).to_string(), "1 journey, legal");
}
