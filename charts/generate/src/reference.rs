//! `docs/journey.md`: every name on the wire with its meaning, taken from the documentation of the contract's constants.

use std::fmt::Write;

use sojourn_contract::metric::{self, Kind, Metric};
use sojourn_contract::names::Name;
use sojourn_contract::{attribute, event, journey, sampling};

const HEAD: &str = "# The journey reference

<!-- Generated from engine/contract; a test compares the two. UPDATE_GOLDEN=1 cargo test -p sojourn-charts-generate writes it again. -->

A request is one trace: `llm_request` with the API's events, below it one `llm_core` for each generated sequence with the core's events, and
below that, unless `spec.tracing.detail` is `Journey`, a span for each stretch of a sequence's time. Durations are float seconds. Prompts and
completions are in none of this. `sojourn-engine check FILE` says whether a trace keeps to it.
";

/// A set of words with the title that links lead to.
struct Words {
    title: &'static str,
    meaning: &'static str,
    words: &'static [Name],
}

macro_rules! sets {
    ($($module:ident::$set:ident),+ $(,)?) => {
        [$(Words { title: stringify!($set), meaning: $module::$set::MEANING, words: $module::$set::NAMES },)+]
    };
}

/// The whole page.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    table(&mut page, "Spans", "", "span", journey::SPANS);
    section(&mut page, "Phase spans", "Below `llm_core`, named after the part of the sequence's time that they are:");
    let phases: Vec<String> = journey::PHASE_SPANS.iter().map(|name| format!("`{name}`")).collect();
    line(&mut page, &format!("{}.", phases.join(", ")));
    let order = "Exactly one of the two terminal events ends a journey, also when an engine shuts down.";
    table(&mut page, "Events", order, "event", event::ALL);
    table(&mut page, "Attributes of events", "", "attribute", attribute::EVENT);
    let facts = "On every span of the journey, so that one span is enough for a sampling rule or a query; the last ones say where they are. \
                 The six parts (api, queue, prefill, decode, preempted, client) add up to the duration.";
    table(&mut page, "Facts", facts, "attribute", attribute::FACT);
    table(&mut page, "Written by the sidecar", "", "attribute", attribute::SIDECAR);
    let request = "By the GenAI conventions v0.1.0 and those for HTTP; on `llm_request` alone, so that sums of tokens over a trace count once.";
    table(&mut page, "Attributes of `llm_request`", request, "attribute", attribute::REQUEST);
    table(&mut page, "Attributes of the resource", "", "attribute", attribute::RESOURCE);
    section(&mut page, "Words", "Attributes and labels that are words take them from these closed sets.");
    let sets = sets![
        journey::Outcome,
        journey::Kind,
        journey::Parent,
        journey::AbortReason,
        journey::AbortPhase,
        journey::Phase,
        journey::ScheduleKind,
        journey::PreemptReason,
        journey::FinishStatus,
        journey::Bottleneck,
        journey::StartupStage,
        journey::Detail,
        sampling::Rule,
        sampling::Parents,
    ];
    for Words { title, meaning, words } in sets {
        line(&mut page, &format!("\n### {title}\n\n{}\n", linked(meaning)));
        rows(&mut page, "word", words);
    }
    metrics(
        &mut page,
        "Metrics of the engine",
        "At `/metrics` of port 8000, with tracing off too. Histograms add `_bucket`, `_sum` and `_count`.",
        metric::ALL,
    );
    metrics(
        &mut page,
        "Metrics of the sidecar",
        "At `/metrics` of port 8002, for each pod with tracing on.",
        metric::sidecar::ALL,
    );
    page
}

fn section(page: &mut String, title: &str, text: &str) {
    line(page, &format!("\n## {title}\n"));
    if !text.is_empty() {
        line(page, &format!("{text}\n"));
    }
}

fn table(page: &mut String, title: &str, text: &str, what: &str, names: &[Name]) {
    section(page, title, text);
    rows(page, what, names);
}

fn rows(page: &mut String, what: &str, names: &[Name]) {
    line(page, &format!("| {what} | meaning |\n| --- | --- |"));
    for Name { name, meaning } in names {
        line(page, &format!("| `{name}` | {} |", linked(meaning)));
    }
}

fn metrics(page: &mut String, title: &str, text: &str, metrics: &[Metric]) {
    section(page, title, text);
    line(page, "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |");
    for metric in metrics {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        line(page, &format!("| `{}` | {kind} | {} | {} |", metric.series(), labels.join(" "), metric.help));
    }
}

/// Documentation as Markdown of this page: a link to a set of words becomes one to its heading, any other its name.
fn linked(meaning: &str) -> String {
    let mut rest = meaning;
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once("[`") {
        text.push_str(before);
        let Some((path, behind)) = after.split_once("`]") else { break };
        let name = path.rsplit("::").next().unwrap_or(path);
        if path.contains("::") {
            text.push_str(&format!("[{name}](#{})", name.to_lowercase()));
        } else {
            text.push_str(&format!("`{}`", constant(name)));
        }
        rest = behind;
    }
    text.push_str(rest);
    text.replace('|', "\\|")
}

/// The value of a constant that documentation names; its own name where it is none of these.
fn constant(name: &str) -> &str {
    match name {
        "LLM_REQUEST" => journey::LLM_REQUEST,
        "LLM_CORE" => journey::LLM_CORE,
        "ENGINE_STARTUP" => journey::ENGINE_STARTUP,
        "SIDECAR_PROBE" => journey::SIDECAR_PROBE,
        "DEPARTED" => event::DEPARTED,
        "PROVIDER" => attribute::PROVIDER,
        "PROVIDER_NAME" => attribute::PROVIDER_NAME,
        other => other,
    }
}

/// Writing into a string cannot fail.
fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_set_of_words_leads_to_its_heading() {
        let meaning = "A word of [`crate::journey::Phase`]; instead of [`DEPARTED`] below [`LLM_CORE`].";
        assert_eq!(linked(meaning), "A word of [Phase](#phase); instead of `api.DEPARTED` below `llm_core`.");
    }

    #[test]
    fn every_link_has_a_heading_and_no_name_of_a_constant_is_left() {
        let page = reference();
        for link in page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(
                page.lines().any(|line| line.starts_with('#') && line.to_lowercase().ends_with(&format!(" {link}"))),
                "{link}"
            );
        }
        let shouting =
            |word: &str| word.len() > 3 && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && word.contains('_');
        let left: Vec<&str> =
            page.split(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c))).filter(|word| shouting(word)).collect();
        assert!(left.iter().all(|word| ["UPDATE_GOLDEN"].contains(word)), "{left:?}");
    }
}
