//! What the operator renders for an InferenceService, as far as one pod's processes need it. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, EnvVar};
use sojourn_contract::{flag, label, path, port};
use sojourn_operator::cli;
use sojourn_operator::reconcile::render::render;
use sojourn_operator::reconcile::validate::validate;
use sojourn_operator::settings::Settings;

use super::ports::Ports;
use crate::manifest::Manifest;

/// Name of the one pod.
pub const POD: &str = "smollm-0";
/// What the memory limiter of a container goes by: parts of the limit, percent.
const MEMORY_LIMITER: [(&str, &str, u64); 2] =
    [("spike_limit_percentage: 20", "spike_limit_mib", 20), ("limit_percentage: 80", "limit_mib", 80)];

/// The parts of it.
pub struct Rendered {
    configuration: String,
    engine: Vec<String>,
    sidecar: Vec<String>,
    pub engine_environment: BTreeMap<String, String>,
    pub sidecar_environment: BTreeMap<String, String>,
    /// Memory limit of the collector's container, bytes.
    pub memory_limit: u64,
}

impl Rendered {
    /// Renders as the operator does.
    pub fn of(manifest: &Manifest) -> Result<Self> {
        let settings = Settings::default();
        let service = validate(&cli::parse(&manifest.yaml())?.remove(0), &settings)?;
        let children = render(&service, &settings)?;
        let data = children.config_map.and_then(|config_map| config_map.data).unwrap_or_default();
        let configuration = data.get(path::COLLECTOR_CONFIG_FILE).context("tracing is off: there is no collector")?.clone();
        let template = children.deployment.spec.template.spec.unwrap_or_default();
        let containers: Vec<Container> =
            template.init_containers.unwrap_or_default().into_iter().chain(template.containers).collect();
        let named = |name: &str| containers.iter().find(|container| container.name == name).context("no such container");
        let (engine, collector) = (named(label::ENGINE_CONTAINER)?, named(label::COLLECTOR_CONTAINER)?);
        let command = |container: &Container| {
            [container.command.clone(), container.args.clone()].into_iter().flatten().flatten().collect()
        };
        let fields = fields(&children.revision);
        Ok(Self {
            configuration,
            engine: command(engine),
            sidecar: command(collector),
            engine_environment: environment(engine.env.as_deref().unwrap_or_default(), &fields)?,
            sidecar_environment: environment(collector.env.as_deref().unwrap_or_default(), &fields)?,
            memory_limit: service.tracing.context("tracing is off")?.collector.memory_limit,
        })
    }

    /// The engine's arguments with another model, and with these flags instead of its own of the same names.
    pub fn engine_arguments(&self, model: &str, flags: &[String]) -> Result<Vec<String>> {
        let serve = self.engine.iter().position(|word| word == "serve").context("the engine's command is of another form")?;
        let theirs = &self.engine[serve + 2..];
        // Host and port are given by who starts a server.
        let replaced = [format!("--{}=", flag::HOST), format!("--{}=", flag::PORT)];
        let kept = without(theirs, replaced.iter().chain(flags));
        Ok(["serve".to_owned(), model.to_owned()].into_iter().chain(kept).chain(flags.iter().cloned()).collect())
    }

    /// The supervisor's arguments with these flags, and with another collector behind it.
    pub fn sidecar_arguments(&self, flags: &[String], collector: &Path) -> Result<Vec<String>> {
        let end = self.sidecar.iter().position(|word| word == "--").context("the sidecar's command is of another form")?;
        let theirs = without(&self.sidecar[1..end], flags.iter());
        let collector = collector.display().to_string();
        Ok(theirs.into_iter().chain(flags.iter().cloned()).chain(["--".to_owned(), collector]).collect())
    }

    /// The collector's configuration for these ports, this directory of credentials, and a limit that no container has.
    pub fn configuration(&self, ports: &Ports, credentials: &Path) -> Result<String> {
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut text = self.configuration.replace(path::TELEMETRY_CREDENTIALS_DIR, &credentials.display().to_string());
        let mut pairs = vec![
            (address(port::OTLP_GRPC), address(ports.otlp_grpc)),
            (address(port::OTLP_HTTP), address(ports.otlp_http)),
            (format!("port: {}", port::COLLECTOR_METRICS), format!("port: {}", ports.metrics)),
        ];
        pairs.extend(MEMORY_LIMITER.map(|(percentage, name, percent)| {
            (percentage.to_owned(), format!("{name}: {}", (self.memory_limit * percent / 100) >> 20))
        }));
        for (rendered, own) in pairs {
            if !text.contains(&rendered) {
                bail!("the rendered configuration has no '{rendered}'");
            }
            text = text.replace(&rendered, &own);
        }
        Ok(text)
    }
}

/// The words without the flags that others replace; all are of the form `--name=value`.
fn without<'a>(words: &[String], others: impl Iterator<Item = &'a String>) -> Vec<String> {
    let name = |flag: &str| flag.split_once('=').map_or(flag, |(name, _)| name).to_owned();
    let replaced: Vec<String> = others.map(|flag| name(flag)).collect();
    words.iter().filter(|word| !replaced.contains(&name(word))).cloned().collect()
}

/// What the downward API would say.
fn fields(revision: &str) -> BTreeMap<String, String> {
    let revision_field = format!("metadata.labels['{}']", label::REVISION);
    [
        ("metadata.name", POD),
        ("metadata.namespace", "default"),
        ("metadata.uid", "5f0c7a52-6b0e-4d0e-9a57-0c1f2f6f1a11"),
        ("spec.nodeName", "node-1"),
        (&revision_field, revision),
    ]
    .into_iter()
    .map(|(field, value)| (field.to_owned(), value.to_owned()))
    .collect()
}

/// The variables as the kubelet gives them: `$(NAME)` is the value of one that stands before.
fn environment(variables: &[EnvVar], fields: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut environment = BTreeMap::<String, String>::new();
    for variable in variables {
        let field = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
        let value = match (&variable.value, field) {
            (Some(text), _) => {
                environment.iter().fold(text.clone(), |text, (name, value)| text.replace(&format!("$({name})"), value))
            }
            (None, Some(field)) => {
                fields.get(&field.field_path).with_context(|| format!("no field {}", field.field_path))?.clone()
            }
            (None, None) => bail!("{} comes from a Secret, and there is none", variable.name),
        };
        environment.insert(variable.name.clone(), value);
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_replaced_by_its_name_and_the_others_stay() {
        let words: Vec<String> = ["run", "--port=8000", "--port-range=1"].map(str::to_owned).into();
        let others = ["--port=1".to_owned()];
        assert_eq!(without(&words, others.iter()), ["run", "--port-range=1"]);
    }

    #[test]
    fn references_are_filled_in_and_no_port_of_the_contract_is_left() {
        let rendered = Rendered::of(&Manifest::smollm("smollm")).unwrap();
        let attributes = &rendered.engine_environment["OTEL_RESOURCE_ATTRIBUTES"];
        assert!(attributes.contains("service.instance.id=default.smollm-0.main") && !attributes.contains('$'), "{attributes}");
        let ports = Ports { admin: 1, sidecar: 2, otlp_grpc: 3, otlp_http: 4, metrics: 5 };
        let text = rendered.configuration(&ports, Path::new("/tmp/keys")).unwrap();
        assert!(["4318", "8888", "percentage: 80"].iter().all(|part| !text.contains(part)), "{text}");
        assert!(text.contains("limit_mib: 204") && text.contains("spike_limit_mib: 51"), "{text}");
    }
}
