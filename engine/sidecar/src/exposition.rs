//! The supervisor's state as Prometheus' text format 0.0.4. Pure. Numbers only: error texts stay at `/telemetry`.

use std::fmt::Write;

use sojourn_contract::metric::sidecar::{
    COLLECTOR_CRASHES, COLLECTOR_MEMORY, COLLECTOR_REFUSED, COLLECTOR_STARTS, COLLECTOR_UP, FAILED_SPANS, MISSING_KEYS,
    QUEUE_BYTES, QUEUE_CAPACITY_BYTES, SENT_SPANS,
};
use sojourn_contract::metric::{Kind, Metric, label};
use sojourn_contract::sidecar::{Destination, State};

/// The text format's `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric says of a destination.
type Number = fn(&Destination) -> u64;

/// All metrics of a state.
pub fn text(state: &State) -> String {
    let collector = &state.collector;
    let mut page = String::new();
    for (metric, value) in [
        (&COLLECTOR_UP, u64::from(collector.running)),
        (&COLLECTOR_STARTS, collector.starts),
        (&COLLECTOR_CRASHES, collector.crashes),
        (&COLLECTOR_REFUSED, u64::from(collector.refused.is_some())),
        (&COLLECTOR_MEMORY, collector.memory_bytes),
    ] {
        head(&mut page, metric);
        line(&mut page, format_args!("{} {value}", metric.series()));
    }
    let each: [(&Metric, Number); 5] = [
        (&SENT_SPANS, |destination| destination.sent_spans),
        (&FAILED_SPANS, |destination| destination.failed_spans),
        (&QUEUE_BYTES, |destination| destination.queue_size),
        (&QUEUE_CAPACITY_BYTES, |destination| destination.queue_capacity),
        (&MISSING_KEYS, |destination| destination.missing_keys.len() as u64),
    ];
    for (metric, value) in each {
        head(&mut page, metric);
        for destination in &state.destinations {
            let name = destination.name.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            let value = value(destination);
            line(&mut page, format_args!(r#"{}{{{}="{name}"}} {value}"#, metric.series(), label::DESTINATION));
        }
    }
    page
}

fn head(page: &mut String, metric: &Metric) {
    let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
    let name = metric.series();
    line(page, format_args!("# HELP {name} {}.", metric.help));
    line(page, format_args!("# TYPE {name} {kind}"));
}

/// Writing into a string cannot fail.
fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).ok();
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use sojourn_contract::metric::sidecar;
    use sojourn_contract::sidecar::Collector;

    use super::*;

    fn state() -> State {
        State {
            collector: Collector {
                running: true,
                starts: 3,
                refused: Some("no such exporter".into()),
                last_error: Some("token abc is wrong".into()),
                ..Collector::default()
            },
            destinations: vec![
                Destination { name: "tempo".into(), sent_spans: 7, queue_size: 12, ..Destination::default() },
                Destination { name: "a\"b".into(), missing_keys: vec!["token".into()], ..Destination::default() },
            ],
        }
    }

    #[test]
    fn every_metric_of_the_contract_is_shown_once_with_its_help() {
        let page = text(&state());
        for metric in sidecar::ALL {
            let series = metric.series();
            assert_eq!(page.matches(&format!("# HELP {series} ")).count(), 1, "{page}");
            assert!(page.lines().any(|line| line.starts_with(&series)), "{series}: {page}");
        }
    }

    #[test]
    fn numbers_stand_beside_their_destination_and_error_texts_nowhere() {
        let page = text(&state());
        for line in [
            "sojourn_collector_up 1",
            "sojourn_collector_starts_total 3",
            "sojourn_collector_configuration_refused 1",
            r#"sojourn_destination_sent_spans_total{destination="tempo"} 7"#,
            r#"sojourn_destination_queue_bytes{destination="tempo"} 12"#,
            r#"sojourn_destination_missing_keys{destination="a\"b"} 1"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        assert!(!page.contains("exporter") && !page.contains("abc"), "{page}");
    }
}
