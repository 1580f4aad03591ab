//! The engine as a process: what its environment says counts once, although the exporter reads the same variables.

use std::process::{Child, Command, Stdio};

use super::export::{BOTH, name};
use super::receiver::Receiver;

/// Ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_the_exporter_reads_too_count_once() {
    for protocol in BOTH {
        let mut receiver = Receiver::start(protocol).await;
        let engine = Command::new(env!("CARGO_BIN_EXE_sojourn-engine"))
            .args(["serve", "scripted:", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0", "--enable-journey-tracing"])
            .args(["--otlp-traces-endpoint", &format!("http://{}", receiver.address)])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://192.0.2.1:4317")
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", name(protocol))
            .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20t,user-agent=mine")
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
            .env("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none")
            .stderr(Stdio::null())
            .spawn();
        let _engine = Process(engine.unwrap());
        let received = receiver.next().await;
        let values =
            |name: &str| received.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((values("authorization"), received.gzip), (vec!["Bearer t"], false));
        let [agent] = values("user-agent")[..] else { panic!("{:?}", received.headers) };
        assert!(agent.starts_with("mine"), "{agent}");
    }
}
