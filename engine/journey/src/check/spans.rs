//! The spans themselves: ids, names, scopes, kinds, bounds, links.

use sojourn_contract::attribute::SCHEMA_URL;
use sojourn_contract::journey::{ENGINE_STARTUP, LLM_CORE, LLM_REQUEST, PHASE_SPANS, SCOPE_API, SCOPE_SCHEDULER, StartupStage};

use super::Findings;
use super::rule::Rule;
use crate::trace::{Span, SpanKind, Trace};

pub(super) fn check(trace: &Trace, findings: &mut Findings) {
    for (index, span) in trace.spans.iter().enumerate().filter(|(_, span)| is_ours(trace, span)) {
        let twin = trace.spans.iter().take(index).any(|other| other.span_id == span.span_id);
        findings.expect(span.span_id != 0, Rule::SpanIds, span, || "its id is 0".into());
        findings.expect(!twin, Rule::SpanIds, span, || "another span of the trace has its id".into());
        findings.expect(span.start_unix_nanos <= span.end_unix_nanos, Rule::SpanTimes, span, || {
            format!("it starts at {} ns and ends at {} ns", span.start_unix_nanos, span.end_unix_nanos)
        });
        check_role(trace, span, findings);
    }
}

/// Phases and stages have common words for names: they are ours by their scope, or below a core span.
fn is_ours(trace: &Trace, span: &Span) -> bool {
    let by_name = [LLM_REQUEST, LLM_CORE, ENGINE_STARTUP].contains(&span.name.as_ref());
    let by_scope = [SCOPE_API, SCOPE_SCHEDULER].contains(&span.scope.as_ref());
    by_name || by_scope || parent(trace, span).is_some_and(|parent| parent.name == LLM_CORE)
}

fn parent<'a>(trace: &'a Trace, span: &Span) -> Option<&'a Span> {
    span.parent_span_id.and_then(|id| trace.spans.iter().find(|other| other.span_id == id))
}

fn check_role(trace: &Trace, span: &Span, findings: &mut Findings) {
    let name = span.name.as_ref();
    let is_stage = StartupStage::ALL.iter().any(|stage| stage.as_str() == name);
    let (scope, kind) = match name {
        LLM_REQUEST => (SCOPE_API, SpanKind::Server),
        LLM_CORE => (SCOPE_SCHEDULER, SpanKind::Internal),
        ENGINE_STARTUP => (SCOPE_API, SpanKind::Internal),
        _ if PHASE_SPANS.contains(&name) => (SCOPE_SCHEDULER, SpanKind::Internal),
        _ if is_stage => (SCOPE_API, SpanKind::Internal),
        _ => {
            findings.add(Rule::SpanNames, span, format!("no span of scope {} has this name", span.scope));
            return;
        }
    };
    findings
        .expect(span.scope == scope, Rule::SpanScope, span, || format!("its scope is '{}', but must be {scope}", span.scope));
    findings.expect(span.kind == kind, Rule::SpanKind, span, || format!("its kind is {:?}, but must be {kind:?}", span.kind));
    let wrong_schema = name == LLM_REQUEST && span.schema_url.as_deref().is_some_and(|url| url != SCHEMA_URL);
    findings.expect(!wrong_schema, Rule::SchemaUrl, span, || {
        format!("its schema is {}, but must be {SCHEMA_URL}", span.schema_url.as_deref().unwrap_or_default())
    });
    check_parent(trace, span, findings);
}

fn check_parent(trace: &Trace, span: &Span, findings: &mut Findings) {
    let parent = parent(trace, span);
    let has_parent = |name: &str| parent.is_some_and(|parent| parent.name == name);
    let found = || parent.map_or("no span of the trace".to_owned(), |parent| parent.name.to_string());
    let name = span.name.as_ref();
    if name == LLM_CORE {
        findings.expect(has_parent(LLM_REQUEST), Rule::CoreParent, span, || format!("its parent is {}", found()));
    }
    if PHASE_SPANS.contains(&name) {
        findings.expect(has_parent(LLM_CORE), Rule::PhaseParent, span, || format!("its parent is {}", found()));
    }
}
