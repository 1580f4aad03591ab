//! `spec.model`: where the weights are and what clients call them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::Amount;

/// The model that the service runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Where the model is: `pvc://CLAIM/path/model.gguf` in a PersistentVolumeClaim, `hf://ORG/REPO[@REVISION]` on the
    /// Hugging Face Hub, or `file:///path` on the node where the operator allows it.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.matches('^(pvc|hf|file|s3|oci)://.+')")
            .message("write pvc://CLAIM/path/model.gguf, hf://ORG/REPO[@REVISION], or file:///path where the operator allows it"),
        validation = Rule::new("!self.matches('^(s3|oci)://')")
            .message("s3:// and oci:// are not supported yet: copy the model into a PersistentVolumeClaim and write pvc://CLAIM/path/model.gguf"),
        validation = Rule::new("!self.startsWith('pvc://') || self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[^/]')")
            .message("write the claim's name and the path in it: pvc://CLAIM/path/model.gguf"),
        validation = Rule::new("!self.startsWith('hf://') || self.matches('^hf://[^/@]+/[^/@]+(@[^/@]+)?$')")
            .message("write hf://ORG/REPO or hf://ORG/REPO@REVISION; a file of it goes into model.file"),
        validation = Rule::new("!self.startsWith('file://') || self.startsWith('file:///')")
            .message("write the absolute path with three slashes: file:///path/model.gguf"),
        validation = Rule::new("!self.matches('(^|/)[.][.](/|$)')").message("the path may not contain '..'")
    )]
    pub uri: String,
    /// What clients call the model. Default: the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// The file in the place that `uri` names, where that is a directory or a repository with several GGUF files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')").message("write a relative path without '..'"))]
    pub file: Option<String>,
    /// Where an `hf://` model lands. Default: an emptyDir without a limit, so that each new pod downloads it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// The Secret for an `hf://` model that is private or gated, with the key `HF_TOKEN`. Pods do not start without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<NameRef>,
    /// Where the tokenizer is, when the model does not bring its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub tokenizer_uri: Option<String>,
    /// A chat template instead of the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<ChatTemplate>,
}

/// Where a downloaded model lands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.claimName) && has(self.sizeLimit))").message("set claimName or sizeLimit, not both: sizeLimit is for an emptyDir"))]
pub struct Cache {
    /// A PersistentVolumeClaim that the pods share: one of them downloads, the others wait for it. On several nodes it has to
    /// be ReadWriteMany.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// Size limit of the emptyDir that is used without a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Amount>,
}

/// An object of the same namespace, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NameRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A key of an object of the same namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Where a chat template comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatTemplate {
    /// The key of a ConfigMap that holds the Jinja template.
    pub config_map_ref: KeyRef,
}
