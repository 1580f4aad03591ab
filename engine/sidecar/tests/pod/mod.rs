//! A pod for one supervisor: mounted volumes, free ports, and the fake collector's switches.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sojourn_contract::sidecar::State;
use tempfile::TempDir;

/// Exporter and key of two destinations.
pub const TEMPO: (&str, &str) = ("otlp_grpc/tempo-01234567", "tempo");
pub const PHOENIX: (&str, &str) = ("otlp_http/phoenix-89abcdef", "phoenix");

/// Longest wait for anything; only a failing test waits so long.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// A configuration with these destinations.
pub fn file(destinations: &[(&str, &str)]) -> Value {
    let exporters: serde_json::Map<String, Value> = destinations
        .iter()
        .map(|(exporter, key)| ((*exporter).to_owned(), json!({"headers": {"authorization": {"secretKey": key}}})))
        .collect();
    let names: Vec<&str> = destinations.iter().map(|(exporter, _)| *exporter).collect();
    json!({"exporters": exporters, "service": {"pipelines": {"traces": {"exporters": names}}}})
}

/// The same configuration with orders for the fake collector.
pub fn with_fake(file: &Value, orders: Value) -> Value {
    let mut file = file.clone();
    file["fake"] = orders;
    file
}

/// A pod that is not started yet.
pub struct Prepared {
    dir: TempDir,
    metrics: SocketAddr,
    otlp: SocketAddr,
    listen: SocketAddr,
}

/// A pod whose supervisor runs; it ends with it.
pub struct Pod {
    prepared: Prepared,
    child: Child,
}

impl Prepared {
    pub fn with_key(self, key: &str, value: &str) -> Self {
        fs::write(self.path("credentials").join(key), value).unwrap();
        self
    }

    pub fn run(self, flags: &[&str]) -> Pod {
        self.run_command(&[env!("CARGO_BIN_EXE_fake-collector")], flags)
    }

    pub fn run_command(self, command: &[&str], flags: &[&str]) -> Pod {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sojourn-sidecar"))
            .arg("run")
            .args([format!("--config-dir={}", self.path("config").display())])
            .args([format!("--credentials-dir={}", self.path("credentials").display())])
            .args([format!("--run-dir={}", self.path("run").display())])
            .args([format!("--listen={}", self.listen), format!("--metrics-address={}", self.metrics)])
            .args([format!("--otlp-address={}", self.otlp), "--backoff=50ms".to_owned()])
            .args(flags)
            .arg("--")
            .args(command)
            .env("OTEL_SERVICE_NAME", "smollm")
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,team=a%2Cb")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Pod { prepared: self, child }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Mounts a configuration, with the ports for the fake collector added.
    fn mount(&self, file: &Value) {
        let mut file = file.clone();
        file["fake"]["metrics"] = json!(self.metrics);
        file["fake"]["otlp"] = json!(self.otlp);
        self.mount_text(&serde_yaml::to_string(&file).unwrap());
    }

    fn mount_text(&self, text: &str) {
        fs::write(self.path("config/unfinished"), text).unwrap();
        fs::rename(self.path("config/unfinished"), self.path("config/collector.yaml")).unwrap();
    }
}

impl Pod {
    pub fn prepare(file: &Value) -> Prepared {
        // All three are held open until all are chosen, so that they differ.
        let ports = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [metrics, otlp, listen] = ports.each_ref().map(|port| port.local_addr().unwrap());
        let prepared = Prepared { dir: tempfile::tempdir().unwrap(), metrics, otlp, listen };
        for name in ["config", "credentials", "run"] {
            fs::create_dir(prepared.path(name)).unwrap();
        }
        prepared.mount(file);
        prepared.with_key("tempo", "Bearer t").with_key("phoenix", "Bearer p")
    }

    pub fn start(file: &Value) -> Self {
        Self::start_with(file, &[])
    }

    pub fn start_with(file: &Value, flags: &[&str]) -> Self {
        Self::prepare(file).run(flags)
    }

    pub fn mount(&self, file: &Value) {
        self.prepared.mount(file);
    }

    pub fn mount_text(&self, text: &str) {
        self.prepared.mount_text(text);
    }

