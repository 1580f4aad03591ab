//! InferenceServices that scenarios apply.

use serde_json::{Value, json};

/// The real model's file in claim `models`.
pub const MODEL: &str = "pvc://models/SmolLM2-135M-Instruct-Q8_0.gguf";
/// Where the sandbox's Jaeger takes traces.
pub const JAEGER: &str = "http://jaeger.observability:4317";

/// An InferenceService in the making.
#[derive(Debug, Clone)]
pub struct Manifest(Value);

impl Manifest {
    /// The real model, small requests, traces to the sandbox's Jaeger.
    pub fn smollm(name: &str) -> Self {
        Self(json!({
            "apiVersion": "sojourn.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {
                "model": {"uri": MODEL},
                "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
                "engine": {"maxNumSeqs": 4, "maxModelLen": 2048},
                "tracing": {"destinations": [{"name": "jaeger", "endpoint": JAEGER}]},
            },
        }))
    }

    /// Sets a field of the spec by its path, such as `tracing.sampling.rate`.
    #[must_use]
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut at = &mut self.0["spec"];
        for key in path.split('.') {
            at = &mut at[key];
        }
        *at = value.into();
        self
    }

    /// The manifest as YAML.
    pub fn yaml(&self) -> String {
        self.0.to_string()
    }
}
