//! One event on the step path: runs the engine's own program for it (`engine/benches/journey_event.rs`).

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

use super::programs::compile;
use super::report::{Bound, Section, Table, Unit, Verdict};
use super::{Part, say};
use crate::statistics::Spread;

/// What that program prints.
#[derive(Debug, Deserialize)]
struct Measured {
    event_nanos: Vec<f64>,
    disabled_nanos: Vec<f64>,
}

/// Measures it.
pub async fn measure() -> Result<Section> {
    say("one event on the step path");
    let output = Command::new(compile("journey_event").await?).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("journey_event ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(section(&serde_json::from_slice(&output.stdout).context("journey_event printed something else")?))
}

fn section(measured: &Measured) -> Section {
    let (event, disabled) = (Spread::of(&measured.event_nanos), Spread::of(&measured.disabled_nanos));
    let mut table = Table::new(&["on the step path", "ns"]);
    table.rows.push(vec!["an event, tracing on".into(), Unit::Plain("").spread(event)]);
    table.rows.push(vec!["the test that is left, tracing off".into(), Unit::Plain("").spread(disabled)]);
    Section {
        title: Part::JourneyEvent.title(),
        how: format!(
            "The scheduler's real state machine steps 8 requests of one token with a recorder and without; the difference,\n\
             shared out among SCHEDULED, FIRST_TOKEN and FINISHED, is what recording an event costs: the record, the push,\n\
             the vector's growth, and the one hand-over when a sequence ends. Rounds: {} (`engine/benches/journey_event.rs`).",
            measured.event_nanos.len()
        ),
        tables: vec![table],
        verdicts: vec![Verdict {
            target: "an event in less than 100 ns".into(),
            measured: event,
            bound: Bound::Below(100.0),
            unit: Unit::Plain(" ns"),
            limit: "A sequence's events are few, so the allocation of their vector and the one lock at its end weigh on each."
                .into(),
        }],
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_prints_becomes_a_verdict() {
        let measured = serde_json::from_str(r#"{"event_nanos": [40, 60, 50], "disabled_nanos": [0.3]}"#).unwrap();
        let section = section(&measured);
        assert_eq!(section.verdicts[0].is_met(), Some(true));
        assert_eq!(section.tables[0].rows[0][1], "50.00 (40.00..60.00)");
    }
}
