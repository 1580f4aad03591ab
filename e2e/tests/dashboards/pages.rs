//! The pinned collector takes what the operator renders for the pages in `docs/`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sojourn_contract::collector::SECRET_KEY;
use sojourn_e2e::checkout;

use super::pods::{program, rendered};

#[test]
fn the_collector_takes_every_destination_and_policy_of_the_pages() -> Result<()> {
    let collector = program("SOJOURN_OTELCOL")?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("collector.yaml");
    let (mut taken, mut of_another_image) = (0, 0);
    for page in ["sampling.md", "backends.md"] {
        let text = std::fs::read_to_string(checkout::path("docs").join(page))?;
        for block in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
            let mut tracing: Value = serde_yaml::from_str(block)?;
            if tracing["collector"]["image"].is_string() {
                // Its exporters are in that image alone.
                of_another_image += 1;
                continue;
            }
            if tracing.get("destinations").is_none() {
                tracing["destinations"] = json!([{"name": "tempo", "endpoint": "http://tempo:4317"}]);
            }
            let mut configuration = serde_yaml::from_str(&rendered(tracing)?)?;
            fill_in(&mut configuration);
            std::fs::write(&file, serde_yaml::to_string(&configuration)?)?;
            let output = Command::new(&collector).arg("validate").arg(format!("--config={}", file.display())).output();
            let output = output.context("cannot start the collector")?;
            ensure!(output.status.success(), "{page}: {}\n{block}", String::from_utf8_lossy(&output.stderr));
            taken += 1;
        }
    }
    ensure!(taken > 14 && of_another_image == 3, "{taken} were taken, {of_another_image} need another image");
    Ok(())
}

/// Puts a value in the place of each key of the Secret, as the supervisor does.
fn fill_in(value: &mut Value) {
    match value {
        Value::Object(fields) if fields.contains_key(SECRET_KEY) => *value = json!("secret"),
        Value::Object(fields) => fields.values_mut().for_each(fill_in),
        Value::Array(values) => values.iter_mut().for_each(fill_in),
        _ => {}
    }
}
