//! The cluster's own programs, built from pinned modules into `CACHE/bin/NAME-KEY`, where KEY is a digest of everything
//! that went in: the module files, the flags, the compiler. A build that was interrupted leaves nothing in that place.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    command::{follow, output, program},
    progress::{Progress, Step},
};

/// Version of Kubernetes; `go/kubernetes/go.mod` pins the same.
pub const KUBERNETES_VERSION: &str = "v1.34.4";
/// Version of the OpenTelemetry Collector; `go/collector/builder.yaml` pins the same.
pub const COLLECTOR_VERSION: &str = "0.161.0";

/// Without its version stamped in, the API server says v0.0.0 and clients misjudge it.
const KUBERNETES_LINKER_FLAGS: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.34.4 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=34 \
    -X k8s.io/component-base/version.gitTreeState=clean";
const LINKER_FLAGS: &str = "-s -w";

/// Where the programs lie, one directory each.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl.
    pub kubernetes: PathBuf,
    /// etcd.
    pub etcd: PathBuf,
    /// otelcol.
    pub collector: PathBuf,
    /// coredns.
    pub coredns: PathBuf,
    /// helm.
    pub helm: PathBuf,
    /// jaeger.
    pub jaeger: PathBuf,
    /// pause.
    pub pause: PathBuf,
}

/// One thing to build.
#[derive(Debug)]
struct Recipe {
    name: &'static str,
    version: &'static str,
    method: Method,
    outputs: &'static [&'static str],
}

#[derive(Debug)]
enum Method {
    /// `go build` of packages in a module of ours, whose files are given.
    Module { files: &'static [(&'static str, &'static str)], packages: &'static [&'static str], linker_flags: &'static str },
    /// `go install` of a package that is a module's own program.
    Install { package: &'static str },
    /// The collector's builder, from its configuration.
    Collector { configuration: &'static str },
    /// A C file of a module.
    C { module: &'static str, file: &'static str },
}

macro_rules! module_files {
    ($directory:literal) => {
        &[
            ("go.mod", include_str!(concat!("../../go/", $directory, "/go.mod"))),
            ("go.sum", include_str!(concat!("../../go/", $directory, "/go.sum"))),
            ("tools.go", include_str!(concat!("../../go/", $directory, "/tools.go"))),
        ]
    };
}

const KUBERNETES: Recipe = Recipe {
    name: "kubernetes",
    version: KUBERNETES_VERSION,
    method: Method::Module {
        files: module_files!("kubernetes"),
        packages: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubelet",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kubectl",
        ],
        linker_flags: KUBERNETES_LINKER_FLAGS,
    },
    outputs: &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"],
};
const ETCD: Recipe = Recipe {
    name: "etcd",
    version: "v3.6.16",
    method: Method::Module {
        files: module_files!("etcd"),
        packages: &["go.etcd.io/etcd/server/v3"],
        linker_flags: LINKER_FLAGS,
    },
    outputs: &["etcd"],
};
const COLLECTOR: Recipe = Recipe {
    name: "collector",
    version: COLLECTOR_VERSION,
    method: Method::Collector { configuration: include_str!("../../go/collector/builder.yaml") },
    outputs: &["otelcol"],
};
/// On demand alone.
const COLLECTOR_WITH_ZIPKIN: Recipe = Recipe {
    name: "collector-zipkin",
    version: "0.148.0",
    method: Method::Collector { configuration: include_str!("../../go/collector-zipkin/builder.yaml") },
    outputs: &["otelcol"],
};
const COREDNS: Recipe = Recipe {
    name: "coredns",
    version: "v1.14.2",
    method: Method::Install { package: "github.com/coredns/coredns@v1.14.2" },
    outputs: &["coredns"],
};
const HELM: Recipe = Recipe {
    name: "helm",
    version: "v4.3.1",
    method: Method::Install { package: "helm.sh/helm/v4/cmd/helm@v4.3.1" },
    outputs: &["helm"],
};
const JAEGER: Recipe = Recipe {
    name: "jaeger",
    version: "v1.76.0",
    // `go install` refuses a module with replace lines.
    method: Method::Module {
        files: module_files!("jaeger"),
        packages: &["github.com/jaegertracing/jaeger/cmd/jaeger"],
        linker_flags: LINKER_FLAGS,
    },
    outputs: &["jaeger"],
};
const PAUSE: Recipe = Recipe {
    name: "pause",
    version: KUBERNETES_VERSION,
    method: Method::C { module: "k8s.io/kubernetes@v1.34.4", file: "build/pause/linux/pause.c" },
    outputs: &["pause"],
};

impl Binaries {
    /// Builds what the cache lacks, one after another: a Go build uses every core by itself.
    pub async fn build(cache: &Path, progress: &Progress) -> Result<Self> {
        let workshop = Workshop::open(cache, progress).await?;
        Ok(Self {
            kubernetes: workshop.make(&KUBERNETES).await?,
            etcd: workshop.make(&ETCD).await?,
            collector: workshop.make(&COLLECTOR).await?,
            coredns: workshop.make(&COREDNS).await?,
            helm: workshop.make(&HELM).await?,
            jaeger: workshop.make(&JAEGER).await?,
            pause: workshop.make(&PAUSE).await?,
        })
    }
}

/// Builds the older collector that has an exporter for Zipkin, or finds it in the cache.
pub(super) async fn collector_with_zipkin(cache: &Path, progress: &Progress) -> Result<PathBuf> {
    Workshop::open(cache, progress).await?.make(&COLLECTOR_WITH_ZIPKIN).await
}

struct Workshop<'a> {
    cache: &'a Path,
    compiler: String,
    progress: &'a Progress,
}

impl<'a> Workshop<'a> {
    async fn open(cache: &'a Path, progress: &'a Progress) -> Result<Self> {
        let compiler = output(go(cache).arg("version")).await.context("cannot ask Go for its version")?;
        Ok(Self { cache, compiler, progress })
    }

