//! A trace as a waterfall for a terminal: one block for each journey and each start. Pure: a trace and a style in, text out.

mod axis;
mod block;
mod event;
mod paint;

use sojourn_contract::journey::{Bottleneck, ENGINE_STARTUP};

pub use axis::ticks;
pub use event::{name_of, said_by};

use crate::recover;
use crate::trace::{Attributes, Event, Span, Status, Text, Trace, Value};

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; fewer than [`Style::NARROWEST`] are taken as that many.
    pub width: usize,
    /// With ANSI colours; without them the parts differ by their fill alone.
    pub color: bool,
}

impl Style {
    /// Below this no bar says anything.
    pub const NARROWEST: usize = 60;
}

/// Draws every journey and every start of a trace, by their time; other spans are counted, not drawn.
pub fn draw(trace: &Trace, style: Style) -> String {
    let trace = &printable(trace);
    let style = Style { width: style.width.max(Style::NARROWEST), ..style };
    let journeys = recover::journeys(trace);
    let starts: Vec<&Span> = trace.spans.iter().filter(|span| span.name == ENGINE_STARTUP).collect();
    let mut drawn: Vec<(u64, String)> = Vec::new();
    let mut count = 0;
    for found in &journeys {
        count += found.spans().count();
        drawn.push((found.request.start_unix_nanos, block::journey(trace, found, style)));
    }
    for start in starts {
        let stages = block::children(trace, start);
        count += 1 + stages.len();
        drawn.push((start.start_unix_nanos, block::startup(start, &stages, style)));
    }
    drawn.sort_by_key(|(start, _)| *start);
    let mut text = drawn.into_iter().map(|(_, block)| block).collect::<Vec<_>>().join("\n");
    let others = trace.spans.len() - count;
    if others > 0 {
        let (noun, verb) = if others == 1 { ("span", "is") } else { ("spans", "are") };
        text.push_str(&paint::dim(&format!("{others} {noun} of others in this trace {verb} not drawn"), style));
        text.push('\n');
    }
    text
}

/// Stretches of time that follow each other, seconds each, as one bar of `style.width` cells.
pub fn bar(parts: &[(Bottleneck, f64)], style: Style) -> String {
    let mut from = 0;
    let mut stretches = Vec::new();
    for (part, seconds) in parts {
        let to = from + (seconds.max(0.0) * 1e9) as u64;
        stretches.push(axis::Stretch { from, to, fill: paint::Fill::Part(*part) });
        from = to;
    }
    axis::Axis::new(0, from, style.width.max(1)).bar(&stretches, style)
}

/// The trace without control characters: what others wrote must not move the cursor or break the lines.
fn printable(trace: &Trace) -> Trace {
    let event = |event: &Event| Event {
        name: text(&event.name),
        attributes: attributes(&event.attributes),
        unix_nanos: event.unix_nanos,
    };
    let span = |span: &Span| Span {
        name: text(&span.name),
        attributes: attributes(&span.attributes),
        events: span.events.iter().map(event).collect(),
        resource: attributes(&span.resource),
        status: match &span.status {
            Status::Error(message) => Status::Error(text(message).into_owned()),
            other => other.clone(),
        },
        ..span.clone()
    };
    Trace { spans: trace.spans.iter().map(span).collect() }
}

fn attributes(attributes: &Attributes) -> Attributes {
    let value = |value: &Value| match value {
        Value::String(value) => Value::String(text(value)),
        Value::Strings(values) => Value::Strings(values.iter().map(|value| text(value).into_owned()).collect()),
        Value::Other(json) => Value::Other(text(json).into_owned()),
        number => number.clone(),
    };
    attributes.0.iter().map(|(key, known)| (text(key), value(known))).collect()
}

fn text(text: &str) -> Text {
    Text::Owned(printable_text(text))
}

/// A text that others wrote, without control characters.
pub fn printable_text(text: &str) -> String {
    let printable = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    text.chars().map(printable).collect()
}
