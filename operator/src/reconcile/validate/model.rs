//! `spec.model`: turns a URI into a volume and a path in the engine's container.

use sojourn_contract::path;

use super::Invalid;
use crate::crd;
use crate::reconcile::service::{Model, ModelVolume};
use crate::settings::Settings;

pub(super) fn validate(model: &crd::model::Model, service: &str, settings: &Settings) -> Result<Model, Invalid> {
    if model.tokenizer_uri.is_some() {
        let problem = "this version takes the tokenizer from the model's own file; leave it out";
        return Err(Invalid::field("spec.model.tokenizerUri", problem));
    }
    let uri = |problem: &str| Invalid::field("spec.model.uri", problem);
    let (scheme, rest) = model.uri.split_once("://").ok_or_else(|| uri("write pvc://CLAIM/path/model.gguf"))?;
    if rest.split('/').any(|segment| segment == "..") {
        return Err(uri("the path may not contain '..'"));
    }
    let (volume, inside) = match scheme {
        "pvc" => in_claim(rest).ok_or_else(|| uri("write the claim's name and the path in it: pvc://CLAIM/path/model.gguf"))?,
        "file" if !settings.allow_file_models => {
            return Err(uri(
                "file:// mounts a directory of the node, which this operator does not allow: use pvc://CLAIM/path, or \
                            install the chart with allowFileModels=true",
            ));
        }
        "file" => on_node(rest, model.file.is_some())
            .ok_or_else(|| uri("write the absolute path with three slashes: file:///path/model.gguf"))?,
        "hf" => {
            return Err(uri("this version cannot download from the Hugging Face Hub yet: copy the GGUF file into a \
                            PersistentVolumeClaim and write pvc://CLAIM/path/model.gguf"));
        }
        "s3" | "oci" => {
            return Err(uri("s3:// and oci:// are not supported yet: copy the model into a PersistentVolumeClaim and write \
                            pvc://CLAIM/path/model.gguf"));
        }
        _ => return Err(uri("write pvc://CLAIM/path/model.gguf, or file:///path where the operator allows it")),
    };
    let path = [path::MODELS, inside.as_str(), model.file.as_deref().unwrap_or_default()]
        .map(|part| part.trim_end_matches('/'))
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    Ok(Model {
        volume,
        path,
        served_name: model.name.clone().unwrap_or_else(|| service.to_owned()),
        chat_template: model.chat_template.as_ref().map(|template| template.config_map_ref.clone()),
    })
}

fn in_claim(rest: &str) -> Option<(ModelVolume, String)> {
    let (claim, inside) = rest.split_once('/')?;
    (!claim.is_empty() && !inside.is_empty()).then(|| (ModelVolume::Claim(claim.to_owned()), inside.to_owned()))
}

/// The directory is mounted, not the file: a file replaced by renaming another over it would not be seen.
fn on_node(rest: &str, is_directory: bool) -> Option<(ModelVolume, String)> {
    if !rest.starts_with('/') {
        return None;
    }
    if is_directory {
        return Some((ModelVolume::NodeDirectory(rest.to_owned()), String::new()));
    }
    let (directory, file) = rest.rsplit_once('/')?;
    let directory = if directory.is_empty() { "/" } else { directory };
    (!file.is_empty()).then(|| (ModelVolume::NodeDirectory(directory.to_owned()), file.to_owned()))
}
