//! Reads what the kubelet mounts, and writes the file that the collector reads.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sojourn_contract::path::COLLECTOR_CONFIG_FILE;

use crate::effective::Credentials;

/// The symbolic link that the kubelet swaps when it renews a volume.
const KUBELET_DATA: &str = "..data";

/// The mounted configuration and credentials at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The configuration that the operator rendered.
    pub text: String,
    /// The credentials Secret; empty where it does not exist.
    pub credentials: Credentials,
}

/// What could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {path}: {reason}", path = path.display())]
pub struct Unreadable {
    path: PathBuf,
    reason: String,
}

/// Reads both directories. A second try follows a failure, because the kubelet may just have removed what a link led to.
pub fn read(config_dir: &Path, credentials_dir: &Path) -> Result<Mounted, Unreadable> {
    let attempt = || {
        let path = version(config_dir).join(COLLECTOR_CONFIG_FILE);
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&config_dir.join(COLLECTOR_CONFIG_FILE), &error))?;
        Ok(Mounted { text, credentials: credentials(credentials_dir)? })
    };
    attempt().or_else(|_: Unreadable| attempt())
}

/// The directory behind the kubelet's link, so that all files are of one version.
fn version(dir: &Path) -> PathBuf {
    dir.join(KUBELET_DATA).canonicalize().unwrap_or_else(|_| dir.to_owned())
}

fn credentials(dir: &Path) -> Result<Credentials, Unreadable> {
    let mut credentials = Credentials { dir: dir.display().to_string(), ..Credentials::default() };
    let entries = match fs::read_dir(version(dir)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(credentials),
        Err(error) => return Err(unreadable(dir, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| unreadable(dir, &error))?.path();
        let Some(key) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with("..")) else {
            continue;
        };
        if !path.is_file() {
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(value) => drop(credentials.values.insert(key.to_owned(), value)),
            // No header or certificate is binary: as good as not there.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(credentials)
}

fn unreadable(path: &Path, error: &io::Error) -> Unreadable {
    Unreadable { path: path.to_owned(), reason: error.to_string() }
}

/// Writes the collector's file, readable for its own user alone, and answers its path.
pub fn write(run_dir: &Path, text: &str) -> io::Result<PathBuf> {
    let path = run_dir.join(COLLECTOR_CONFIG_FILE);
    let unfinished = run_dir.join(format!(".{COLLECTOR_CONFIG_FILE}"));
    if let Err(error) = fs::remove_file(&unfinished)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&unfinished, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A volume as the kubelet lays it out: `KEY -> ..data/KEY`, `..data -> ..VERSION`.
    fn mount(dir: &Path, version: &str, files: &[(&str, &[u8])]) {
        let data = dir.join(format!("..{version}"));
        fs::create_dir_all(&data).unwrap();
        for (name, content) in files {
            fs::write(data.join(name), content).unwrap();
            let link = dir.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new(KUBELET_DATA).join(name), link).unwrap();
            }
        }
        symlink(format!("..{version}"), dir.join("..new")).unwrap();
        fs::rename(dir.join("..new"), dir.join(KUBELET_DATA)).unwrap();
    }

    #[test]
    fn a_volume_of_the_kubelet_is_read_and_its_renewal_seen() {
        let (config, secret) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        mount(config.path(), "1", &[(COLLECTOR_CONFIG_FILE, b"one")]);
        mount(secret.path(), "1", &[("tempo", b"t1\n"), ("binary", b"\xff\xfe")]);
        let before = read(config.path(), secret.path()).unwrap();
        assert_eq!(before.text, "one");
        assert_eq!(before.credentials.values.into_iter().collect::<Vec<_>>(), [("tempo".to_owned(), "t1\n".to_owned())]);
        mount(config.path(), "2", &[(COLLECTOR_CONFIG_FILE, b"two")]);
        fs::remove_dir_all(config.path().join("..1")).unwrap();
        assert_eq!(read(config.path(), secret.path()).unwrap().text, "two");
    }

    #[test]
    fn a_secret_that_does_not_exist_is_an_empty_one() {
        let config = tempfile::tempdir().unwrap();
        mount(config.path(), "1", &[(COLLECTOR_CONFIG_FILE, b"one")]);
        assert!(read(config.path(), &config.path().join("none")).unwrap().credentials.values.is_empty());
    }

    #[test]
    fn a_missing_configuration_is_named() {
        let config = tempfile::tempdir().unwrap();
        let error = read(config.path(), config.path()).err().unwrap().to_string();
        assert!(error.starts_with(&format!("cannot read {}/collector.yaml: ", config.path().display())), "{error}");
    }

    #[test]
    fn the_written_file_is_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a long first text").unwrap();
        let path = write(dir.path(), "short").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "short");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
