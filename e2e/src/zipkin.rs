//! Zipkin beside the cluster: a trace backend with a page, for people and for one test.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::local::Local;
use crate::sandbox::ZIPKIN_COLLECTOR_IMAGE;

/// Port of its API and its pages.
const PORT: u16 = 9411;

/// A Zipkin that ends with its owner, and its traces with it.
pub struct Zipkin {
    server: Local,
}

impl Zipkin {
    /// Starts the server from its jar, on an address of this machine that the pods reach.
    pub async fn start(jar: &Path, address: IpAddr) -> Result<Self> {
        // It ends with us, also when we are killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-jar"]).arg(jar);
        let options = [("ip", address.to_string()), ("port", PORT.to_string()), ("protocols[0]", "http".to_owned())];
        command.args(options.map(|(name, value)| format!("--armeria.ports[0].{name}={value}")));
        command.arg("--logging.level.root=OFF");
        command.stdout(std::process::Stdio::null());
        let url = format!("http://{}", SocketAddr::new(address, PORT));
        let server = Local::start(command, url, "/health").await;
        Ok(Self { server: server.context("Zipkin takes Java 17 (on Debian the package is openjdk-17-jre-headless)")? })
    }

    /// Its page.
    pub fn page(&self) -> String {
        format!("{}/zipkin/", self.server.url)
    }

    /// The page of a trace.
    pub fn page_of(&self, trace_id: &str) -> String {
        format!("{}traces/{trace_id}", self.page())
    }

    /// `spec.tracing` of a service that sends its journeys there: a raw exporter, and the collector that has it.
    pub fn tracing(&self) -> Value {
        let config = json!({"endpoint": format!("{}/api/v2/spans", self.server.url)});
        json!({
            "destinations": [{"name": "zipkin", "exporter": {"type": "zipkin", "config": config}}],
            "collector": {"image": ZIPKIN_COLLECTOR_IMAGE, "command": ["/otelcol"]},
        })
    }

    /// The spans of a trace, in Zipkin's own form; none where there is no such trace.
    pub async fn spans(&self, trace_id: &str) -> Result<Vec<Value>> {
        let response =
            reqwest::get(format!("{}/api/v2/trace/{trace_id}", self.server.url)).await.context("cannot ask Zipkin")?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        Ok(response.error_for_status().context("Zipkin refuses")?.json().await?)
    }
}
