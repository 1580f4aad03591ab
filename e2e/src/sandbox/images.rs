//! Container images as OCI archives in `CACHE/images/NAME-KEY.tar`, KEY being a digest of the Dockerfile and of every file
//! that went in. Built by buildah in a store of its own that is thrown away: nothing of the host's images is read or written.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    addons::{BUSYBOX_IMAGE, COLLECTOR_IMAGE, COREDNS_IMAGE, JAEGER_IMAGE, PAUSE_IMAGE},
    base_image::base,
    binaries::{Binaries, digest, workplace},
    command::{find, output, program},
    progress::Progress,
};

/// Certificate authorities, where Debian and every image of ours keep them.
pub(super) const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Images carry no signatures here, and buildah wants to be told so.
const SIGNATURE_POLICY: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

/// Archives of one image that stay in the cache.
const KEPT_ARCHIVES: usize = 3;

/// An image that lies in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name, tag included.
    pub name: String,
    /// The OCI archive.
    pub archive: PathBuf,
    /// Digest of its manifest, `sha256:...`: the same in the archive and in a node that has it.
    pub digest: String,
}

impl Image {
    /// The image in an OCI archive that holds one.
    pub async fn read(archive: &Path) -> Result<Self> {
        let index =
            output(program("tar").arg("--extract").arg("--to-stdout").arg("--file").arg(archive).arg("index.json")).await;
        let index = index.with_context(|| format!("{} is no OCI archive", archive.display()))?;
        let index: Index = serde_json::from_str(&index).with_context(|| format!("{} is damaged", archive.display()))?;
        let manifest = index.manifests.into_iter().next().with_context(|| format!("{} has no image", archive.display()))?;
        let name = manifest.annotations.name.with_context(|| format!("the image in {} has no name", archive.display()))?;
        Ok(Self { name, archive: archive.to_owned(), digest: manifest.digest })
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Manifest>,
}

#[derive(Deserialize)]
struct Manifest {
    digest: String,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: Option<String>,
}

/// One image to build.
pub(super) struct Recipe {
    /// Its name, tag included.
    pub name: String,
    /// Text of the Dockerfile; its last stage is built unless `target` names another.
    pub dockerfile: String,
    /// The stage to build.
    pub target: Option<&'static str>,
    /// The image that `ARG BASE` stands for.
    pub base: Option<Image>,
    /// Files of the context: path in it and where each comes from.
    pub files: Vec<(String, Source)>,
}

/// Where a file of an image comes from.
pub(super) enum Source {
    /// A copy of a file.
    Copy(PathBuf),
    /// A copy of a program, without its debugging information.
    Stripped(PathBuf),
    /// A symbolic link to this.
    Link(String),
    /// A file with this content.
    Text(String),
}

/// The images of the cluster itself.
pub(super) async fn of_the_cluster(cache: &Path, binaries: &Binaries, progress: &Progress) -> Result<Vec<Image>> {
    let recipes = [
        of_one(PAUSE_IMAGE, &binaries.pause, "pause", "USER 65535:65535\n"),
        of_one(COREDNS_IMAGE, &binaries.coredns, "coredns", "USER 65532:65532\n"),
        of_one(JAEGER_IMAGE, &binaries.jaeger, "jaeger", "USER 10001:10001\n"),
        of_collector(COLLECTOR_IMAGE, &binaries.collector),
        busybox(base(cache, progress).await?.image).await?,
    ];
    let mut images = Vec::new();
    for recipe in recipes {
        images.push(build(cache, &recipe, progress).await?);
    }
    Ok(images)
}

/// The image of a collector: the program `/otelcol`, as the official images have theirs.
pub(super) fn of_collector(name: &str, directory: &Path) -> Recipe {
    of_one(name, directory, "otelcol", "USER 10001:10001\nCMD [\"--config\", \"/etc/otelcol/config.yaml\"]\n")
}

/// The image of one static program; `rest` ends its Dockerfile.
fn of_one(name: &str, directory: &Path, file: &str, rest: &str) -> Recipe {
    Recipe {
        name: name.to_owned(),
        dockerfile: format!("FROM scratch\nCOPY . /\n{rest}ENTRYPOINT [\"/{file}\"]\n"),
        target: None,
        base: None,
        files: vec![
            (file.to_owned(), Source::Copy(directory.join(file))),
            (AUTHORITIES[1..].to_owned(), Source::Copy(AUTHORITIES.into())),
        ],
    }
}

/// On the base, because busybox looks names up with Debian's libraries even where it is linked statically.
async fn busybox(base: Image) -> Result<Recipe> {
    let program_file = find("busybox").context("there is no busybox")?;
    let mut files = vec![("bin/busybox".to_owned(), Source::Copy(program_file.clone()))];
    for applet in output(program(program_file).arg("--list")).await?.lines().filter(|name| *name != "busybox") {
        files.push((format!("bin/{applet}"), Source::Link("busybox".into())));
    }
    let dockerfile = "ARG BASE\nFROM ${BASE}\nCOPY . /\nENV PATH=/bin\nCMD [\"sh\"]\n".to_owned();
    Ok(Recipe { name: BUSYBOX_IMAGE.into(), dockerfile, target: None, base: Some(base), files })
}

/// Builds what the recipe says, or finds it in the cache.
pub(super) async fn build(cache: &Path, recipe: &Recipe, progress: &Progress) -> Result<Image> {
    let directory = cache.join("images");
    let stem = recipe.name.rsplit('/').next().unwrap_or_default().replace(':', "-");
    let archive = directory.join(format!("{stem}-{}.tar", recipe.key()?));
    if archive.exists() {
        return Image::read(&archive).await;
    }
    let step = progress.step(format!("building the image {}", recipe.name));
    fs::create_dir_all(&directory)?;
    let work = workplace(cache, &stem)?;
    let context = work.path().join("context");
    for (path, source) in &recipe.files {
        put(source, &context.join(path)).await.with_context(|| format!("cannot put {path} into {}", recipe.name))?;
    }
    let unfinished = work.path().join("image.tar");
    buildah(recipe, work.path(), &context, &unfinished).await.with_context(|| format!("cannot build {}", recipe.name))?;
    fs::rename(&unfinished, &archive)?;
    forget_older(&directory, &stem)?;
    step.done();
    Image::read(&archive).await
}

async fn buildah(recipe: &Recipe, work: &Path, context: &Path, archive: &Path) -> Result<()> {
    fs::write(work.join("Dockerfile"), &recipe.dockerfile)?;
    fs::write(work.join("policy.json"), SIGNATURE_POLICY)?;
    let buildah = || {
        let mut command = program("buildah");
        command.arg("--root").arg(work.join("root")).arg("--runroot").arg(work.join("run")).args(["--storage-driver", "vfs"]);
        command
    };
    let mut build = buildah();
    build.args(["build", "--isolation", "chroot", "--pull-never", "--layers=false", "--timestamp", "0", "--tag", &recipe.name]);
    build.arg("--signature-policy").arg(work.join("policy.json")).arg("--file").arg(work.join("Dockerfile"));
    if let Some(base) = &recipe.base {
        build.arg("--build-arg").arg(format!("BASE=oci-archive:{}:{}", base.archive.display(), base.name));
    }
    if let Some(target) = recipe.target {
        build.args(["--target", target]);
    }
    output(build.arg(context)).await?;
    let mut push = buildah();
    push.arg("push").arg("--signature-policy").arg(work.join("policy.json"));
    push.args(["--compression-format", "zstd", "--compression-level", "1", &recipe.name]);
    push.arg(format!("oci-archive:{}:{}", archive.display(), recipe.name));
    output(&mut push).await?;
    Ok(())
}

impl Recipe {
    fn key(&self) -> Result<String> {
        let base = self.base.as_ref().map_or("", |base| &base.digest);
        let mut parts = vec![
            self.name.clone().into_bytes(),
            self.dockerfile.clone().into_bytes(),
            self.target.unwrap_or("").as_bytes().to_vec(),
            base.as_bytes().to_vec(),
        ];
        for (path, source) in &self.files {
            parts.push(path.clone().into_bytes());
            parts.push(source.content()?);
        }
        Ok(digest(parts.iter().map(Vec::as_slice)))
    }
}

impl Source {
    /// What tells this source from another: the file's digest, or the words themselves.
    fn content(&self) -> Result<Vec<u8>> {
        match self {
            Self::Copy(path) | Self::Stripped(path) => {
                let mut file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
                let mut hash = Sha256::new();
                std::io::copy(&mut file, &mut hash)?;
                Ok(hash.finalize().to_vec())
            }
            Self::Link(text) | Self::Text(text) => Ok(text.clone().into_bytes()),
        }
    }
}

async fn put(source: &Source, target: &Path) -> Result<()> {
    let directory = target.parent().context("a file has a directory")?;
    fs::create_dir_all(directory)?;
    match source {
        Source::Copy(path) => {
            fs::copy(path, target)?;
        }
        Source::Stripped(path) => {
            output(program("strip").arg("--strip-debug").arg("-o").arg(target).arg(path)).await?;
        }
        Source::Link(to) => symlink(to, target)?,
        Source::Text(text) => fs::write(target, text)?,
    }
    if !matches!(source, Source::Link(_)) {
        // Whoever the image runs as may read it, and start it where anyone could.
        let executable = fs::metadata(target)?.permissions().mode() & 0o100 != 0;
        fs::set_permissions(target, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
    }
    Ok(())
}

/// An image that is rebuilt with every change must not fill the disk. The newest stay: another sandbox may be reading them.
fn forget_older(directory: &Path, stem: &str) -> Result<()> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_archive_of(stem, &entry.file_name().to_string_lossy()) {
            archives.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    archives.sort();
    for (_, path) in archives.iter().rev().skip(KEPT_ARCHIVES) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn is_archive_of(stem: &str, file: &str) -> bool {
    let key = file.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-')).and_then(|rest| rest.strip_suffix(".tar"));
    key.is_some_and(|key| key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_archives_of_an_image_stay_and_others_are_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, day: u64| {
            let file = fs::File::create(directory.path().join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(day * 86400)).unwrap();
        };
        for day in 1..=5 {
            file(&format!("engine-dev-{day:016x}.tar"), day);
        }
        file("engine-dev-cuda-0000000000000001.tar", 1);
        forget_older(directory.path(), "engine-dev").unwrap();
        let left = |day: u64| directory.path().join(format!("engine-dev-{day:016x}.tar")).exists();
        assert_eq!([1, 2, 3, 4, 5].map(left), [false, false, true, true, true]);
        assert!(directory.path().join("engine-dev-cuda-0000000000000001.tar").exists());
    }
}
