//! Programs that only benchmarks need, compiled with the profile of everything else.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::checkout;

/// Compiles a bench target of the engine in the dev profile; gives its executable.
pub async fn compile(name: &str) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    // Without `-p`: another choice of packages would choose other features and compile mistral.rs again.
    cargo.current_dir(checkout::root()).args(["build", "--bench", name, "--message-format=json-render-diagnostics"]);
    cargo.stderr(std::process::Stdio::inherit()).kill_on_drop(true);
    let output = cargo.output().await.context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo build --bench {name} ended with {}", output.status);
    }
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("cargo built no bench target {name}; it may need a feature that is off"))
}

/// The executable of a bench target among cargo's messages, one JSON object a line.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut of_target = messages.filter(|message| message["target"]["name"] == name && message["target"]["kind"][0] == "bench");
    of_target.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_found_by_its_target() {
        let messages = "warning: not JSON\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"x\",\"kind\":[\"lib\"]},\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"x\",\"kind\":[\"bench\"]},\"executable\":\"/t/x-1\"}\n";
        assert_eq!(executable(messages, "x"), Some("/t/x-1".into()));
        assert_eq!(executable(messages, "y"), None);
    }
}