    pub fn put_key(&self, key: &str, value: &str) {
        fs::write(self.prepared.path("credentials").join(key), value).unwrap();
    }

    pub fn remove_key(&self, key: &str) {
        fs::remove_file(self.prepared.path("credentials").join(key)).unwrap();
    }

    /// The revision that the mounted file has, as the operator computes it.
    pub fn revision(&self) -> String {
        let mounted = fs::read_to_string(self.prepared.path("config/collector.yaml")).unwrap();
        sojourn_sidecar::effective::render(&mounted, &Default::default(), &Default::default()).unwrap().revision
    }

    pub fn effective_path(&self) -> PathBuf {
        self.prepared.path("run/collector.yaml")
    }

    /// The file that the collector was started with.
    pub fn effective(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.effective_path()).unwrap()).unwrap()
    }

    /// Gets a path of the supervisor.
    pub fn get(&self, path: &str) -> String {
        exchange(self.prepared.listen, "GET", path, "").unwrap()
    }

    pub fn state(&self) -> State {
        serde_json::from_str(&self.get("/telemetry")).unwrap()
    }

    /// Waits until the state is such, and answers it.
    pub fn until(&self, what: &str, is_such: impl Fn(&State) -> bool) -> State {
        let begin = Instant::now();
        loop {
            let state = exchange(self.prepared.listen, "GET", "/telemetry", "").ok();
            let state: Option<State> = state.map(|body| serde_json::from_str(&body).unwrap());
            if let Some(state) = state.clone().filter(|state| is_such(state)) {
                return state;
            }
            let log = || fs::read_to_string(self.prepared.path("log")).unwrap_or_default();
            assert!(begin.elapsed() < DEADLINE, "never: {what}\n{state:#?}\n{}", log());
            std::thread::sleep(POLL);
        }
    }

    /// Posts to the fake collector and answers what it says; it may just be starting.
    pub fn post(&self, path: &str, body: &str) -> String {
        let begin = Instant::now();
        loop {
            match exchange(self.prepared.metrics, "POST", path, body) {
                Ok(answer) => return answer,
                Err(error) => assert!(begin.elapsed() < DEADLINE, "cannot post {path}: {error}"),
            }
            std::thread::sleep(POLL);
        }
    }

    pub fn tell(&self, order: &str) {
        self.post(order, "");
    }

    /// How often the supervisor has looked at the collector.
    pub fn looks(&self) -> u64 {
        exchange(self.prepared.metrics, "GET", "/looks", "").unwrap().parse().unwrap()
    }

    pub fn until_looks(&self, looks: u64) {
        self.until("it looked often enough", |_| self.looks() >= looks);
    }

    /// Waits until the running collector has so many requests with spans, and answers them.
    pub fn until_spans(&self, count: usize) -> Vec<Value> {
        let spans = || exchange(self.prepared.metrics, "GET", "/spans", "").ok();
        let spans = || spans().map_or(Vec::new(), |body| serde_json::from_str(&body).unwrap());
        self.until("spans are there", |_| spans().len() >= count);
        spans()
    }

    pub fn kill_collector(&self) {
        let pid = exchange(self.prepared.metrics, "GET", "/pid", "").unwrap();
        kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn terminate(&self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    }

    /// Waits for the supervisor's end.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Ends the supervisor and answers its log.
    pub fn end(mut self) -> String {
        self.terminate();
        assert_eq!(self.exit_code(), Some(0));
        fs::read_to_string(self.prepared.path("log")).unwrap()
    }
}

impl Drop for Pod {
    /// Ends what is left of a test, orderly first: a killed supervisor would leave its collector behind.
    fn drop(&mut self) {
        let runs = self.child.try_wait().is_ok_and(|ended| ended.is_none());
        if runs && kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).is_ok() {
            self.child.wait().ok();
        }
    }
}

/// One HTTP exchange; the answer's body.
fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no answer"))?;
    let is_ok = head.starts_with("HTTP/1.1 200");
    is_ok.then(|| body.to_owned()).ok_or_else(|| std::io::Error::other(head.to_owned()))
}
