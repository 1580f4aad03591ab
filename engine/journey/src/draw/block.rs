//! One journey or one start: header, scale, a row for each span with its events beneath, legend, and the sentence.

use sojourn_contract::attribute;
use sojourn_contract::journey::{Bottleneck, LLM_CORE, Outcome};

use super::axis::{Axis, Stretch};
use super::paint::{self, Fill};
use super::{Style, event};
use crate::account;
use crate::quantity::duration;
use crate::record::Journey;
use crate::recover::Found;
use crate::timeline::{self, Segment};
use crate::trace::{Span, Status, Trace};

/// Columns of a span's name, with what its depth takes.
const NAME: usize = 18;
/// Columns of a span's duration.
const DURATION: usize = 8;
/// Columns left of the bars.
const LEFT: usize = NAME + DURATION + 2;

/// A span's row: what the bar shows, and how deep the span is.
struct Row<'a> {
    span: &'a Span,
    depth: usize,
    stretches: Vec<Stretch>,
}

/// The block of a journey.
pub(super) fn journey(trace: &Trace, found: &Found<'_>, style: Style) -> String {
    let journey = found.journey().ok();
    let rows = journey_rows(found, journey.as_ref());
    let mut text = journey_header(trace, found, style);
    text.push_str(&body(&rows, style));
    match &journey {
        Some(journey) => {
            text.push_str(&legend(journey, style));
            let sentence = account::sentence(journey);
            let words: Vec<String> = sentence.split(' ').map(str::to_owned).collect();
            text.push_str(&event::wrapped(&words, " ", style.width).join("\n"));
            text.push('\n');
        }
        None if found.request.attributes.get(attribute::OUTCOME).is_none() => {
            text.push_str("\nIt is on its way still, or its end is missing.\n")
        }
        None => text.push_str("\nIts events cannot all be read; the legality check says which, and why.\n"),
    }
    text
}

/// The block of an engine's start.
pub(super) fn startup(start: &Span, stages: &[&Span], style: Style) -> String {
    let whole = |span: &Span| vec![Stretch { from: span.start_unix_nanos, to: span.end_unix_nanos, fill: Fill::Whole }];
    let row = |span, depth| Row { span, depth, stretches: whole(span) };
    let mut rows = vec![row(start, 0)];
    rows.extend(stages.iter().map(|stage| row(*stage, 1)));
    let mut text = header(&format!("start of {}", service(start)), start, &[], style);
    text.push_str(&body(&rows, style));
    if let Status::Error(message) = &start.status {
        text.push_str(&format!("\n{}\n", paint::alarm(message, style)));
    }
    text
}

/// The spans below another, by their start.
pub(super) fn children<'a>(trace: &'a Trace, parent: &Span) -> Vec<&'a Span> {
    let mut children: Vec<&Span> = trace.spans.iter().filter(|span| span.parent_span_id == Some(parent.span_id)).collect();
    children.sort_by_key(|span| span.start_unix_nanos);
    children
}

fn journey_header(trace: &Trace, found: &Found<'_>, style: Style) -> String {
    let request = found.request;
    let text = |key: &str| request.attributes.text(key);
    let mut about = Vec::new();
    about.extend(text(attribute::RESPONSE_MODEL).or(text(attribute::REQUEST_MODEL)).map(str::to_owned));
    about.extend(request.attributes.int(attribute::HTTP_RESPONSE_STATUS_CODE).map(|status| format!("HTTP {status}")));
    let caller = trace.spans.iter().find(|span| Some(span.span_id) == request.parent_span_id);
    about.extend(caller.map(|caller| format!("called by {}: {}", service(caller), caller.name)));
    about.extend(text(attribute::KEPT_BY).map(|rules| format!("kept by {rules}")));
    let id = text(attribute::REQUEST_ID).unwrap_or("?");
    header(&format!("request {id}"), request, &about, style)
}

/// What it is, how it ended, and what else is known of it.
fn header(what: &str, span: &Span, about: &[String], style: Style) -> String {
    let outcome = span.attributes.text(attribute::OUTCOME).unwrap_or("?");
    let is_fine = outcome == Outcome::Ok.as_str();
    let outcome = if is_fine { paint::bold(outcome, style) } else { paint::alarm(outcome, style) };
    let mut text = format!("{}  {outcome} in {}\n", paint::bold(what, style), duration(length(span)));
    for line in event::wrapped(about, " · ", style.width) {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&paint::dim(&format!("trace {:032x}", span.trace_id), style));
    text + "\n\n"
}

