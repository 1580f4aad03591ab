//! What lands in the cache, and what is asked for when it is there already.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use sojourn_contract::attribute;
use sojourn_contract::exit::Reason;
use sojourn_contract::journey::StartupStage;
use sojourn_engine::clock::Clock;
use sojourn_engine::http::Startup;
use sojourn_engine::loading::{self, Origin};
use sojourn_engine::model::{Source, Wishes};
use tokio::sync::watch;

use super::server::{COMMIT, Hub, Place, content, git_blob, sha256};
use super::{nowhere, run, wanted};

const MODEL: &str = "hf://org/repo";

fn snapshot(cache: &Path) -> PathBuf {
    cache.join("models--org--repo/snapshots").join(COMMIT)
}

#[tokio::test]
async fn a_repository_lands_in_the_layout_of_huggingface_hub() {
    let (config, tokenizer, weights) = (Bytes::from("{}"), content(5_000), content(200_000));
    let files = [
        ("README.md", Bytes::from("read me")),
        ("config.json", config.clone()),
        ("model.safetensors", weights.clone()),
        ("onnx/model.onnx", content(10)),
        ("tokenizer.json", tokenizer.clone()),
    ];
    let hub = Hub::start(&files).await;
    let cache = tempfile::tempdir().unwrap();
    let (cached, fetched) = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await;
    let cached = cached.unwrap();
    assert_eq!((cached.path.as_path(), cached.commit.as_str()), (snapshot(cache.path()).as_path(), COMMIT));
    assert_eq!(fetched, (config.len() + tokenizer.len() + weights.len()) as u64);

    let repository = cache.path().join("models--org--repo");
    assert_eq!(std::fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    for (name, content, etag) in [
        ("config.json", &config, git_blob(&config)),
        ("tokenizer.json", &tokenizer, git_blob(&tokenizer)),
        ("model.safetensors", &weights, sha256(&weights)),
    ] {
        let link = std::fs::read_link(cached.path.join(name)).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(etag));
        assert!(std::fs::read(cached.path.join(name)).unwrap() == **content, "{name}");
    }
    let mut names: Vec<_> =
        std::fs::read_dir(repository.join("blobs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name.to_string_lossy().contains("incomplete"));
    assert!(names.is_empty() && !cached.path.join("README.md").exists());
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_not_to_where_it_keeps_its_files() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    run(&wanted(&hub.endpoint, cache.path(), MODEL)).await.0.unwrap();
    let asked = hub.asked();
    assert_eq!(hub.transfers().len(), 1);
    for asked in asked {
        let expected = (asked.place == Place::Hub).then_some("Bearer hf_secret");
        assert_eq!(asked.authorization.as_deref(), expected, "{asked:?}");
    }
}

#[tokio::test]
async fn a_repository_that_was_renamed_is_found_under_its_old_name() {
    let (hub, content) = Hub::with_gguf().await;
    for model in ["hf://org/old", "hf://org/old/model.gguf"] {
        let cache = tempfile::tempdir().unwrap();
        let cached = run(&wanted(&hub.endpoint, cache.path(), model)).await.0.unwrap();
        assert!(cached.path.starts_with(cache.path().join("models--org--old")), "{:?}", cached.path);
        assert!(std::fs::read(cached.path).unwrap() == *content);
    }
}

#[tokio::test]
async fn a_second_start_fetches_no_byte() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    let wanted = wanted(&hub.endpoint, cache.path(), MODEL);
    let (first, fetched) = run(&wanted).await;
    assert_eq!(fetched, content.len() as u64);
    let (second, fetched) = run(&wanted).await;
    assert_eq!((first.unwrap(), 0), (second.unwrap(), fetched));
    assert_eq!(hub.transfers().len(), 1);
}

#[tokio::test]
async fn a_file_in_a_folder_and_a_set_in_pieces_are_found_by_name() {
    let piece = content(50);
    let files = ["q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf", "q8/m.gguf"].map(|name| (name, piece.clone()));
    let hub = Hub::start(&files).await;
    let cache = tempfile::tempdir().unwrap();
    let (cached, _) = run(&wanted(&hub.endpoint, cache.path(), "hf://org/repo/q4/m-00002-of-00002.gguf")).await;
    let cached = cached.unwrap().path;
    assert!(cached.ends_with("q4/m-00001-of-00002.gguf"), "{cached:?}");
    assert_eq!(std::fs::read(cached.with_file_name("m-00002-of-00002.gguf")).unwrap(), piece);
    assert_eq!(std::fs::read_link(&cached).unwrap(), Path::new("../../../blobs").join(sha256(&piece)));
    assert!(hub.asked().iter().all(|asked| !asked.path.starts_with("/api")), "a file with a name needs no list");
}

#[tokio::test]
async fn a_commit_that_is_there_needs_no_network() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    let pinned = format!("hf://org/repo@{COMMIT}");
    run(&wanted(&hub.endpoint, cache.path(), &pinned)).await.0.unwrap();
    let asked = hub.asked().len();
    let (cached, _) = run(&wanted(&hub.endpoint, cache.path(), &pinned)).await;
    assert_eq!(cached.unwrap().commit, COMMIT);
    assert_eq!(hub.asked().len(), asked);
}

