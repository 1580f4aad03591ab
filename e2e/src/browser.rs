//! Pages as a person sees them: headless Chromium, in a profile of its own.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Virtual milliseconds that a page's scripts get.
const BUDGET: u32 = 10_000;

/// The page's document once its scripts have run, as HTML.
pub async fn document(url: &str) -> Result<String> {
    run(url, &["--dump-dom".to_owned()]).await
}

/// Writes a picture of the page, PNG.
pub async fn screenshot(url: &str, file: &Path) -> Result<()> {
    run(url, &[format!("--screenshot={}", file.display()), "--window-size=1440,1000".to_owned()]).await?;
    let length = file.metadata().with_context(|| format!("Chromium has made no picture of {url}"))?.len();
    ensure!(length > 10_000, "the picture of {url} is empty: {}", file.display());
    Ok(())
}

async fn run(url: &str, arguments: &[String]) -> Result<String> {
    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let profile = tempfile::tempdir()?;
    let output = Command::new(&browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--virtual-time-budget={BUDGET}"))
        .args(arguments)
        .arg(url)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| {
            format!("cannot start {browser}: install Chromium (on Debian the package is chromium) or set CHROMIUM")
        })?;
    ensure!(output.status.success(), "{browser} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
