//! What people read when there is no model.

use bytes::Bytes;
use sojourn_contract::exit::Reason;

use super::server::{Hub, Refusal, content};
use super::{nowhere, run, wanted};

async fn refusal(hub: &Hub, model: &str) -> (Reason, String) {
    let cache = tempfile::tempdir().unwrap();
    let error = run(&wanted(&hub.endpoint, cache.path(), model)).await.0.unwrap_err();
    (error.reason(), error.to_string())
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let (hub, _) = Hub::with_gguf().await;
    for (model, expected) in [
        ("hf://org/other", "there is no repository org/other on http://127.0.0.1"),
        ("hf://org/other/model.gguf", "HF_TOKEN holds a token that may read it"),
        ("hf://org/repo@v2", "org/repo has no revision v2"),
        ("hf://org/repo@v2/model.gguf", "org/repo has no revision v2"),
        ("hf://org/repo/q4.gguf", "org/repo has no file q4.gguf at revision main"),
    ] {
        let (reason, said) = refusal(&hub, model).await;
        assert!(reason == Reason::ModelNotFound && said.contains(expected), "{model}: {reason} {said}");
    }
}

#[tokio::test]
async fn a_gated_model_says_where_to_ask_and_a_bad_token_that_it_is_bad() {
    let (hub, _) = Hub::with_gguf().await;
    let refuse = |status, code, message| {
        hub.refuses_with([Refusal { status, headers: vec![("x-error-code", code), ("x-error-message", message)] }])
    };
    refuse(403, "GatedRepo", "Access to model org/repo is restricted");
    let (reason, said) = refusal(&hub, "hf://org/repo").await;
    assert_eq!(reason, Reason::ModelNotFound);
    assert!(said.contains("is gated: ask for access on http://127.0.0.1") && said.contains("HF_TOKEN"), "{said}");
    refuse(401, "", "Invalid credentials in Authorization header");
    let (_, said) = refusal(&hub, "hf://org/repo").await;
    assert!(said.contains("does not accept the token in HF_TOKEN") && !said.contains("hf_secret"), "{said}");
}

#[tokio::test]
async fn several_models_are_listed_and_none_is_chosen() {
    let hub = Hub::start(&[("m-Q4_K_M.gguf", content(9)), ("m-Q8_0.gguf", content(9)), ("mmproj-f16.gguf", content(9))]).await;
    let (reason, said) = refusal(&hub, "hf://org/repo").await;
    assert_eq!(reason, Reason::InvalidConfiguration);
    assert!(said.contains("write hf://org/repo/FILE with one of m-Q4_K_M.gguf, m-Q8_0.gguf"), "{said}");
    assert!(hub.transfers().is_empty());
}

#[tokio::test]
async fn a_repository_without_a_model_says_what_it_lacks() {
    let hub = Hub::start(&[("README.md", Bytes::from("read me")), ("pytorch_model.bin", content(9))]).await;
    let (reason, said) = refusal(&hub, "hf://org/repo").await;
    assert!(reason == Reason::ModelNotFound && said.contains("no GGUF file, and no config.json"), "{said}");
}

#[tokio::test]
async fn a_file_name_that_leaves_the_cache_is_not_followed() {
    let hub = Hub::start(&[("../../escaped.gguf", content(9)), ("/etc/escaped.gguf", content(9))]).await;
    let (reason, said) = refusal(&hub, "hf://org/repo").await;
    assert!(reason == Reason::ModelNotFound && said.contains("holds no model"), "{said}");
}

#[tokio::test]
async fn a_hub_that_is_not_there_and_one_that_must_not_be_asked_say_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let mut wanted = wanted(&nowhere(), cache.path(), "hf://org/repo");
    let said = run(&wanted).await.0.unwrap_err();
    assert_eq!(said.reason(), Reason::ModelLoadFailed);
    assert!(said.to_string().contains("Connection refused") && said.to_string().contains("HF_ENDPOINT"), "{said}");
    wanted.settings.offline = true;
    let said = run(&wanted).await.0.unwrap_err().to_string();
    assert!(said.contains("HF_HUB_OFFLINE") && said.contains("sojourn-engine download hf://org/repo"), "{said}");
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_says_where_to_put_it() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    std::fs::write(cache.path().join("models--org--repo"), "a file where a directory belongs").unwrap();
    let error = run(&wanted(&hub.endpoint, cache.path(), "hf://org/repo")).await.0.unwrap_err();
    assert_eq!(error.reason(), Reason::ModelLoadFailed);
    assert!(error.to_string().contains("cannot write") && error.to_string().contains("--download-dir"), "{error}");
}