    async fn make(&self, recipe: &Recipe) -> Result<PathBuf> {
        let finished = self.cache.join("bin").join(format!("{}-{}", recipe.name, recipe.key(&self.compiler)));
        if finished.is_dir() {
            return Ok(finished);
        }
        let step = self.progress.step(format!("building {} {} (minutes, once)", recipe.name, recipe.version));
        std::fs::create_dir_all(self.cache.join("bin"))?;
        let work = workplace(self.cache, recipe.name)?;
        let outputs = work.path().join("outputs");
        std::fs::create_dir(&outputs)?;
        self.run(recipe, work.path(), &outputs, &step).await.with_context(|| format!("cannot build {}", recipe.name))?;
        for name in recipe.outputs {
            ensure!(outputs.join(name).is_file(), "the build of {} made no {name}", recipe.name);
        }
        match std::fs::rename(&outputs, &finished) {
            // Another sandbox that shares the cache was faster, with the same content.
            Err(_) if finished.is_dir() => {}
            other => other.with_context(|| format!("cannot put {} into the cache", recipe.name))?,
        }
        step.done();
        Ok(finished)
    }

    async fn run(&self, recipe: &Recipe, work: &Path, outputs: &Path, step: &Step) -> Result<()> {
        let mut go = go(self.cache);
        go.current_dir(work).env("GOBIN", outputs);
        let compile = ["-v", "-trimpath", "-ldflags"];
        match &recipe.method {
            Method::Module { files, packages, linker_flags } => {
                for (name, content) in *files {
                    std::fs::write(work.join(name), content)?;
                }
                // A single program gets its name from us (etcd's package is called v3); several go into the directory.
                let destination = if packages.len() == 1 { outputs.join(recipe.outputs[0]) } else { outputs.join("") };
                go.arg("build").args(compile).args([linker_flags, "-o"]).arg(destination).args(*packages);
                follow(&mut go, |line| step.at(line)).await
            }
            Method::Install { package } => {
                go.arg("install").args(compile).args([LINKER_FLAGS, package]);
                follow(&mut go, |line| step.at(line)).await
            }
            Method::Collector { configuration } => self.collector(recipe, configuration, work, outputs, step).await,
            Method::C { module, file } => {
                let answer = output(go.args(["mod", "download", "-json", module])).await?;
                let directory = serde_json::from_str::<serde_json::Value>(&answer)?["Dir"].as_str().map(PathBuf::from);
                let source = directory.context("Go does not say where the module is")?.join(file);
                let version = format!("-DVERSION={}", recipe.version);
                let mut gcc = program("gcc");
                gcc.args(["-Os", "-static", "-s", &version, "-o"]).arg(outputs.join(recipe.outputs[0])).arg(source);
                output(&mut gcc).await.map(drop)
            }
        }
    }

