//! The real program: its subcommand, two of it on one cache, and one that is killed.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Url;
use serde_json::Value;
use sojourn_contract::exit::Reason;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::SOON;
use super::server::{Fault, Hub, sha256};

const MODEL: &str = "hf://org/repo/model.gguf";

fn engine(endpoint: &Url, cache: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sojourn-engine"));
    command.args(arguments).arg("--download-dir").arg(cache);
    command.env_clear().env("HF_ENDPOINT", endpoint.as_str()).env("HF_TOKEN", "hf_secret").env("HOME", cache);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Waits until so many bytes of the model are there.
async fn until_there(cache: &Path, content: &[u8], bytes: u64) {
    let path = cache.join("models--org--repo/blobs").join(format!("{}.incomplete", sha256(content)));
    let there = async {
        while std::fs::metadata(&path).map_or(0, |metadata| metadata.len()) < bytes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, there).await.expect("the download begins");
}

#[tokio::test]
async fn two_processes_on_one_cache_fetch_it_once_and_say_where_it_is() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    let run = || engine(&hub.endpoint, cache.path(), &["download", MODEL]).output();
    let (one, other) = tokio::join!(run(), run());
    for output in [one.unwrap(), other.unwrap()] {
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !log.contains("hf_secret"), "{log}");
        let path = String::from_utf8(output.stdout).unwrap();
        assert!(std::fs::read(path.trim()).unwrap() == *content, "{path}");
    }
    assert_eq!(hub.transfers().len(), 1);
}

#[tokio::test]
async fn a_killed_process_gives_its_lock_back_and_its_bytes_are_used() {
    let (hub, content) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    hub.fails_with([Fault::Silent(100_000)]);
    let mut first = engine(&hub.endpoint, cache.path(), &["download", MODEL]).spawn().unwrap();
    until_there(cache.path(), &content, 1).await;
    let mut second = engine(&hub.endpoint, cache.path(), &["download", MODEL]).spawn().unwrap();
    until_said(&mut second, "another process downloads the same file").await;
    first.kill().await.unwrap();
    let ended = tokio::time::timeout(SOON, second.wait()).await.expect("an end in time").unwrap();
    assert!(ended.success());
    let transfers = hub.transfers();
    assert!(transfers.len() == 2 && transfers[1].range.is_some(), "{transfers:?}");
    assert!(std::fs::read(cache.path().join("models--org--repo/blobs").join(sha256(&content))).unwrap() == *content);
}

async fn until_said(child: &mut Child, text: &str) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(text) {
                return;
            }
        }
        panic!("the log ends without '{text}'");
    };
    tokio::time::timeout(SOON, said).await.expect("a line in time");
    // Somebody has to go on reading, or the process would be stopped by its log.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
}

#[tokio::test]
async fn a_server_that_downloads_is_alive_and_says_how_far_it_is() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    hub.fails_with([Fault::Silent(100_000)]);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = format!("--port={}", address.port());
    let arguments = ["serve", "org/repo", "--host=127.0.0.1", &port, "--revision=main"];
    let _server = engine(&hub.endpoint, cache.path(), &arguments).spawn().unwrap();
    let client = reqwest::Client::new();
    let ready = async {
        loop {
            if let Ok(answer) = client.get(format!("http://{address}/ready")).send().await {
                let body: Value = answer.json().await.unwrap();
                if body["done_bytes"].as_u64().is_some_and(|done| done > 0) {
                    return body;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let body = tokio::time::timeout(SOON, ready).await.expect("an answer in time");
    assert_eq!(body["waiting_for"], "the download of hf://org/repo@main");
    assert_eq!((&body["status"], &body["total_bytes"]), (&"loading".into(), &300_000.into()));
    assert!(client.get(format!("http://{address}/health")).send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn a_model_that_is_not_there_ends_the_program_with_its_code() {
    let (hub, _) = Hub::with_gguf().await;
    let cache = tempfile::tempdir().unwrap();
    let output = engine(&hub.endpoint, cache.path(), &["download", "hf://org/nothing"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(i32::from(Reason::ModelNotFound.code())));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no repository org/nothing"));
}