fn service(span: &Span) -> &str {
    span.resource.text(attribute::SERVICE_NAME).unwrap_or("an unnamed service")
}

fn journey_rows<'a>(found: &Found<'a>, journey: Option<&Journey>) -> Vec<Row<'a>> {
    let whole = |span: &Span, fill| vec![Stretch { from: span.start_unix_nanos, to: span.end_unix_nanos, fill }];
    let parts = |segments: Vec<Segment>| segments.iter().map(stretch).collect::<Vec<_>>();
    let of_request = journey.and_then(|journey| Some(parts(timeline::of_request(journey, journey.last()?))));
    let request = found.request;
    let stretches = of_request.unwrap_or_else(|| whole(request, Fill::Whole));
    let mut rows = vec![Row { span: request, depth: 0, stretches }];
    for (index, core) in found.cores.iter().enumerate() {
        let of_core = journey.and_then(|journey| journey.cores.get(index)).map(|core| parts(timeline::of_sequence(core)));
        let stretches = of_core.unwrap_or_else(|| whole(core.span, Fill::Whole));
        rows.push(Row { span: core.span, depth: 1, stretches });
        for phase in &core.phases {
            let fill = phase.name.parse().map_or(Fill::Whole, Fill::Part);
            rows.push(Row { span: phase, depth: 2, stretches: whole(phase, fill) });
        }
    }
    rows
}

fn stretch(segment: &Segment) -> Stretch {
    Stretch { from: segment.from.unix_nanos, to: segment.to.unix_nanos, fill: Fill::Part(segment.part) }
}

fn body(rows: &[Row<'_>], style: Style) -> String {
    let from = rows.iter().map(|row| row.span.start_unix_nanos).min().unwrap_or(0);
    let to = rows.iter().map(|row| row.span.end_unix_nanos).max().unwrap_or(0);
    let axis = Axis::new(from, to, style.width.saturating_sub(LEFT));
    let mut text = format!("{}{}\n", " ".repeat(LEFT), paint::dim(&axis.scale(), style));
    for row in rows {
        text.push_str(&row_line(row, &axis, style));
        for event in row.span.events_in_order() {
            text.push_str(&event::lines(event, axis.offset(event.unix_nanos), 2 * row.depth + 2, style));
        }
        if row.span.dropped_events > 0 {
            text.push_str(&format!(
                "{}… {} more events were left out\n",
                " ".repeat(2 * row.depth + 2),
                row.span.dropped_events
            ));
        }
    }
    text
}

fn row_line(row: &Row<'_>, axis: &Axis, style: Style) -> String {
    let mut name = row.span.name.to_string();
    if name == LLM_CORE {
        let index = row.span.attributes.int(attribute::SEQUENCE_INDEX);
        name.push_str(&index.map_or_else(String::new, |index| format!(" {index}")));
    }
    let indented = format!("{}{name}", "  ".repeat(row.depth));
    let name = format!("{indented:<NAME$}");
    let name = if row.depth < 2 { paint::bold(&name, style) } else { name };
    let bar = axis.bar(&row.stretches, style);
    format!("{name}{:>DURATION$}  {bar}\n", duration(length(row.span)))
}

/// The fills with their sums, as many a line as fit.
fn legend(journey: &Journey, style: Style) -> String {
    const GAP: &str = "   ";
    let facts = journey.facts();
    let parts = Bottleneck::ALL.iter().filter(|part| facts.seconds_in(**part) > 0.0);
    let mut text = String::from("\n");
    let mut column = 0;
    for part in parts {
        let fill = Fill::Part(*part);
        let entry = format!("{} {part} {}", fill.glyph(), duration(facts.seconds_in(*part)));
        let columns = entry.chars().count();
        if column > 0 {
            let fits = column + GAP.len() + columns <= style.width;
            text.push_str(if fits { GAP } else { "\n" });
            column = if fits { column + GAP.len() } else { 0 };
        }
        text.push_str(&paint::filled(&entry, fill, style));
        column += columns;
    }
    text + "\n\n"
}

fn length(span: &Span) -> f64 {
    span.end_unix_nanos.saturating_sub(span.start_unix_nanos) as f64 / 1e9
}
