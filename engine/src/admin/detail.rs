//! The page of one journey: a waterfall with its events, then all that is known. Pure: a journey and its spans in, a page out.

use axum::response::Response;
use sojourn_contract::journey::{LLM_CORE, LLM_REQUEST};
use sojourn_contract::path;
use sojourn_journey::account::sentence_by;
use sojourn_journey::draw::{name_of, said_by, ticks};
use sojourn_journey::quantity::duration;
use sojourn_journey::record::{CoreEvent, CoreRecord, Stamp};
use sojourn_journey::timeline::{self, Segment};
use sojourn_journey::trace::{Attributes, Span, Trace, Value};

use super::html::{bar, escape, legend, page as whole_page, state};
use crate::journeys::registry::Entry;
use crate::journeys::summary::{Part, Summary};

/// The page of a journey.
pub fn page(entry: &Entry, trace: &Trace) -> Response {
    let summary = Summary::of(entry);
    let sentence = sentence_by(&entry.as_of_now(), &entry.facts());
    let live = if entry.in_flight.is_some() { "on" } else { "done" };
    let body = format!(
        "<header><h1>{id}</h1><p>{}</p><p class=\"end\"><a href=\"{list}\">all journeys</a> · <a href=\"{list}/{}.json\">spans as JSON</a></p>\
         </header><main><div data-live=\"{live}\"><p class=\"sentence\">{state} in {}. {}</p>{}{}<h2>What every span says of it</h2>{}\
         <h2>What its request says</h2>{}</div></main>\
         <footer>In a terminal: <code>sojourn-engine journeys {}</code>. Prompts and completions are never recorded.</footer>",
        about(&summary),
        summary.span_id,
        duration(summary.duration_seconds),
        escape(&sentence),
        waterfall(entry, trace),
        legend(),
        pairs(entry.facts().attributes().into_iter()),
        pairs(request_attributes(&entry.context.attributes)),
        escape(&shell_word(&entry.journey.request_id)),
        id = escape(&entry.journey.request_id),
        state = state(&summary),
        list = path::JOURNEYS,
    );
    whole_page(&format!("{} · journey", entry.journey.request_id), &body)
}

/// What there is instead of a journey that is not known.
pub fn not_found(id: &str, history: usize) -> Response {
    let body = format!(
        "<header><h1>{}</h1></header><main><p class=\"note\">No journey with this id is in flight or among the last {history} that \
         ended. It may be older, or another replica's. <a href=\"{}\">All journeys</a></p></main>",
        escape(id),
        path::JOURNEYS
    );
    whole_page("Not found", &body)
}

fn about(summary: &Summary) -> String {
    let mut pieces: Vec<String> = summary.model.iter().map(|model| escape(model)).collect();
    pieces.extend(summary.http_status.map(|status| format!("HTTP {status}")));
    pieces.push(format!("trace <code>{}</code>", summary.trace_id));
    pieces.join(" · ")
}

/// A request id in a command line.
fn shell_word(id: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.:/+=@".contains(letter);
    if id.chars().all(is_plain) { id.to_owned() } else { format!("'{}'", id.replace('\'', "'\\''")) }
}

fn waterfall(entry: &Entry, trace: &Trace) -> String {
    let (Some(begin), Some(end)) = (entry.journey.arrived(), latest(entry)) else { return String::new() };
    let whole = (end.monotonic - begin.monotonic).max(1e-9);
    let scale = Scale { begin, whole };
    let mut text = format!("<div class=\"fall\">{}", axis(whole));
    let mut cores = entry.journey.cores.iter();
    for span in trace.spans.iter().filter(|span| [LLM_REQUEST, LLM_CORE].contains(&span.name.as_ref())) {
        let (name, segments) = if span.name == LLM_REQUEST {
            (LLM_REQUEST.to_owned(), entry.end().map(|end| timeline::of_request(&entry.journey, end)).unwrap_or_default())
        } else {
            let index = span.attributes.int(sojourn_contract::attribute::SEQUENCE_INDEX).unwrap_or(0);
            let core = cores.next().map(Vec::as_slice).unwrap_or_default();
            (format!("{LLM_CORE} {index}"), until_now(core, entry.in_flight))
        };
        text.push_str(&scale.row(&name, &segments, span, entry.in_flight.is_some()));
    }
    text + "</div>"
}

