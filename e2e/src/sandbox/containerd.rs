//! The node's image store: what it has, and importing what it lacks. Uses the program `ctr` on the node's socket.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use tokio::process::Command;

use super::{
    command::{output, program},
    images::Image,
    settings::Settings,
    wait::until,
};

/// How long containerd may take to answer after the node's start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until containerd answers.
pub(super) async fn ready(settings: &Settings) -> Result<()> {
    until(settings, "containerd", PATIENCE, async || {
        Ok(output(ctr(settings).arg("version")).await.is_ok().then_some(()).ok_or_else(|| "it does not answer".to_owned()))
    })
    .await
}

/// Imports an image.
pub(super) async fn import(settings: &Settings, image: &Image) -> Result<()> {
    let mut import = ctr(settings);
    import.args(["images", "import"]).arg(&image.archive);
    output(&mut import).await.with_context(|| format!("cannot load {} into the node", image.name)).map(drop)
}

/// Digests of the node's images, by name.
pub(super) async fn images(settings: &Settings) -> Result<BTreeMap<String, String>> {
    let listing = output(ctr(settings).args(["images", "list"])).await.context("cannot list the node's images")?;
    Ok(parse(&listing))
}

fn ctr(settings: &Settings) -> Command {
    let mut command = program("ctr");
    command.arg("--address").arg(settings.containerd_socket()).args(["--namespace", "k8s.io"]);
    command
}

/// Names and digests from ctr's table: `REF TYPE DIGEST SIZE ...`.
fn parse(listing: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let mut columns = line.split_whitespace();
        Some((columns.next()?.to_owned(), columns.nth(1)?.to_owned()))
    };
    listing.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_gives_names_and_digests() {
        let listing = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
            localhost/sojourn/pause:1.34.4 application/vnd.oci.image.manifest.v1+json sha256:ab12 728.5 KiB linux/amd64 x=y\n";
        assert_eq!(parse(listing), BTreeMap::from([("localhost/sojourn/pause:1.34.4".into(), "sha256:ab12".into())]));
    }
}
