//! The file that the collector really reads: the mounted one with the credentials filled in. Pure.
//!
//! It is written as JSON, which is YAML in which no string can be taken for a number or a boolean.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_yaml::{Mapping, Value};
use sha2::{Digest, Sha256};
use sojourn_contract::collector::{SECRET_KEY, destination_of};

use crate::log::Scrubber;

/// Exporter of a pipeline that has no other left.
const NOP: &str = "nop";

/// The credentials Secret as it is mounted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Where it is mounted, for files that the configuration names by their path.
    pub dir: String,
    /// Its keys with their values.
    pub values: BTreeMap<String, String>,
}

impl Credentials {
    /// The value of a key without the white space around it (`--from-file` keeps the newline, and gRPC refuses the header);
    /// `None` also for an empty one, which no destination can mean.
    fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The key whose file has this path.
    fn key_of_path<'a>(&self, path: &'a str) -> Option<&'a str> {
        let dir = Some(self.dir.as_str()).filter(|dir| !dir.is_empty())?;
        path.strip_prefix(dir)?.strip_prefix('/')
    }
}

/// One destination of the file: an exporter that the operator made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Name in `spec.tracing.destinations`.
    pub destination: String,
    /// Name of the exporter.
    pub exporter: String,
    /// Keys that the Secret lacks; with any, the exporter is left out.
    pub missing_keys: Vec<String>,
}

/// A configuration that a collector can be started with. It has no `Debug`: it holds credentials.
#[derive(Clone)]
pub struct Effective {
    /// SHA-256 of the mounted file, 16 hexadecimal digits.
    pub revision: String,
    /// Digest of the whole content, the credentials included: two that are equal need no restart.
    pub fingerprint: String,
    /// The content.
    pub text: String,
    /// The destinations in the file's order, those left out included.
    pub routes: Vec<Route>,
    /// Removes the credentials from what the collector logs.
    pub scrubber: Scrubber,
}

/// Why no configuration can be made of the mounted file.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be parsed.
    #[error("the mounted configuration is not YAML: {0}")]
    NotYaml(#[from] serde_yaml::Error),
    /// It is a list, a word, or nothing.
    #[error("the mounted configuration is not a mapping of receivers, exporters and so on")]
    NotAMapping,
    /// Only an exporter can be left out for want of a credential.
    #[error("the credentials Secret has no key '{key}', and {section} cannot go without it: add the key")]
    Missing {
        /// Where the key is asked for.
        section: String,
        /// The key.
        key: String,
    },
    /// It cannot be written as JSON.
    #[error("the mounted configuration cannot be written as JSON: {0}")]
    NotJson(#[from] serde_json::Error),
}

/// Makes the collector's configuration from the mounted file and the credentials, without these exporters.
pub fn render(mounted: &str, credentials: &Credentials, without: &BTreeSet<String>) -> Result<Effective, Refusal> {
    let mut root: Value = serde_yaml::from_str(mounted)?;
    root.apply_merge()?;
    let sections = root.as_mapping_mut().ok_or(Refusal::NotAMapping)?;
    let mut filler = Filler { credentials, used: BTreeMap::new() };

    let mut routes = Vec::new();
    let mut left_out = without.clone();
    for (section, content) in sections.iter_mut() {
        match (section.as_str(), content.as_mapping_mut()) {
            (Some("exporters"), Some(exporters)) => {
                for (id, exporter) in exporters.iter_mut() {
                    let missing_keys: Vec<String> = filler.fill(exporter).into_iter().collect();
                    let id = name(id);
                    if !missing_keys.is_empty() {
                        left_out.insert(id.clone());
                    }
                    if let Some(destination) = destination_of(&id) {
                        routes.push(Route { destination: destination.to_owned(), exporter: id, missing_keys });
                    }
                }
            }
            _ => {
                if let Some(key) = filler.fill(content).pop_first() {
                    return Err(Refusal::Missing { section: name(section), key });
                }
            }
        }
    }
    leave_out(sections, &left_out);

    let text = serde_json::to_string_pretty(&root)?;
    let content = filler
        .used
        .iter()
        .fold(Sha256::new_with_prefix(&text), |content, (key, value)| content.chain_update(format!("\0{key}\0{value}")));
    Ok(Effective {
        revision: digits(Sha256::digest(mounted)),
        fingerprint: digits(content.finalize()),
        text,
        routes,
        scrubber: Scrubber::new(filler.used.into_values().collect()),
    })
}

/// Puts the values of the credentials where the mounted file asks for them.
struct Filler<'a> {
    credentials: &'a Credentials,
    used: BTreeMap<String, String>,
}