#[tokio::test]
async fn a_branch_is_what_it_was_while_the_hub_cannot_be_reached() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    let (first, _) = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await;
    let (again, fetched) = run(&wanted(&nowhere(), cache.path(), MODEL)).await;
    assert_eq!((again.unwrap(), fetched), (first.unwrap(), 0));
    let mut offline = wanted(&nowhere(), cache.path(), MODEL);
    offline.settings.offline = true;
    assert_eq!(run(&offline).await.0.unwrap().commit, COMMIT);
}

#[tokio::test]
async fn a_complete_cache_that_may_not_be_written_is_used_as_it_is() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    run(&wanted(&hub.endpoint, cache.path(), MODEL)).await.0.unwrap();
    // Neither a lock nor a reference can be written where their directories are files.
    for name in [".locks", "models--org--repo/refs"] {
        std::fs::remove_dir_all(cache.path().join(name)).unwrap();
        std::fs::write(cache.path().join(name), "").unwrap();
    }
    assert_eq!(run(&wanted(&hub.endpoint, cache.path(), MODEL)).await.0.unwrap().commit, COMMIT);
}

#[tokio::test]
async fn a_start_has_a_stage_for_its_download() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    let (progress, seen) = watch::channel(Startup { waiting_for: "".into(), done_bytes: 0, total_bytes: None, stalled: false });
    let origin = Origin::Hub(Box::new(wanted(&hub.endpoint, cache.path(), MODEL)));
    let stall = Duration::from_secs(60);
    let loading = loading::load(origin, Wishes::default(), Clock::start(), stall, progress).await.unwrap();
    assert!(matches!(&loading.source, Some(Source::File(path)) if path.ends_with(format!("{COMMIT}/model.gguf"))));
    let stage = &loading.stages[0];
    assert_eq!(stage.stage, StartupStage::Download);
    assert_eq!(stage.attributes.text(attribute::STARTUP_REVISION), Some(COMMIT));
    assert_eq!(stage.attributes.text(attribute::STARTUP_MODEL), Some(MODEL));
    assert_eq!(stage.attributes.get(attribute::STARTUP_BYTES).unwrap().to_string(), content.len().to_string());
    // It is no model, so it is downloaded and then refused.
    assert_eq!(loading.model.err().unwrap().termination().reason, Reason::ModelLoadFailed);
    assert!(seen.borrow().waiting_for.contains("weights"), "{:?}", seen.borrow());
}

#[tokio::test]
async fn only_what_is_missing_is_asked_for() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    // Another revision has brought the same content.
    let blobs = cache.path().join("models--org--repo/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(sha256(&content)), &content).unwrap();
    let (cached, fetched) = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await;
    assert_eq!((std::fs::read(cached.unwrap().path).unwrap() == *content, fetched), (true, 0));
    assert!(hub.asked().iter().all(|asked| asked.method == Method::HEAD || asked.path.starts_with("/api")));
}
