//! The project's own images, built from its Dockerfiles at the stage that takes prebuilt programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{
    base_image::base,
    command::{follow, program},
    images::{Image, Recipe, Source, build},
    progress::{Progress, Step},
};
use crate::checkout;

const PREBUILT: &str = "prebuilt";

/// One of the project's images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Own {
    /// `localhost/sojourn/operator:dev`.
    Operator,
    /// `localhost/sojourn/engine:dev`.
    Engine,
    /// `localhost/sojourn/sidecar:dev`.
    Sidecar,
}

impl Own {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Operator, Self::Engine, Self::Sidecar];

    /// Name of the image.
    pub fn image(self) -> &'static str {
        match self {
            Self::Operator => "localhost/sojourn/operator:dev",
            Self::Engine => "localhost/sojourn/engine:dev",
            Self::Sidecar => "localhost/sojourn/sidecar:dev",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Operator => "sojourn-operator",
            Self::Engine => "sojourn-engine",
            Self::Sidecar => "sojourn-sidecar",
        }
    }

    fn dockerfile(self) -> &'static str {
        match self {
            Self::Operator => "operator/Dockerfile",
            Self::Engine => "engine/Dockerfile",
            Self::Sidecar => "engine/sidecar/Dockerfile",
        }
    }
}

/// Compiles the programs of these images and builds the images.
pub async fn build_own(cache: &Path, which: &[Own], progress: &Progress) -> Result<Vec<Image>> {
    let dynamic = which.iter().any(|own| *own != Own::Sidecar);
    let compiled = if dynamic { compile(progress).await? } else { Vec::new() };
    let base = if dynamic { Some(base(cache, progress).await?) } else { None };
    let mut images = Vec::new();
    for own in which {
        let (program_file, base) = match own {
            Own::Sidecar => (compile_static_sidecar(progress).await?, None),
            Own::Operator | Own::Engine => (executable(&compiled, own.program())?, base.clone()),
        };
        if let Some(base) = &base {
            base.check_libraries(&program_file).await?;
        }
        let dockerfile = checkout::path(own.dockerfile());
        let recipe = Recipe {
            name: own.image().to_owned(),
            dockerfile: std::fs::read_to_string(&dockerfile)
                .with_context(|| format!("cannot read {}", dockerfile.display()))?,
            target: Some(PREBUILT),
            base: base.map(|base| base.image),
            files: vec![(own.program().to_owned(), Source::Stripped(program_file))],
        };
        images.push(build(cache, &recipe, progress).await?);
    }
    Ok(images)
}

/// One `cargo build` of the whole workspace: a narrower one would choose other features and compile mistral.rs again.
async fn compile(progress: &Progress) -> Result<Vec<PathBuf>> {
    let step = progress.step("compiling the workspace");
    let mut cargo = program("cargo");
    cargo.current_dir(checkout::root()).args(["build", "--bins", "--message-format=json-render-diagnostics"]);
    let executables = cargo_executables(&mut cargo, &step).await?;
    step.done();
    Ok(executables)
}

/// A static program runs beside any collector, whatever that image holds. Its flags would rebuild everything else, so it
/// has a target directory of its own.
async fn compile_static_sidecar(progress: &Progress) -> Result<PathBuf> {
    let step = progress.step("compiling the static sidecar");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout::path("target"), PathBuf::from);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = program("cargo");
    cargo
        .current_dir(checkout::root())
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--package", "sojourn-sidecar", "--target", &triple, "--message-format=json-render-diagnostics"])
        .arg("--target-dir")
        .arg(target.join("static"));
    let program_file = executable(&cargo_executables(&mut cargo, &step).await?, Own::Sidecar.program())?;
    step.done();
    Ok(program_file)
}

async fn cargo_executables(cargo: &mut tokio::process::Command, step: &Step) -> Result<Vec<PathBuf>> {
    let mut executables = Vec::new();
    follow(cargo, |line| match serde_json::from_str::<serde_json::Value>(line) {
        Ok(message) => {
            if let Some(executable) = message["executable"].as_str() {
                executables.push(PathBuf::from(executable));
            }
        }
        Err(_) => step.at(line.trim()),
    })
    .await?;
    Ok(executables)
}

fn executable(all: &[PathBuf], name: &str) -> Result<PathBuf> {
    match all.iter().find(|path| path.file_name().is_some_and(|file| file == name)) {
        Some(path) => Ok(path.clone()),
        None => bail!("the workspace has no program {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dockerfile_has_the_stage_for_prebuilt_programs() {
        for own in Own::ALL {
            let text = std::fs::read_to_string(checkout::path(own.dockerfile())).unwrap();
            assert!(text.contains(&format!(" AS {PREBUILT}\n")), "{}", own.dockerfile());
            assert!(text.contains(&format!("COPY {} ", own.program())), "{}", own.dockerfile());
        }
    }
}