impl Filler<'_> {
    /// Fills in one node and all below it; answers the keys that are missing.
    fn fill(&mut self, node: &mut Value) -> BTreeSet<String> {
        let mut missing = BTreeSet::new();
        self.visit(node, &mut missing);
        missing
    }

    fn visit(&mut self, node: &mut Value, missing: &mut BTreeSet<String>) {
        match node {
            Value::Mapping(mapping) => match secret_key(mapping).map(str::to_owned) {
                // The collector would expand `${...}` and `$NAME`.
                Some(key) => {
                    if let Some(value) = self.take(&key, missing) {
                        *node = Value::String(value.replace('$', "$$"));
                    }
                }
                None => mapping.values_mut().for_each(|value| self.visit(value, missing)),
            },
            Value::String(text) => {
                if let Some(key) = self.credentials.key_of_path(text) {
                    self.take(key, missing);
                }
            }
            Value::Sequence(items) => items.iter_mut().for_each(|item| self.visit(item, missing)),
            Value::Tagged(tagged) => self.visit(&mut tagged.value, missing),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A credential that the configuration asks for, by its key or by the path of its file.
    fn take(&mut self, key: &str, missing: &mut BTreeSet<String>) -> Option<&str> {
        let value = self.credentials.value(key);
        match value {
            Some(value) => drop(self.used.insert(key.to_owned(), value.to_owned())),
            None => drop(missing.insert(key.to_owned())),
        }
        value
    }
}

/// The key that a mapping stands for, if it is `{secretKey: KEY}` and nothing else.
fn secret_key(mapping: &Mapping) -> Option<&str> {
    match mapping.len() {
        1 => mapping.get(SECRET_KEY)?.as_str(),
        _ => None,
    }
}

/// Removes exporters, also from the pipelines; a pipeline without any gets the one that does nothing.
fn leave_out(sections: &mut Mapping, left_out: &BTreeSet<String>) {
    let mut needs_nop = false;
    let pipelines = sections.get_mut("service").and_then(|service| service.get_mut("pipelines"));
    for (_, pipeline) in pipelines.and_then(Value::as_mapping_mut).into_iter().flat_map(Mapping::iter_mut) {
        if let Some(exporters) = pipeline.get_mut("exporters").and_then(Value::as_sequence_mut) {
            exporters.retain(|exporter| !left_out.contains(&name(exporter)));
            if exporters.is_empty() {
                exporters.push(Value::from(NOP));
                needs_nop = true;
            }
        }
    }
    if needs_nop && !sections.contains_key("exporters") {
        sections.insert(Value::from("exporters"), Value::Mapping(Mapping::new()));
    }
    if let Some(exporters) = sections.get_mut("exporters").and_then(Value::as_mapping_mut) {
        exporters.retain(|id, _| !left_out.contains(&name(id)));
        if needs_nop && !exporters.contains_key(NOP) {
            exporters.insert(Value::from(NOP), Value::Mapping(Mapping::new()));
        }
    }
}

/// A key of the file as the collector names it.
fn name(key: &Value) -> String {
    key.as_str().unwrap_or_default().to_owned()
}

fn digits(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("dir", &self.dir).field("keys", &self.values.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