/// The last moment on the axis: the core may be at work on a request that its client has given up.
fn latest(entry: &Entry) -> Option<Stamp> {
    let last = entry.journey.cores.iter().flatten().map(|record| record.at);
    last.chain(entry.end()).max_by(|a, b| a.monotonic.total_cmp(&b.monotonic))
}

/// The parts of a sequence's time; one that is in the core still is looked at as if it ended now.
fn until_now(core: &[CoreRecord], now: Option<Stamp>) -> Vec<Segment> {
    let mut core = core.to_vec();
    let is_open = core.last().filter(|last| !matches!(last.event, CoreEvent::Finished(_))).copied();
    if let (Some(last), Some(at)) = (is_open, now) {
        let event = CoreEvent::Finished(sojourn_contract::journey::FinishStatus::Aborted);
        core.push(CoreRecord { at, event, ..last });
    }
    timeline::of_sequence(&core)
}

fn axis(whole: f64) -> String {
    let tick = |(at, label): (f64, String)| format!("<span style=\"left:{:.3}%\">{label}</span>", 100.0 * at / whole);
    // A label at the very end would stand outside.
    let ticks = ticks(whole, 8).into_iter().filter(|(at, _)| *at < 0.95 * whole);
    format!("<div class=\"axis\"><span></span><div class=\"lane\">{}</div></div>", ticks.map(tick).collect::<String>())
}

struct Scale {
    begin: Stamp,
    whole: f64,
}

impl Scale {
    fn place(&self, monotonic: f64) -> f64 {
        (100.0 * (monotonic - self.begin.monotonic) / self.whole).clamp(0.0, 100.0)
    }

    fn row(&self, name: &str, segments: &[Segment], span: &Span, is_live: bool) -> String {
        let parts: Vec<Part> = segments.iter().map(|s| Part { part: s.part, seconds: s.seconds() }).collect();
        let length: f64 = parts.iter().map(|part| part.seconds).sum();
        let from = segments.first().map_or(self.begin.monotonic, |segment| segment.from.monotonic);
        let (left, width) = (self.place(from), 100.0 * length / self.whole);
        let bar = bar(&parts, length, is_live).replacen('>', &format!(" style=\"left:{left:.3}%;width:{width:.3}%\">"), 1);
        let events = span.events_in_order();
        let mark = |event: &&sojourn_journey::trace::Event| {
            let place = self.place(event.monotonic().unwrap_or(self.begin.monotonic));
            format!("<i class=\"mark\" style=\"left:{place:.3}%\" title=\"{}\"></i>", escape(&name_of(event)))
        };
        let item = |event: &&sojourn_journey::trace::Event| {
            let offset = event.monotonic().unwrap_or(self.begin.monotonic) - self.begin.monotonic;
            format!(
                "<li><span class=\"at\">+{}</span><span class=\"what\">{}</span><span class=\"said\">{}</span></li>",
                duration(offset.max(0.0)),
                escape(&name_of(event)),
                escape(&said_by(event).join(" · "))
            )
        };
        let mut items: String = events.iter().map(item).collect();
        if span.dropped_events > 0 {
            let more = span.dropped_events;
            items.push_str(&format!("<li><span></span><span class=\"what\">… {more} more</span><span class=\"said\">preemptions and resumptions, left out here and summed up in the bar</span></li>"));
        }
        format!(
            "<div class=\"row\"><div class=\"name\">{name}<span>{}</span></div><div class=\"lane\">{bar}{}</div></div><ul class=\"events\">{items}</ul>",
            duration(length),
            events.iter().map(mark).collect::<String>(),
        )
    }
}

fn request_attributes(attributes: &Attributes) -> impl Iterator<Item = (&str, Value)> {
    attributes.0.iter().map(|(key, value)| (key.as_ref(), value.clone()))
}

fn pairs<'a>(attributes: impl Iterator<Item = (&'a str, Value)>) -> String {
    let pair = |(key, value): (&str, Value)| {
        let is_duration = key.ends_with("_seconds") || key.starts_with("gen_ai.latency.");
        let text = match value {
            Value::Float(seconds) if is_duration => duration(seconds),
            other => other.to_string(),
        };
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(key), escape(&text))
    };
    format!("<dl class=\"facts\">{}</dl>", attributes.map(pair).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_takes_any_id() {
        assert_eq!(shell_word("order-7/retry"), "order-7/retry");
        assert_eq!(shell_word("a b'c"), "'a b'\\''c'");
    }
}
