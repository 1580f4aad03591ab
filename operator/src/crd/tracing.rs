//! `spec.tracing`: where journeys go, which are kept, and what collects them.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::engine::Resources;
use super::value::{Percentage, Span, any_object};

/// Journey tracing of the service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// Off: no sidecar, no spans. Default: on. Changing it restarts the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where kept journeys go. Default: the operator's own default destination. Hot: no container restarts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub destinations: Vec<Destination>,
    /// The Secret that `secretKey` names keys of. Default: `<name>-telemetry`. It may be missing, and keys may be added
    /// later without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
    /// Which journeys are kept. Hot: no container restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Phases (default): also child spans for queue, prefill, decode and preemption; Journey: the two spans only. Changing
    /// it restarts the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// W3C baggage members that are copied to the journey as attributes. Changing it restarts the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new("self.all(member, member.matches('^[^,=; ]+$'))").message("write one member's name an entry, without commas, blanks or '='"))]
    pub baggage: Vec<String>,
    /// Resource attributes on every span, for example `{team: search}`. Hot: no container restarts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("!self.exists(key, key in ['service.name', 'service.namespace', 'service.instance.id'])")
        .message("service.name, service.namespace and service.instance.id follow from the object and its pods; choose other keys"))]
    pub resource_attributes: BTreeMap<String, String>,
    /// The collector beside each engine. Changing it restarts the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<Collector>,
}

/// A place that kept journeys are sent to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.endpoint) != has(self.exporter)").message("set exactly one of endpoint (OTLP) and exporter (any other exporter of the collector's image)"),
    validation = Rule::new("has(self.endpoint) || !(has(self.protocol) || has(self.headers) || has(self.tls))").message("protocol, headers and tls belong to endpoint; write them into exporter.config"),
    validation = Rule::new("!has(self.endpoint) || (has(self.protocol) && self.protocol == 'http') || self.endpoint.matches('^https?://[^/]+:[0-9]+/?$')")
        .message("OTLP over gRPC needs a port and no path, for example http://tempo.observability:4317; set protocol: http for a URL"),
    validation = Rule::new("!(has(self.tls) && has(self.endpoint)) || self.endpoint.startsWith('https://')").message("tls needs an endpoint that starts with https://")
)]
pub struct Destination {
    /// Name of the destination in the status.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("write lower-case letters, digits and '-'"))]
    pub name: String,
    /// An OTLP endpoint: `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/ ]+')").message("write http://HOST:PORT, or https://HOST:PORT for TLS"))]
    pub endpoint: Option<String>,
    /// How OTLP travels. Default: grpc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Headers of every export.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<Header>,
    /// TLS of an `https://` endpoint, beyond the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Any other exporter that the collector's image has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exporter: Option<Exporter>,
}

/// How OTLP travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OTLP over gRPC.
    #[default]
    Grpc,
    /// OTLP over HTTP, protobuf.
    Http,
}

/// A header of every export.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.secretKey)").message("set exactly one of value and secretKey"))]
pub struct Header {
    /// Name of the header.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_.-]+$')").message("write letters, digits, '-', '_' and '.'"))]
    pub name: String,
    /// Its value, where it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
    /// Key of the credentials Secret that holds its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_key: Option<String>,
}

/// TLS of a destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Key of the credentials Secret that holds the certificate authority, PEM.
    #[schemars(length(min = 1, max = 253))]
    pub ca_secret_key: String,
}

/// An exporter of the collector in its own words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Exporter {
    /// Type of the exporter, for example kafka.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_]*$')").message("write the exporter's type as the collector's configuration names it, for example kafka"))]
    pub type_: String,
    /// Its configuration, as the collector takes it. A value `{secretKey: KEY}` is filled in from the credentials Secret.
    #[serde(default)]
    #[schemars(schema_with = "any_object")]
    pub config: Map<String, Value>,
}

/// Which journeys are kept. What is left out follows the operator's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sampling {
    /// Of the traces whose requests no `keep` rule names: `0%` to `100%`, up to four decimals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Percentage>,
    /// Respect (default): a sampled caller is kept, an unsampled one only by `keep`; Ignore: `rate` applies to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<Parents>,
    /// Requests that are kept whatever the rate says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
}

/// What a caller's trace context means for sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Parents {
    /// A sampled caller is kept, an unsampled one only by `keep`.
    Respect,
    /// The rate applies to all.
    Ignore,
}

/// Requests that are kept whatever the rate says; decided for each request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keep {
    /// Requests that failed on our side. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<bool>,
    /// Requests whose client went away or stalled. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<bool>,
    /// Requests that were preempted at least once. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempted: Option<bool>,
    /// Requests whose first token came later than this, or that took longer without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_slower_than: Option<Span>,
    /// Requests that waited longer than this before they first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_longer_than: Option<Span>,
    /// Requests that took longer than this in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower_than: Option<Span>,
}

/// Spans of a journey.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Detail {
    /// The two spans and a child for each phase.
    #[default]
    Phases,
    /// The two spans only.
    Journey,
}

impl Detail {
    /// The word that the engine's flag takes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Phases => "Phases",
            Self::Journey => "Journey",
        }
    }
}

/// The collector beside each engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.image) || size(self.image) == 0 || (has(self.command) && size(self.command) > 0)")
    .message("set command to the image's own entry point, for example [/otelcol-contrib]: a supervisor starts it"))]
pub struct Collector {
    /// Any image of the OpenTelemetry Collector, 0.144 or newer. Default: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// The image's own entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 1024)))]
    pub command: Vec<String>,
    /// Requests and limits of the collector. Default: 50m and 128Mi requested, 1 CPU and 256Mi at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}
