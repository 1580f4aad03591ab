//! What the sandbox needs of the machine: programs and files, by the Debian package that brings each.
//! On Debian and Ubuntu, as root, what is missing is installed and nothing is removed for it: a containerd or runc that is
//! there, Debian's or Docker's, is used. Elsewhere what is missing is listed.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use super::{
    command::{find, output},
    progress::Progress,
};

struct Prerequisite {
    /// Any one of these will do: a program by its name, a file by its path.
    any_of: &'static [&'static str],
    /// Debian's package; `None` when it is not apt's to bring.
    package: Option<&'static str>,
}

const fn package(package: &'static str, any_of: &'static [&'static str]) -> Prerequisite {
    Prerequisite { any_of, package: Some(package) }
}

/// Directories in which the network plug-ins may lie, by preference.
pub(super) const NETWORK_PLUGIN_DIRECTORIES: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

const PREREQUISITES: &[Prerequisite] = &[
    package("containerd", &["containerd"]),
    package("containerd", &["ctr"]),
    package("runc", &["runc"]),
    package("containernetworking-plugins", &["/usr/lib/cni/ptp", "/opt/cni/bin/ptp"]),
    package("iptables", &["iptables"]),
    package("iproute2", &["ip"]),
    package("util-linux", &["setpriv"]),
    package("util-linux", &["nsenter"]),
    package("buildah", &["buildah"]),
    package("busybox-static", &["busybox"]),
    package("ca-certificates", &["/etc/ssl/certs/ca-certificates.crt"]),
    package("gcc", &["gcc"]),
    package("libc6-dev", &["/usr/lib/x86_64-linux-gnu/libc.a", "/usr/lib/aarch64-linux-gnu/libc.a", "/usr/lib64/libc.a"]),
    package("libstdc++6", &["/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib/aarch64-linux-gnu/libstdc++.so.6"]),
    package("binutils", &["strip"]),
    package("tar", &["tar"]),
    Prerequisite { any_of: &["go"], package: None },
    Prerequisite { any_of: &["cargo"], package: None },
];

/// Makes sure that everything is there, or says what is not.
pub(super) async fn ensure_installed(progress: &Progress) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the sandbox makes namespaces, links and mounts: run it as root");
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let foreign: Vec<&str> = missing.iter().filter(|one| one.package.is_none()).map(|one| one.any_of[0]).collect();
    ensure!(
        foreign.is_empty(),
        "install {} and put it on the PATH: go 1.26 or newer, cargo 1.94 or newer",
        foreign.join(" and ")
    );
    let mut packages: Vec<&str> = missing.iter().filter_map(|one| one.package).collect();
    packages.dedup();
    if find("apt-get").is_none() {
        let lacking: Vec<&str> = missing.iter().map(|one| one.any_of[0]).collect();
        bail!("this machine lacks {}: install them (on Debian the packages are {})", lacking.join(", "), packages.join(" "));
    }
    install(&packages, progress).await?;
    let still: Vec<&str> = self::missing().iter().map(|one| one.any_of[0]).collect();
    ensure!(still.is_empty(), "{} is still missing after installing {}", still.join(", "), packages.join(" "));
    Ok(())
}

fn missing() -> Vec<&'static Prerequisite> {
    PREREQUISITES.iter().filter(|one| !one.any_of.iter().any(|name| is_there(name))).collect()
}

fn is_there(name: &str) -> bool {
    if name.starts_with('/') { Path::new(name).exists() } else { find(name).is_some() }
}

async fn install(packages: &[&str], progress: &Progress) -> Result<()> {
    let step = progress.step(format!("installing {}", packages.join(" ")));
    step.at("apt-get update");
    output(apt_get().arg("update")).await?;
    let plan = output(apt_get().args(["--simulate", "install"]).args(packages)).await?;
    let updated = updates(&plan);
    if !updated.is_empty() {
        progress.say(&format!("{} must be updated with them", updated.join(" ")));
    }
    step.at("apt-get install");
    output(apt_get().args(["--yes", "install"]).args(packages)).await.context("cannot install what the sandbox needs")?;
    step.done();
    Ok(())
}

/// Not one that ends with us: an installation that is cut off has to be repaired by hand.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .stdin(Stdio::null())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .args(["--no-remove", "--no-upgrade", "--no-install-recommends", "--quiet"])
        .args(["-o", "Dpkg::Options::=--force-confold", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

/// The installed packages that a plan of apt's brings to the version which the new ones ask for; it shows the old in brackets.
fn updates(simulation: &str) -> Vec<&str> {
    let package = |line| {
        let mut words = str::split_whitespace(line);
        let name = (words.next() == Some("Inst")).then(|| words.next()).flatten()?;
        words.next()?.starts_with('[').then_some(name)
    };
    simulation.lines().filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_told_from_additions() {
        let plan = "Reading package lists...\n\
            Inst runc (1.1.5 Debian:12/stable [amd64])\n\
            Inst passwd [4.13-1] (4.13-2 Debian:12/stable [amd64]) []\n\
            Conf runc (1.1.5 Debian:12/stable [amd64])";
        assert_eq!(updates(plan), ["passwd"]);
    }
}
