//! What the export needs to know of a request besides its events: whose trace it belongs to, the id of its span, and the
//! attributes that only `llm_request` carries.

use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use sojourn_contract::journey::{Detail, Parent};
use sojourn_journey::spans::Frame;
use sojourn_journey::trace::{Attributes, Value};

use super::propagation::Caller;
use super::w3c;

/// A request's place in its trace, and its own attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestContext {
    /// The caller's trace, or one of our own.
    pub trace_id: u128,
    /// The id of `llm_request`.
    pub span_id: u64,
    /// The caller's span; `None` for a root.
    pub caller: Option<u64>,
    /// What the caller's context said.
    pub parent: Parent,
    /// The caller's `tracestate`, empty without one.
    pub trace_state: String,
    /// `gen_ai.*`, `http.*` and `url.*`, on `llm_request` alone.
    pub attributes: Attributes,
    /// The caller's baggage members, on every span.
    pub shared: Attributes,
}

impl RequestContext {
    /// Continues the caller's trace, or begins one.
    pub fn new(caller: Option<Caller>) -> Self {
        let parent = match &caller {
            None => Parent::None,
            Some(caller) if caller.sampled => Parent::Sampled,
            Some(_) => Parent::Unsampled,
        };
        Self {
            trace_id: caller.as_ref().map_or_else(new_trace_id, |caller| caller.trace_id),
            span_id: new_span_id(),
            caller: caller.as_ref().map(|caller| caller.span_id),
            parent,
            trace_state: caller.map(|caller| caller.state).unwrap_or_default(),
            attributes: Attributes::default(),
            shared: Attributes::default(),
        }
    }

    /// The value of the `traceresponse` header: an unsampled caller gets its own trace id back, flag 00.
    pub fn traceresponse(&self) -> String {
        let flags = if self.parent == Parent::Unsampled { TraceFlags::default() } else { TraceFlags::SAMPLED };
        w3c::traceresponse(TraceId::from(self.trace_id), SpanId::from(self.span_id), flags)
    }

    /// The trace id as it is written everywhere: 32 hexadecimal digits.
    pub fn trace_id_text(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The id of `llm_request` as it is written everywhere: 16 hexadecimal digits.
    pub fn span_id_text(&self) -> String {
        format!("{:016x}", self.span_id)
    }

    /// Sets an attribute of `llm_request`; a later value replaces an earlier one.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.0.retain(|(known, _)| known != name);
        self.attributes.push(name, value);
    }

    /// What the journey's spans carry beside the journey.
    pub fn into_frame(self, detail: Detail) -> Frame {
        Frame {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.caller,
            trace_state: self.trace_state,
            detail,
            request_attributes: self.attributes,
            shared_attributes: self.shared,
        }
    }
}

/// A new trace's id.
pub fn new_trace_id() -> u128 {
    non_zero(rand::random::<u128>)
}

/// A new span's id.
pub fn new_span_id() -> u64 {
    non_zero(rand::random::<u64>)
}

/// Draws until it is not zero, which means "no id".
fn non_zero<T: Default + PartialEq>(mut draw: impl FnMut() -> T) -> T {
    loop {
        let value = draw();
        if value != T::default() {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(sampled: bool) -> Caller {
        Caller { trace_id: 7, span_id: 9, sampled, state: "ot=th:8".into() }
    }

    #[test]
    fn a_request_without_a_caller_is_a_root_of_its_own_trace() {
        let (one, other) = (RequestContext::new(None), RequestContext::new(None));
        assert_eq!((one.caller, one.parent), (None, Parent::None));
        assert_ne!(one.trace_id, other.trace_id);
        assert_ne!(one.span_id, 0);
        assert!(one.traceresponse().ends_with("-01"));
    }

    #[test]
    fn a_callers_trace_goes_on_and_its_flag_comes_back() {
        let sampled = RequestContext::new(Some(caller(true)));
        assert_eq!((sampled.trace_id, sampled.caller, sampled.trace_state.as_str()), (7, Some(9), "ot=th:8"));
        assert_eq!(sampled.traceresponse(), format!("00-{:032x}-{:016x}-01", 7, sampled.span_id));
        let unsampled = RequestContext::new(Some(caller(false)));
        assert_eq!(unsampled.parent, Parent::Unsampled);
        assert_eq!(unsampled.traceresponse(), format!("00-{:032x}-{:016x}-00", 7, unsampled.span_id));
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let mut context = RequestContext::new(None);
        context.set("a", "first");
        context.set("a", "second");
        assert_eq!(context.attributes, [("a", "second")].into_iter().collect());
    }
}
