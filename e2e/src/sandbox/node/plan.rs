//! What a node is made from, written down as `plan.json` when it starts: the first process does what it says, and a later
//! `up` sees by it whether the node that runs is still the one that it would make.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    components::{Component, Programs, components},
    configuration, layout,
};
use crate::sandbox::{
    binaries::Binaries,
    command::find,
    prerequisites::NETWORK_PLUGIN_DIRECTORIES,
    settings::{Settings, write_whole},
};

/// Everything about a node but its keys, which differ each time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Plan {
    /// The sandbox's settings when the node started.
    pub settings: Settings,
    /// The node's programs.
    pub components: Vec<Component>,
    /// Configuration files, by their path below the state's `etc`.
    pub files: BTreeMap<String, String>,
}

impl Plan {
    /// The plan for a node that starts now.
    pub fn new(settings: &Settings, binaries: &Binaries) -> Result<Self> {
        let programs = Programs {
            kubernetes: inside(settings, &binaries.kubernetes)?,
            etcd: inside(settings, &binaries.etcd)?,
            containerd: find("containerd").context("there is no containerd")?.to_string_lossy().into_owned(),
        };
        let plugins = NETWORK_PLUGIN_DIRECTORIES
            .into_iter()
            .find(|directory| Path::new(directory).join("ptp").exists())
            .context("there are no network plug-ins")?;
        Ok(Self {
            settings: settings.clone(),
            components: components(settings, &programs),
            files: configuration::files(settings, plugins)?,
        })
    }

    /// The plan of the node whose state is in `state`; `None` when there is none, or one from another version.
    pub fn read(state: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(path(state)).ok()?).ok()
    }

    /// Whether a node was started with its state in `state` since the last `down`.
    pub fn exists(state: &Path) -> bool {
        path(state).exists()
    }

    /// Writes the plan down, last of all that a node starts from.
    pub fn write(&self) -> Result<()> {
        write_whole(&path(&self.settings.state), &serde_json::to_string_pretty(self)?)
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("plan.json")
}

/// Where the node sees a directory of built programs.
fn inside(settings: &Settings, directory: &Path) -> Result<String> {
    let relative = directory.strip_prefix(settings.programs()).context("programs lie in the cache")?;
    Ok(format!("{}/{}", layout::PROGRAMS, relative.display()))
}
