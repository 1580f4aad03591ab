//! Trouble on the way that passes, and trouble that does not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sojourn_contract::exit::Reason;
use sojourn_engine::http::Startup;
use sojourn_engine::hub::{HubError, Meter};
use sojourn_engine::loading;
use tokio::sync::watch;

use super::server::{Fault, Hub, Refusal, sha256};
use super::{run, wanted};

const MODEL: &str = "hf://org/repo/model.gguf";

fn incomplete(cache: &Path, content: &[u8]) -> PathBuf {
    cache.join("models--org--repo/blobs").join(format!("{}.incomplete", sha256(content)))
}

/// Leaves what a process that was killed leaves.
fn leave(cache: &Path, content: &[u8], bytes: &[u8]) {
    let path = incomplete(cache, content);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    hub.fails_with([Fault::Cut(100_000), Fault::Expired, Fault::Cut(50_000)]);
    let (cached, fetched) = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await;
    assert!(std::fs::read(cached.unwrap().path).unwrap() == *content);
    assert_eq!(fetched, content.len() as u64, "no byte comes twice");
    let ranges: Vec<_> = hub.transfers().into_iter().map(|asked| asked.range.unwrap_or_default()).collect();
    assert_eq!(ranges, ["", "bytes=100000-", "bytes=100000-", "bytes=150000-"]);
}

#[tokio::test]
async fn what_a_killed_process_has_left_is_taken_up() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    leave(cache.path(), &content, &content[..120_000]);
    let (cached, fetched) = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await;
    assert!(std::fs::read(cached.unwrap().path).unwrap() == *content);
    assert_eq!(fetched, 180_000);
    assert!(!incomplete(cache.path(), &content).exists());
}

#[tokio::test]
async fn a_file_that_lacks_only_its_name_gets_it() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    leave(cache.path(), &content, &content);
    let (cached, fetched) = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await;
    assert_eq!((cached.is_ok(), fetched, hub.transfers().len()), (true, 0, 0));
}

#[tokio::test]
async fn what_is_left_and_damaged_is_fetched_again_from_its_beginning() {
    let (hub, content) = Hub::with_gguf().await;
    for left in [vec![0; 120_000], vec![0; 400_000]] {
        let cache = tempfile::tempdir().unwrap();
        leave(cache.path(), &content, &left);
        let (cached, _) = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await;
        assert!(std::fs::read(cached.unwrap().path).unwrap() == *content);
    }
}

#[tokio::test]
async fn damage_on_the_way_is_mended_once_and_then_told() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    hub.fails_with([Fault::Damaged]);
    let (cached, _) = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await;
    assert!(std::fs::read(cached.unwrap().path).unwrap() == *content);

    let cache = tempfile::tempdir().unwrap();
    hub.fails_with([Fault::Damaged, Fault::Damaged]);
    let error = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await.0.unwrap_err();
    assert_eq!(error.reason(), Reason::ModelLoadFailed);
    assert!(error.to_string().contains("model.gguf came damaged twice"), "{error}");
    assert!(!cache.path().join("models--org--repo/blobs").join(sha256(&content)).exists());
}

#[tokio::test]
async fn a_busy_hub_is_asked_again() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    let busy = Refusal { status: 429, headers: vec![("retry-after", "0")] };
    hub.refuses_with([busy.clone(), Refusal { status: 503, headers: vec![] }, busy]);
    assert!(run(&wanted(&hub.endpoint, cache.path(), MODEL)).await.0.is_ok());
}

#[tokio::test]
async fn a_hub_that_stays_busy_is_given_up() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    hub.refuses_with(vec![Refusal { status: 503, headers: vec![] }; 5]);
    let error = run(&wanted(&hub.endpoint, cache.path(), MODEL)).await.0.unwrap_err();
    assert_eq!(error.reason(), Reason::ModelLoadFailed);
    assert!(error.to_string().contains("503 Service Unavailable"), "{error}");
}

#[tokio::test]
async fn a_download_without_a_byte_is_given_up() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    hub.fails_with([Fault::Silent(0)]);
    let startup = Startup { waiting_for: "".into(), done_bytes: 0, total_bytes: None, stalled: false };
    let (progress, seen) = watch::channel(startup);
    let stall = Duration::from_millis(300);
    let wanted = wanted(&hub.endpoint, cache.path(), MODEL);
    let error = loading::download(&wanted, &Meter::default(), stall, &progress).await.unwrap_err();
    assert!(matches!(error, HubError::Stalled { .. }), "{error}");
    assert!(seen.borrow().stalled, "/health says so too");
}

#[tokio::test]
async fn two_writers_of_one_cache_fetch_it_once() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    hub.fails_with([Fault::Cut(100_000)]);
    let (one, other) = (wanted(&hub.endpoint, cache.path(), MODEL), wanted(&hub.endpoint, cache.path(), MODEL));
    let ((one, fetched), (other, fetched_too)) = tokio::join!(run(&one), run(&other));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(fetched + fetched_too, content.len() as u64);
}
