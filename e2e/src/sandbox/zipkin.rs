//! What sending to Zipkin takes, made on demand: Zipkin's server, a jar from Maven Central, and the image of a collector from
//! before OpenTelemetry retired its Zipkin exporter.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::{
    binaries::{collector_with_zipkin, workplace},
    command::{find, output, program},
    images::{Image, build, of_collector},
    progress::Progress,
};

/// The image of a collector that has the exporter; its command is `/otelcol`.
pub const ZIPKIN_COLLECTOR_IMAGE: &str = "localhost/sojourn/otelcol-zipkin:0.148.0";

const ARTIFACT: &str = "io.zipkin:zipkin-server:3.5.1:jar:exec";
const FILE: &str = "zipkin-server-3.5.1-exec.jar";
const SHA256: &str = "7ac633a6832647e71e50012a5e3e91fbc7054414955261724526030faf271d8d";
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy";

/// Zipkin's server, fetched or found in the cache.
pub(super) async fn server(cache: &Path, progress: &Progress) -> Result<PathBuf> {
    let directory = cache.join("zipkin");
    let finished = directory.join(FILE);
    if finished.exists() {
        return Ok(finished);
    }
    find("mvn").context("Zipkin comes from Maven Central: install Maven (on Debian the package is maven)")?;
    let step = progress.step("fetching Zipkin (131 MB, once)");
    let work = workplace(cache, "zipkin")?;
    let mut copy = program("mvn");
    copy.args(["--batch-mode", "--quiet", COPY]).arg(format!("-Dartifact={ARTIFACT}"));
    copy.arg(format!("-DoutputDirectory={}", work.path().display()));
    output(&mut copy).await.context("cannot fetch Zipkin")?;
    let unfinished = work.path().join(FILE);
    let mut hash = Sha256::new();
    let mut file = fs::File::open(&unfinished).with_context(|| format!("Maven has brought no {FILE}"))?;
    std::io::copy(&mut file, &mut hash)?;
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(found == SHA256, "what Maven brought as {FILE} is another file: its SHA-256 is {found}");
    fs::create_dir_all(&directory)?;
    fs::rename(&unfinished, &finished)?;
    step.done();
    Ok(finished)
}

/// The collector's image, built or found in the cache.
pub(super) async fn collector(cache: &Path, progress: &Progress) -> Result<Image> {
    let directory = collector_with_zipkin(cache, progress).await?;
    build(cache, &of_collector(ZIPKIN_COLLECTOR_IMAGE, &directory), progress).await
}