    async fn collector(&self, recipe: &Recipe, configuration: &str, work: &Path, outputs: &Path, step: &Step) -> Result<()> {
        let package = format!("go.opentelemetry.io/collector/cmd/builder@v{}", recipe.version);
        let mut install = go(self.cache);
        install.current_dir(work).env("GOBIN", work).args(["install", "-v", "-trimpath", "-ldflags", LINKER_FLAGS, &package]);
        follow(&mut install, |line| step.at(line)).await?;
        std::fs::write(work.join("builder.yaml"), configuration)?;
        let mut builder = program(work.join("builder"));
        go_environment(&mut builder, self.cache);
        builder.current_dir(work).args(["--config", "builder.yaml"]);
        follow(&mut builder, |line| step.at(line)).await?;
        std::fs::rename(work.join("src/otelcol"), outputs.join("otelcol")).context("the builder made no otelcol")
    }
}

impl Recipe {
    /// Sixteen digits that change with anything that goes into the build.
    fn key(&self, compiler: &str) -> String {
        digest([compiler.as_bytes(), format!("{self:?}").as_bytes()])
    }
}

/// Sixteen hexadecimal digits of the parts' SHA-256.
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A directory in the cache to build something in; those of builds that were killed are removed on the way.
pub(super) fn workplace(cache: &Path, name: &str) -> Result<TempDir> {
    let directory = cache.join("build");
    std::fs::create_dir_all(&directory)?;
    for entry in std::fs::read_dir(&directory)? {
        let entry = entry?;
        // The first part of its name is the number of the process that made it.
        let owner = entry.file_name().to_string_lossy().split('.').next().and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            std::fs::remove_dir_all(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    let prefix = format!("{}.{name}.", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(directory).context("cannot make a directory to build in")
}

fn go(cache: &Path) -> Command {
    let mut command = program("go");
    go_environment(&mut command, cache);
    command
}

/// Go's caches are ours, and what it is told by the user's own settings does not change the outcome.
fn go_environment(command: &mut Command, cache: &Path) {
    command
        .env("GOMODCACHE", cache.join("go/mod"))
        .env("GOCACHE", cache.join("go/build"))
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-buildvcs=false");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_what_goes_in() {
        let key = ETCD.key("go version go1.26.8");
        assert_eq!(key, ETCD.key("go version go1.26.8"));
        assert_ne!(key, ETCD.key("go version go1.27.0"));
        assert_ne!(key, JAEGER.key("go version go1.26.8"));
        assert_ne!(digest([&b"ab"[..], b"c"]), digest([&b"a"[..], b"bc"]), "the border between parts counts");
    }

    #[test]
    fn the_workplace_of_a_killed_build_is_removed() {
        let cache = tempfile::tempdir().unwrap();
        let stale = cache.path().join("build/4294967295.etcd.x");
        std::fs::create_dir_all(&stale).unwrap();
        let mine = workplace(cache.path(), "etcd").unwrap();
        let another = workplace(cache.path(), "etcd").unwrap();
        assert!(!stale.exists() && mine.path().is_dir() && another.path().is_dir());
    }

    #[test]
    fn the_module_files_pin_the_versions_that_are_said() {
        assert!(include_str!("../../go/kubernetes/go.mod").contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION}")));
        assert!(include_str!("../../go/collector/builder.yaml").contains(&format!("version: {COLLECTOR_VERSION}")));
        let older = format!("version: {}", COLLECTOR_WITH_ZIPKIN.version);
        assert!(include_str!("../../go/collector-zipkin/builder.yaml").contains(&older));
        assert!(KUBERNETES_LINKER_FLAGS.contains(KUBERNETES_VERSION));
        assert!(include_str!("../../go/etcd/go.mod").contains(ETCD.version));
        assert!(include_str!("../../go/jaeger/go.mod").contains("jaegertracing/jaeger v1.76.0"));
    }
}
