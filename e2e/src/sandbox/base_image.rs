//! The base of the images that hold dynamically linked programs, made of this machine's Debian packages: the libraries are
//! those that the programs were linked with, and nothing has to be pulled. It takes the place of a distroless base.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{
    command::{output, program},
    images::{AUTHORITIES, Image, Recipe, Source, build},
    progress::Progress,
};

/// What a dynamically linked Rust program with C++ parts needs of Debian.
const PACKAGES: [&str; 3] = ["libc6", "libgcc-s1", "libstdc++6"];
const NAME: &str = "localhost/sojourn/base:debian";
const DOCKERFILE: &str = "FROM scratch\nCOPY . /\nUSER 65532:65532\n";

/// The image and what is in it.
#[derive(Clone)]
pub(super) struct Base {
    pub image: Image,
    libraries: Vec<String>,
}

impl Base {
    /// Fails when a program needs shared libraries that are not in the image.
    pub async fn check_libraries(&self, program_file: &Path) -> Result<()> {
        let needed = output(program("ldd").arg(program_file)).await?;
        let lacking = lacking(&needed, &self.libraries);
        ensure!(lacking.is_empty(), "{} needs {}, which the base image lacks", program_file.display(), lacking.join(", "));
        Ok(())
    }
}

/// Shared libraries of the packages, the certificate authorities, and a user who is not root.
pub(super) async fn base(cache: &Path, progress: &Progress) -> Result<Base> {
    let listing = output(program("dpkg").arg("--listfiles").args(PACKAGES)).await.context("cannot list Debian's files")?;
    let libraries: Vec<String> = listing.lines().filter(|path| is_library(path)).map(str::to_owned).collect();
    ensure!(!libraries.is_empty(), "the packages {} have no libraries", PACKAGES.join(", "));
    let mut files: Vec<(String, Source)> = Vec::new();
    for library in &libraries {
        let path = library.trim_start_matches('/').to_owned();
        let source = match std::fs::read_link(library) {
            Ok(target) => Source::Link(target.to_string_lossy().into_owned()),
            Err(_) => Source::Copy(library.into()),
        };
        files.push((path, source));
    }
    files.push((AUTHORITIES[1..].to_owned(), Source::Copy(AUTHORITIES.into())));
    let text = |text: &str| Source::Text(text.to_owned());
    files.push(("etc/passwd".into(), text("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")));
    files.push(("etc/group".into(), text("root:x:0:\nnonroot:x:65532:\n")));
    files.push(("etc/nsswitch.conf".into(), text("hosts: files dns\n")));
    let recipe = Recipe { name: NAME.into(), dockerfile: DOCKERFILE.into(), target: None, base: None, files };
    Ok(Base { image: build(cache, &recipe, progress).await?, libraries })
}

/// A shared library where the loader looks for it, and the loader itself; not what only some programs load by name.
fn is_library(path: &str) -> bool {
    let Some((directory, name)) = path.rsplit_once('/') else { return false };
    let searched = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].contains(&directory)
        || (directory.starts_with("/lib/") || directory.starts_with("/usr/lib/")) && directory.ends_with("-linux-gnu");
    searched && (name.contains(".so.") || name.ends_with(".so"))
}

/// Of the libraries that `ldd` lists, the names that are not among `there`.
fn lacking<'a>(ldd: &'a str, there: &[String]) -> Vec<&'a str> {
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    ldd.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|needed| !needed.starts_with("linux-vdso") && *needed != "statically")
        .filter(|needed| !there.iter().any(|library| file(library) == file(needed)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_has_the_loader_and_libraries_and_no_plugins() {
        assert!(is_library("/lib64/ld-linux-x86-64.so.2"));
        assert!(is_library("/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(is_library("/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.30"));
        assert!(!is_library("/usr/lib/x86_64-linux-gnu/gconv/UTF-7.so"));
        assert!(!is_library("/usr/share/doc/libc6/copyright"));
    }

    #[test]
    fn a_library_that_the_base_lacks_is_named() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \tlibssl.so.3 => /lib/x86_64-linux-gnu/libssl.so.3 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let there = ["/lib/x86_64-linux-gnu/libc.so.6".to_owned(), "/lib64/ld-linux-x86-64.so.2".to_owned()];
        assert_eq!(lacking(ldd, &there), ["libssl.so.3"]);
    }
}
