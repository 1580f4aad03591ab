//! An event as a line: when, what, and how far things were.

use sojourn_contract::{attribute, event};

use super::{Style, paint};
use crate::quantity::duration;
use crate::trace::{Attributes, Event};

/// Columns of the offset.
const OFFSET: usize = 8;

/// The lines of an event: its offset, its name, and its attributes, wrapped to the width.
pub(super) fn lines(event: &Event, offset: f64, indent: usize, style: Style) -> String {
    let offset = format!("{:>OFFSET$}", format!("+{}", duration(offset.max(0.0))));
    let name = name_of(event);
    let room = style.width.saturating_sub(indent + OFFSET + 2 + name.chars().count() + 2);
    let details = said_by(event);
    let mut text = format!("{}{}  {name}", " ".repeat(indent), paint::dim(&offset, style));
    // What does not fit beside the name goes beneath it.
    let one_line = details.join(" · ");
    if one_line.is_empty() {
    } else if one_line.chars().count() <= room {
        text.push_str(&format!("  {}", paint::dim(&one_line, style)));
    } else {
        let indent = indent + OFFSET + 4;
        for line in wrapped(&details, " · ", style.width.saturating_sub(indent)) {
            text.push_str(&format!("\n{}{}", " ".repeat(indent), paint::dim(&line, style)));
        }
    }
    text + "\n"
}

/// The name of an event without its prefix, and the word that belongs to it.
pub fn name_of(event: &Event) -> String {
    let short = event.name.split_once('.').map_or(event.name.as_ref(), |(_, short)| short);
    let word = WORDS.iter().find_map(|key| event.attributes.text(key));
    word.map_or_else(|| short.to_owned(), |word| format!("{short} {word}"))
}

const WORDS: [&str; 4] = [attribute::SCHEDULE_KIND, attribute::PREEMPT_REASON, attribute::FINISH_STATUS, attribute::REASON];

/// Said by the line itself, or in a pair.
const TOLD: [&str; 8] = [
    attribute::TS_MONOTONIC,
    attribute::PHASE,
    attribute::PREFILL_DONE_TOKENS,
    attribute::PREFILL_TOTAL_TOKENS,
    attribute::DECODE_DONE_TOKENS,
    attribute::DECODE_MAX_TOKENS,
    attribute::SCHEDULER_STEP,
    attribute::NUM_PREEMPTIONS,
];

/// What else an event says, in short pieces.
pub fn said_by(event: &Event) -> Vec<String> {
    let attributes = &event.attributes;
    let mut details = Vec::new();
    details.extend(attributes.text(attribute::PHASE).map(str::to_owned));
    details.extend(pair("prompt", attributes, attribute::PREFILL_DONE_TOKENS, attribute::PREFILL_TOTAL_TOKENS));
    details.extend(pair("tokens", attributes, attribute::DECODE_DONE_TOKENS, attribute::DECODE_MAX_TOKENS));
    details.extend(attributes.int(attribute::SCHEDULER_STEP).map(|step| format!("step {step}")));
    let preemptions = attributes.int(attribute::NUM_PREEMPTIONS).filter(|preemptions| *preemptions > 0);
    details.extend(preemptions.map(|preemptions| format!("preemptions {preemptions}")));
    let is_aborted = event.name == event::ABORTED;
    for (key, value) in &attributes.0 {
        let key = key.as_ref();
        if TOLD.contains(&key) || WORDS.contains(&key) {
            continue;
        }
        let bare = is_aborted && key == attribute::ERROR;
        details.push(if bare { value.to_string() } else { format!("{} {value}", key.replace('_', " ")) });
    }
    details
}

fn pair(name: &str, attributes: &Attributes, done: &str, total: &str) -> Option<String> {
    Some(format!("{name} {}/{}", attributes.int(done)?, attributes.int(total)?))
}

/// `items` in lines of at most `width` columns; a single longer item has a line of its own.
pub(super) fn wrapped(items: &[String], separator: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.chars().count() + separator.len() + item.chars().count() <= width => {
                line.push_str(separator);
                line.push_str(item);
            }
            _ => lines.push(item.clone()),
        }
    }
    lines
}
