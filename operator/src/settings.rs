//! What the operator's own flags say: images and defaults of every service. Read once at the start; a plain value after that.

use clap::Args;
use sojourn_contract::image;

use crate::crd::tracing::{Protocol, Sampling};

/// Images and defaults of every service.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Settings {
    /// Image of the engine for services without a GPU.
    #[arg(long, env = "SOJOURN_ENGINE_IMAGE_CPU", default_value_t = default_image(image::ENGINE))]
    pub engine_image_cpu: String,
    /// Image of the engine for services with a GPU.
    #[arg(long, env = "SOJOURN_ENGINE_IMAGE_CUDA", default_value_t = default_image(image::ENGINE_CUDA))]
    pub engine_image_cuda: String,
    /// Image of the collector's supervisor.
    #[arg(long, env = "SOJOURN_SIDECAR_IMAGE", default_value_t = default_image(image::SIDECAR))]
    pub sidecar_image: String,
    /// Image of the collector for services that name none.
    #[arg(long, env = "SOJOURN_COLLECTOR_IMAGE", default_value = "otel/opentelemetry-collector-k8s:0.161.0")]
    pub collector_image: String,
    /// Entry point of that image; repeat it for further arguments.
    #[arg(long, env = "SOJOURN_COLLECTOR_COMMAND", value_delimiter = ' ', default_value = "/otelcol-k8s")]
    pub collector_command: Vec<String>,
    /// OTLP endpoint for services that name no destination, without credentials.
    #[arg(long, env = "SOJOURN_DEFAULT_DESTINATION", value_parser = non_empty)]
    pub default_destination: Option<String>,
    /// Protocol of the default destination: grpc or http.
    #[arg(long, env = "SOJOURN_DEFAULT_PROTOCOL", default_value = "grpc", value_parser = protocol)]
    pub default_protocol: Protocol,
    /// Sampling for what a service leaves out, JSON in the form of `spec.tracing.sampling`.
    #[arg(long, env = "SOJOURN_DEFAULT_SAMPLING", default_value = "{}", value_parser = sampling)]
    pub default_sampling: Sampling,
    /// Allows `file:///` models, which mount a directory of the node.
    #[arg(long, env = "SOJOURN_ALLOW_FILE_MODELS")]
    pub allow_file_models: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine_image_cpu: default_image(image::ENGINE),
            engine_image_cuda: default_image(image::ENGINE_CUDA),
            sidecar_image: default_image(image::SIDECAR),
            collector_image: "otel/opentelemetry-collector-k8s:0.161.0".into(),
            collector_command: vec!["/otelcol-k8s".into()],
            default_destination: None,
            default_protocol: Protocol::Grpc,
            default_sampling: Sampling::default(),
            allow_file_models: false,
        }
    }
}

fn default_image(name: &str) -> String {
    format!("{}/{name}:{}", image::REGISTRY, env!("CARGO_PKG_VERSION"))
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(text.to_owned());
    }
    Err("write http://HOST:PORT, or https://HOST:PORT for TLS".into())
}

fn protocol(text: &str) -> Result<Protocol, String> {
    serde_json::from_value(text.into()).map_err(|_| "write grpc or http".into())
}

fn sampling(text: &str) -> Result<Sampling, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn flags_that_are_left_out_give_the_default_settings() {
        assert_eq!(Cli::parse_from(["operator"]).settings, Settings::default());
    }

    #[test]
    fn a_default_sampling_with_an_unknown_field_is_refused() {
        let error = Cli::try_parse_from(["operator", "--default-sampling", r#"{"rat":"10%"}"#]).err().unwrap();
        assert!(error.to_string().contains("unknown field `rat`"), "{error}");
    }
}
