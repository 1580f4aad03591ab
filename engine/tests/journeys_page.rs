//! The pages of the admin port in a real browser: the engine's binary with the scripted model, some traffic, and headless
//! Chromium. Needs `chromium` on the PATH (or in $CHROMIUM); screenshots are left in the target directory.
//!
//! cargo test -p sojourn-engine --no-default-features --test journeys_page

// All of this is test code.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for something that must happen.
const SOON: Duration = Duration::from_secs(60);

struct Engine {
    process: Child,
    api: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Engine {
    /// Few KV blocks, so that long requests evict each other, and a queue that is soon full.
    fn start() -> Self {
        let (api, admin) = (free_port(), free_port());
        let process = Command::new(env!("CARGO_BIN_EXE_sojourn-engine"))
            .args(["serve", "scripted:length=400,blocks=90,block=16,step_ms=30", "--host", "127.0.0.1"])
            .args(["--port", &api.port().to_string(), "--admin-port", &admin.port().to_string()])
            .args(["--enable-journey-tracing", "--max-num-seqs", "4", "--max-queue-size", "8", "--served-model-name", "smollm"])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let engine = Self { process, api, admin };
        wait_until("the engine is ready", || get(engine.api, "/ready").starts_with("HTTP/1.1 200"));
        engine
    }

    fn complete(&self, id: &str, prompt: &str, max_tokens: u32) -> TcpStream {
        let body = format!(r#"{{"prompt": "{prompt}", "max_tokens": {max_tokens}}}"#);
        request(self.api, "POST", "/v1/completions", &format!("x-request-id: {id}\r\n"), &body)
    }

    fn list(&self) -> String {
        get(self.admin, "/journeys.json")
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn request(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

fn read(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The answer, empty while nobody listens.
fn get(address: SocketAddr, path: &str) -> String {
    if TcpStream::connect(address).is_err() { String::new() } else { read(request(address, "GET", path, "", "")) }
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs Chromium on a page, in a profile of its own.
fn chromium(url: &str, arguments: &[&str]) -> String {
    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let profile = folder().join("profile");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=2500"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .arg(url)
        .output()
        .expect("chromium runs; install it or name it in $CHROMIUM");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("journeys_page");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn screenshot(url: &str, name: &str) {
    // Chromium's own numbers for the preference of the page's reader.
    for (scheme, preference) in [("dark", 0), ("light", 1)] {
        let file = folder().join(format!("{name}-{scheme}.png"));
        std::fs::remove_file(&file).ok();
        let flags = [
            format!("--screenshot={}", file.display()),
            "--window-size=1360,860".to_owned(),
            format!("--blink-settings=preferredColorScheme={preference}"),
        ];
        chromium(url, &flags.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(std::fs::metadata(&file).is_ok_and(|file| file.len() > 10_000), "{}", file.display());
    }
}

#[test]
fn the_pages_show_journeys_as_they_run_and_as_they_ended() {
    let engine = Engine::start();
    let answered = ["chat-7f3a", "chat-81c0"].map(|id| engine.complete(id, "Why is the sky blue?", 60));
    answered.into_iter().for_each(|answer| drop(read(answer)));
    read(engine.complete("summarise-2210", "[fail] a long text", 40));
    read(engine.complete("too-long-19", "hello", 100_000));
    let impatient = engine.complete("impatient-04", "Tell me a story about a fox.", 300);
    wait_until("the impatient client's tokens come", || engine.list().contains(r#""phase":"decode""#));
    drop(impatient);
    read(request(engine.admin, "POST", "/canary", "", ""));
    // Seven long ones for four places and too few blocks: some wait, and some are evicted.
    let running: Vec<_> =
        (1..=7).map(|n| engine.complete(&format!("batch-{n}"), "Write a report of what happened.", 390)).collect();
    wait_until("one is evicted", || engine.list().contains(r#""phase":"preempted""#));
    wait_until("the impatient client is noticed", || engine.list().contains("client_disconnect"));

    let list = format!("http://{}/journeys", engine.admin);
    let dom = chromium(&list, &["--dump-dom"]);
    for expected in ["chat-7f3a", "impatient-04", "batch-1", "generation_error", "class=\"scripted\"", "aria-label=\"api "] {
        assert!(dom.contains(expected), "{expected} is not on the page:\n{dom}");
    }
    assert!(dom.contains("state running"), "nothing runs:\n{dom}");
    screenshot(&list, "list");
    drop(running);
    wait_until("all have ended", || engine.list().contains(r#""in_flight":0"#));
    screenshot(&format!("{list}/batch-1"), "one");
    let dom = chromium(&format!("{list}/chat-7f3a"), &["--dump-dom"]);
    for expected in ["llm_core 0", "FIRST_TOKEN", "DEPARTED", "journey.outcome", "was decoding"] {
        assert!(dom.contains(expected), "{expected} is not on the page:\n{dom}");
    }
}
