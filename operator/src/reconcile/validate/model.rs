//! `spec.model`: turns a URI into a volume and what the engine is told to serve.

use sojourn_contract::path;

use super::Invalid;
use crate::crd;
use crate::quantity;
use crate::reconcile::service::{Model, ModelVolume};
use crate::settings::Settings;

pub(super) fn validate(model: &crd::model::Model, service: &str, settings: &Settings) -> Result<Model, Invalid> {
    if model.tokenizer_uri.is_some() {
        let problem = "this version takes the tokenizer from the model's own files; leave it out";
        return Err(Invalid::field("spec.model.tokenizerUri", problem));
    }
    let (volume, location) = place(model, settings)?;
    Ok(Model {
        volume,
        location,
        credentials_secret: model.credentials_secret_ref.as_ref().map(|secret| secret.name.clone()),
        served_name: model.name.clone().unwrap_or_else(|| service.to_owned()),
        chat_template: model.chat_template.as_ref().map(|template| template.config_map_ref.clone()),
    })
}

fn place(model: &crd::model::Model, settings: &Settings) -> Result<(ModelVolume, String), Invalid> {
    let uri = |problem: &str| Invalid::field("spec.model.uri", problem);
    let (scheme, rest) =
        model.uri.split_once("://").ok_or_else(|| uri("write pvc://CLAIM/path/model.gguf or hf://ORG/REPO"))?;
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
        "hf" => return from_hub(model, rest),
        "s3" | "oci" => {
            return Err(uri("s3:// and oci:// are not supported yet: copy the model into a PersistentVolumeClaim and write \
                            pvc://CLAIM/path/model.gguf"));
        }
        _ => {
            return Err(uri(
                "write pvc://CLAIM/path/model.gguf, hf://ORG/REPO[@REVISION], or file:///path where the operator \
                            allows it",
            ));
        }
    };
    only_for_downloads(model)?;
    let path = [path::MODELS, inside.as_str(), model.file.as_deref().unwrap_or_default()]
        .map(|part| part.trim_end_matches('/'))
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    Ok((volume, path))
}

/// Fields that would be without effect, which their writer would not notice.
fn only_for_downloads(model: &crd::model::Model) -> Result<(), Invalid> {
    let problem = "only an hf:// model is downloaded; leave it out";
    match (&model.cache, &model.credentials_secret_ref) {
        (Some(_), _) => Err(Invalid::field("spec.model.cache", problem)),
        (None, Some(_)) => Err(Invalid::field("spec.model.credentialsSecretRef", problem)),
        (None, None) => Ok(()),
    }
}

/// The engine reads the rest of the grammar itself, and says what is wrong with it.
fn from_hub(model: &crd::model::Model, rest: &str) -> Result<(ModelVolume, String), Invalid> {
    let (id, revision) = rest.split_once('@').map_or((rest, None), |(id, revision)| (id, Some(revision)));
    let is_part = |part: &str| !part.is_empty() && !part.contains(['/', '@']);
    let is_id = id.split_once('/').is_some_and(|(org, repo)| is_part(org) && is_part(repo));
    if !is_id || !revision.is_none_or(is_part) {
        let problem = "write hf://ORG/REPO or hf://ORG/REPO@REVISION; a file of it goes into model.file";
        return Err(Invalid::field("spec.model.uri", problem));
    }
    if model.file.as_deref().is_some_and(|file| !file.to_ascii_lowercase().ends_with(".gguf")) {
        let problem = "name a GGUF file; a model in safetensors is its whole repository, leave the file out";
        return Err(Invalid::field("spec.model.file", problem));
    }
    let file = model.file.as_ref().map(|file| format!("/{file}")).unwrap_or_default();
    Ok((cache(model.cache.as_ref())?, format!("hf://{rest}{file}")))
}

fn cache(cache: Option<&crd::model::Cache>) -> Result<ModelVolume, Invalid> {
    let claim = cache.and_then(|cache| cache.claim_name.clone());
    let limit = cache.and_then(|cache| cache.size_limit.as_ref());
    match (claim, limit) {
        (Some(_), Some(_)) => {
            let problem = "set claimName or sizeLimit, not both: sizeLimit is for an emptyDir";
            Err(Invalid::field("spec.model.cache", problem))
        }
        (Some(claim), None) => Ok(ModelVolume::SharedCache(claim)),
        (None, Some(limit)) if !quantity::parse(&limit.0).is_some_and(|bytes| bytes > 0.0) => {
            let problem = format_args!("'{}' is no quantity: write 20Gi", limit.0);
            Err(Invalid::field("spec.model.cache.sizeLimit", problem))
        }
        (None, limit) => Ok(ModelVolume::OwnCache { size_limit: limit.map(crd::value::Amount::quantity) }),
    }
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
