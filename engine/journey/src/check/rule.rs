//! The rules of a legal journey, each with a stable name and one sentence.

/// Defines [`Rule`] with its names and sentences in one place.
macro_rules! rules {
    ($($variant:ident = $id:literal: $says:literal,)+) => {
        /// A rule of a legal journey.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rule {
            $(#[doc = $says] $variant,)+
        }

        impl Rule {
            /// Every rule, in the order in which they are judged.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its stable name.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)+ }
            }

            /// What it demands.
            pub const fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)+ }
            }
        }
    };
}

rules! {
    SpanIds = "span-ids": "each span has an id, and no two of a trace have the same",
    SpanNames = "span-names": "a span of our scopes has one of the fixed names",
    SpanScope = "span-scope": "llm_request and engine_startup are of scope sojourn.api, llm_core and its phases of sojourn.scheduler",
    SpanKind = "span-kind": "llm_request is a SERVER span, all others of a journey are INTERNAL",
    SpanTimes = "span-times": "a span does not end before it starts",
    SchemaUrl = "schema-url": "llm_request names the schema of the GenAI conventions that it follows",
    CoreParent = "core-parent": "llm_core is a child of an llm_request of the same trace",
    PhaseParent = "phase-parent": "a phase span is a child of an llm_core",
    StartupAttributes = "startup-attributes": "start-up and probe spans say their kind; a start also its outcome, its parent (none) and its duration",
    SpanAttributes = "span-attributes": "every span of a journey carries the facts that all journeys have, with their types",
    EventAttributes = "event-attributes": "every event carries its attributes, with their types",
    ClosedWords = "closed-words": "an attribute of a closed set has one of its words",
    KnownEvents = "known-events": "llm_request has api events alone, llm_core journey events alone, phases none",
    FactsEqual = "facts-equal": "the facts of a request are equal on all its spans",
    SameResource = "same-resource": "all spans of a journey have the same resource: they come from one engine",
    RequestOnly = "request-only": "gen_ai.* but the latencies, http.* and url.* stand on llm_request alone",
    ParentFact = "parent-fact": "journey.parent is none for a root, and sampled or unsampled for a caller's child",
    ArrivedFirst = "arrived-first": "api.ARRIVED comes first, once",
    OneTerminalEvent = "one-terminal-event": "exactly one of api.DEPARTED and api.ABORTED ends a request",
    TerminalLast = "terminal-last": "nothing happens in the API layer after the terminal event",
    ApiOrder = "api-order": "HANDOFF_TO_CORE comes before FIRST_RESPONSE_FROM_CORE, each at most once",
    CoreIffHandoff = "core-iff-handoff": "a request has an llm_core if and only if it was handed to the core",
    SequenceIndices = "sequence-indices": "the sequences of a request are numbered from 0 without a gap",
    HandoffBeforeQueued = "handoff-before-queued": "no sequence is queued before the request is handed to the core",
    ResponseAfterToken = "response-after-token": "the API layer cannot see a token before it is sampled",
    DepartedAfterFinished = "departed-after-finished": "an answered request departs after all its sequences have finished, each stopped or at its length",
    QueuedFirst = "queued-first": "QUEUED comes first, once",
    FinishedLast = "finished-last": "FINISHED comes last, once",
    FirstSchedule = "first-schedule": "SCHEDULED is FIRST once, before any other SCHEDULED",
    ResumeAfterPreempted = "resume-after-preempted": "SCHEDULED is RESUME only after PREEMPTED",
    PreemptedWhileRunning = "preempted-while-running": "only a running sequence is PREEMPTED",
    FirstTokenOnce = "first-token-once": "FIRST_TOKEN comes at most once",
    FirstTokenWhileRunning = "first-token-while-running": "only a running sequence samples its FIRST_TOKEN",
    FinishStatus = "finish-status": "only a running sequence is stopped or reaches its length, and only one of length 0 does so without a token",
    TimeOrder = "time-order": "the wall clock of events runs as their monotonic clock does",
    EventInSpan = "event-in-span": "events lie within their span",
    Prefill = "prefill-progress": "prefill_done_tokens never falls and is at most prefill_total_tokens, which never changes",
    FirstTokenAfterPrefill = "first-token-after-prefill": "the whole prompt is processed before a token is sampled",
    Decode = "decode-progress": "decode_done_tokens never falls and is at most decode_max_tokens, which never changes",
    StepOrder = "step-order": "scheduler.step never falls",
    PhaseWord = "phase-word": "phase is waiting until the first SCHEDULED, prefill until FIRST_TOKEN, then decode",
    PreemptionCount = "preemption-count": "num_preemptions counts the PREEMPTED events so far",
    ResumeTokens = "resume-tokens": "a RESUME finds and recomputes no more tokens than were processed",
    PhasesInCore = "phases-in-core": "phase spans lie within their llm_core and do not overlap",
    PhasesFollowEvents = "phases-follow-events": "phase spans are the stretches between the events of their llm_core",
    OutcomeFollowsEvents = "outcome-follows-events": "outcome, abort reason and abort phase follow from the events",
    ErrorType = "error-type": "error.type is absent on an answered request, the status code of a rejection, else the abort reason",
    SpanStatus = "span-status": "llm_request and llm_core are Error for outcome error, else Unset",
    PreemptionFacts = "preemption-facts": "count, reasons and recomputed tokens of preemptions follow from the events",
    AbsentFacts = "absent-facts": "a duration is absent if and only if what it measures did not happen",
    SumsAddUp = "sums-add-up": "api, queue, prefill, decode, preempted and client add up to the duration",
    DurationsFollowEvents = "durations-follow-events": "every duration is the time between the events that define it",
    LargestPart = "bottleneck-is-largest": "journey.bottleneck is the largest part",
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}
