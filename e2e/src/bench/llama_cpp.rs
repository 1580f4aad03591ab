//! llama.cpp's own server, to be measured beside ours. Its sources come with `llama-cpp-python` on PyPI, whose Python server
//! answers one request at a time; the `llama-server` built from them batches. Built once, outside the checkout.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::say;

/// Of the package.
pub const VERSION: &str = "0.3.36";
const SHA256: &str = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";

/// Where `llama-server` is, built if it is not there yet.
pub async fn server(cache: &Path) -> Result<PathBuf> {
    let directory = cache.join("bench").join(format!("llama-cpp-python-{VERSION}"));
    let program = directory.join("build/bin/llama-server");
    if program.exists() {
        return Ok(program);
    }
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let sources = sources(&directory).await?;
    say("building llama-server (once; some ten minutes on two cores)");
    let build = directory.join("build");
    let mut cmake = Command::new("cmake");
    cmake.arg("-S").arg(sources).arg("-B").arg(&build);
    // Its own choice of instructions for this CPU stays on (GGML_NATIVE). Its web page would be downloaded.
    cmake.args([
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_SHARED_LIBS=OFF",
        "-DLLAMA_BUILD_TESTS=OFF",
        "-DLLAMA_BUILD_EXAMPLES=OFF",
    ]);
    cmake.args(["-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF"]);
    run(&mut cmake).await?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    run(Command::new("cmake").arg("--build").arg(&build).args(["--target", "llama-server", "--parallel", &cores])).await?;
    ensure!(program.exists(), "the build made no {}", program.display());
    Ok(program)
}

/// Downloads and unpacks the package; gives llama.cpp's directory in it.
async fn sources(directory: &Path) -> Result<PathBuf> {
    let archive = directory.join(format!("llama_cpp_python-{VERSION}.tar.gz"));
    if !archive.exists() {
        say("downloading llama.cpp's sources from PyPI");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python", "--dest"]);
        run(pip.arg(directory).arg(format!("llama-cpp-python=={VERSION}"))).await?;
    }
    let bytes = std::fs::read(&archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(sum == SHA256, "{} is not the package that is known: its SHA-256 is {sum}", archive.display());
    run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(directory)).await?;
    Ok(directory.join(format!("llama_cpp_python-{VERSION}/vendor/llama.cpp")))
}

/// Runs a step of the build; what it prints shows only if it fails.
async fn run(command: &mut Command) -> Result<()> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("cannot start {name}: is it installed?"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = errors.lines().rev().take(15).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    ensure!(output.status.success(), "{name} ended with {}:\n{}", output.status, last.join("\n"));
    Ok(())
}
