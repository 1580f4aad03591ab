//! What distinguishes one sandbox from another on the same machine: names, directories, address ranges.
//! Pure but for reading and writing `settings.json`; knows nothing of how any of it is used.

use std::{
    fmt,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The longest name that Linux gives to a network link.
const LONGEST_LINK_NAME: usize = 15;

/// Everything that makes a sandbox its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the Kubernetes node, of its link on the host and of its cgroup; at most 15 characters.
    pub name: String,
    /// What the running cluster writes; `down` removes it.
    pub state: PathBuf,
    /// What takes minutes to make and is kept: binaries, images, models.
    pub cache: PathBuf,
    /// The two ends of the link: the first address is the host's, the second the node's.
    pub link: Range,
    /// Addresses of pods; routed from the host.
    pub pods: Range,
    /// Addresses of Services; routed from the host.
    pub services: Range,
}

impl Settings {
    /// The sandbox that `sandbox up` makes: cache in `${SOJOURN_CACHE:-~/.cache/sojourn}`, state in
    /// `${SOJOURN_SANDBOX:-CACHE/sandbox}`.
    pub fn from_environment() -> Result<Self> {
        let directory = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(std::path::absolute).transpose();
        let cache = match (directory("SOJOURN_CACHE")?, directory("HOME")?) {
            (Some(cache), _) => cache,
            (None, Some(home)) => home.join(".cache/sojourn"),
            (None, None) => bail!("set SOJOURN_CACHE or HOME: one says where the cache goes"),
        };
        Ok(Self {
            name: "sojourn".into(),
            state: directory("SOJOURN_SANDBOX")?.unwrap_or_else(|| cache.join("sandbox")),
            cache,
            link: Range::new([10, 77, 0, 0], 30),
            pods: Range::new([10, 244, 0, 0], 16),
            services: Range::new([10, 96, 0, 0], 16),
        })
    }

    /// Reads the settings of the sandbox whose state is in `state`; `None` when there is none.
    pub fn read(state: &Path) -> Result<Option<Self>> {
        let path = state.join("settings.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let settings = serde_json::from_str(&text).with_context(|| format!("{} is damaged: delete it", path.display()))?;
        Ok(Some(settings))
    }

    /// Writes `settings.json` into the state directory, whole or not at all.
    pub fn write(&self) -> Result<()> {
        self.check()?;
        write_whole(&self.state.join("settings.json"), &serde_json::to_string_pretty(self)?)
    }

    fn check(&self) -> Result<()> {
        let letters = self.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        ensure!(
            letters && !self.name.is_empty() && self.name.len() <= LONGEST_LINK_NAME,
            "the sandbox's name {:?} must be 1 to {LONGEST_LINK_NAME} lower-case letters, digits and dashes",
            self.name
        );
        ensure!(self.state.is_absolute() && self.cache.is_absolute(), "state and cache must be absolute paths");
        let ranges = [&self.link, &self.pods, &self.services];
        for (index, one) in ranges.iter().enumerate() {
            for other in &ranges[index + 1..] {
                ensure!(!one.overlaps(other), "the ranges {one} and {other} overlap");
            }
        }
        Ok(())
    }

    /// The host's end of the link.
    pub fn host_address(&self) -> Ipv4Addr {
        self.link.host(1)
    }

    /// The node's end of the link.
    pub fn node_address(&self) -> Ipv4Addr {
        self.link.host(2)
    }

    /// The API server as pods know it.
    pub fn kubernetes_service(&self) -> Ipv4Addr {
        self.services.host(1)
    }

    /// Cluster DNS.
    pub fn dns_service(&self) -> Ipv4Addr {
        self.services.host(10)
    }

    /// Jaeger.
    pub fn jaeger_service(&self) -> Ipv4Addr {
        self.services.host(16)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// containerd's socket, as the host sees it.
    pub fn containerd_socket(&self) -> PathBuf {
        self.state.join("run/containerd/containerd.sock")
    }

    /// The log of one of the node's programs.
    pub fn log(&self, program: &str) -> PathBuf {
        self.state.join("log").join(format!("{program}.log"))
    }

    /// Model files, which the node sees read-only.
    pub fn models(&self) -> PathBuf {
        self.cache.join("models")
    }

    /// Programs that were built, which the node sees read-only.
    pub fn programs(&self) -> PathBuf {
        self.cache.join("bin")
    }
}

/// Writes a file so that a reader sees the old content or the new, never half of it.
pub(super) fn write_whole(path: &Path, content: &str) -> Result<()> {
    let directory = path.parent().context("a file has a directory")?;
    let write = || {
        std::fs::create_dir_all(directory)?;
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, content)?;
        std::fs::rename(&unfinished, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A range of IPv4 addresses, written `10.244.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    first: Ipv4Addr,
    prefix: u8,
}

impl Range {
    /// The range of `prefix` bits that begins at `first`; bits beyond the prefix are dropped.
    pub const fn new(first: [u8; 4], prefix: u8) -> Self {
        let address = u32::from_be_bytes(first) & Self::mask(prefix);
        Self { first: Ipv4Addr::from_bits(address), prefix }
    }

    /// The address at `index`, counted from the range's first.
    pub fn host(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() + index)
    }

    /// Length of the prefix, bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address lies in both.
    pub fn overlaps(&self, other: &Range) -> bool {
        let mask = Self::mask(self.prefix.min(other.prefix));
        self.first.to_bits() & mask == other.first.to_bits() & mask
    }

    const fn mask(prefix: u8) -> u32 {
        if prefix == 0 { 0 } else { u32::MAX << (32 - prefix as u32) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Range {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let (Ok(address), Ok(prefix)) = (address.parse::<Ipv4Addr>(), prefix.parse::<u8>()) else {
            bail!("{text:?} is no range of addresses: write it like 10.244.0.0/16");
        };
        ensure!(prefix <= 32, "{text:?} has a prefix of more than 32 bits");
        Ok(Self::new(address.octets(), prefix))
    }
}

impl TryFrom<String> for Range {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_overlap_when_one_contains_the_other() {
        assert!(range("10.0.0.0/8").overlaps(&range("10.244.0.0/16")));
        assert!(range("10.244.3.0/24").overlaps(&range("10.244.0.0/16")));
        assert!(!range("10.244.0.0/16").overlaps(&range("10.245.0.0/16")));
        assert!(range("0.0.0.0/0").overlaps(&range("192.0.2.0/24")));
    }

    #[test]
    fn a_range_is_read_as_it_is_written() {
        assert_eq!(range("10.77.0.2/30").to_string(), "10.77.0.0/30");
        assert_eq!(range("10.77.0.0/30").host(2), Ipv4Addr::new(10, 77, 0, 2));
        assert_eq!(range("192.0.2.7").to_string(), "192.0.2.7/32");
        assert!("10.0.0.0/33".parse::<Range>().is_err());
        assert!("ten".parse::<Range>().is_err());
    }

    #[test]
    fn settings_survive_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            name: "trial".into(),
            state: directory.path().to_owned(),
            cache: "/tmp/cache".into(),
            link: range("10.78.0.0/30"),
            pods: range("10.245.0.0/16"),
            services: range("10.97.0.0/16"),
        };
        assert_eq!(Settings::read(directory.path()).unwrap(), None);
        settings.write().unwrap();
        assert_eq!(Settings::read(directory.path()).unwrap(), Some(settings.clone()));
        assert!(Settings { name: "Too-Long-For-A-Link".into(), ..settings.clone() }.write().is_err());
        assert!(Settings { pods: settings.services, ..settings }.write().is_err());
    }
}
