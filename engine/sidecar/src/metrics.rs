//! Reads the collector's own metrics (the Prometheus text format) for its exporters. Pure.

use std::collections::BTreeMap;

/// Numbers of one exporter at one moment; counters since its collector started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Numbers {
    /// What waits or is on its way, in the queue's unit.
    pub queue_size: u64,
    /// What may wait.
    pub queue_capacity: u64,
    /// Spans that the next hop acknowledged.
    pub sent: u64,
    /// Spans given up after sending failed.
    pub send_failed: u64,
    /// Spans that found the queue full.
    pub enqueue_failed: u64,
}

/// The exporters by name.
pub type Sample = BTreeMap<String, Numbers>;

/// Reads a whole answer; lines that it does not know are passed over.
pub fn parse(text: &str) -> Sample {
    let mut sample = Sample::new();
    for line in text.lines() {
        let Some((name, labels, value)) = series(line) else { continue };
        let Some(exporter) = label(labels, "exporter") else { continue };
        let numbers = sample.entry(exporter).or_default();
        let place = match name.strip_suffix("_total").unwrap_or(name) {
            "otelcol_exporter_queue_size" => &mut numbers.queue_size,
            "otelcol_exporter_queue_capacity" => &mut numbers.queue_capacity,
            "otelcol_exporter_sent_spans" => &mut numbers.sent,
            "otelcol_exporter_send_failed_spans" => &mut numbers.send_failed,
            "otelcol_exporter_enqueue_failed_spans" => &mut numbers.enqueue_failed,
            _ => continue,
        };
        // A queue has a series for each signal, a failure one for each kind of error.
        *place += value;
    }
    sample
}

/// Splits `name{labels} value` of a series of whole, countable things.
fn series(line: &str) -> Option<(&str, &str, u64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once('}')?;
    let value: f64 = value.split_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name, labels, value as u64))
}

/// The value of a label, unescaped.
fn label(labels: &str, wanted: &str) -> Option<String> {
    let mut rest = labels;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let (value, length) = quoted(after)?;
        if key.trim_start_matches([',', ' ']) == wanted {
            return Some(value);
        }
        rest = &after[length..];
    }
}

/// Reads up to the closing quote; answers the value and the length with the quote.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, index + 1)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_a_real_collector_is_read() {
        let text = r#"# HELP otelcol_exporter_queue_size Current size of the retry queue
# TYPE otelcol_exporter_queue_size gauge
otelcol_exporter_in_flight_requests{data_type="traces",exporter="otlp_grpc/dead-01234567"} 1
otelcol_exporter_queue_capacity{data_type="traces",exporter="otlp_grpc/dead-01234567"} 1e+06
otelcol_exporter_queue_size{data_type="traces",exporter="otlp_grpc/dead-01234567"} 63
otelcol_exporter_sent_spans{exporter="debug/ok-01234567"} 1
otelcol_process_uptime 7.155606689
"#;
        let dead = Numbers { queue_size: 63, queue_capacity: 1_000_000, ..Numbers::default() };
        let ok = Numbers { sent: 1, ..Numbers::default() };
        let expected = Sample::from([("debug/ok-01234567".into(), ok), ("otlp_grpc/dead-01234567".into(), dead)]);
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn names_with_and_without_total_are_the_same() {
        let with = parse(r#"otelcol_exporter_sent_spans_total{exporter="a/b-1"} 5 1700000000"#);
        let without = parse(r#"otelcol_exporter_sent_spans{exporter="a/b-1"} 5"#);
        assert_eq!(with, without);
        assert_eq!(with["a/b-1"].sent, 5);
    }

    #[test]
    fn failures_of_all_kinds_add_up() {
        let text = "otelcol_exporter_send_failed_spans{exporter=\"a/b-1\",error_type=\"Unavailable\"} 2\n\
                    otelcol_exporter_send_failed_spans{exporter=\"a/b-1\",error_type=\"Shutdown\"} 3\n";
        assert_eq!(parse(text)["a/b-1"].send_failed, 5);
    }

    #[test]
    fn labels_are_unescaped_and_found_behind_others() {
        let text = r#"otelcol_exporter_queue_size{note="a \"quoted\", exporter=\"no\"", exporter="x\\y-1"} 4"#;
        assert_eq!(parse(text)[r"x\y-1"].queue_size, 4);
    }

    #[test]
    fn garbage_is_passed_over() {
        assert_eq!(parse("<html>{exporter=\"\n\notelcol_exporter_sent_spans{exporter=\"a\"} NaN\n"), Sample::new());
    }
}
