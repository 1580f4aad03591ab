//! The supervisor as a process, with a fake collector behind it.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

mod pod;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use sojourn_contract::path::SUPERVISOR_BINARY;

use pod::{PHOENIX, Pod, TEMPO, file, with_fake};

/// What is said of a file whose collector cannot be started with [`PHOENIX`].
const REFUSED_PHOENIX: &str =
    "the collector ended with exit status 1: failed to start \"otlp_http/phoenix-89abcdef\" exporter: bad certificate";

#[test]
fn a_collector_is_started_and_its_destinations_are_reported() {
    let pod = Pod::start(&file(&[TEMPO]));
    let state = pod.until("it runs", |state| state.collector.running);
    assert_eq!((state.collector.starts, state.collector.crashes), (1, 0));
    assert_eq!(state.collector.revision, pod.revision());
    assert_eq!(state.collector.refused, None);
    pod.tell("/queue/7");
    pod.tell("/sent/3");
    let state = pod.until("its numbers are there", |state| state.destinations[0].sent_spans == 3);
    let tempo = &state.destinations[0];
    assert_eq!((tempo.name.as_str(), tempo.queue_size, tempo.queue_capacity), ("tempo", 7, 1000));
    assert!(tempo.seconds_since_sent.is_some());
    assert!(state.collector.memory_bytes > 1 << 20);
    assert!(pod.get("/metrics").lines().any(|line| line == r#"sojourn_destination_sent_spans_total{destination="tempo"} 3"#));
    assert_eq!(pod.get("/health"), "ok");
}

#[test]
fn each_start_sends_one_probe_span_with_the_resource_of_the_pod() {
    let pod = Pod::start(&file(&[TEMPO]));
    let spans = pod.until_spans(1);
    let resource = &spans[0]["resourceSpans"][0]["resource"]["attributes"];
    let expected = [("team", "a,b"), ("service.name", "smollm")];
    let expected: Vec<_> = expected.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect();
    assert_eq!(*resource, json!(expected));
    assert_eq!(spans[0]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"], "sidecar_probe");
}

#[test]
fn a_crash_restarts_the_collector_and_not_the_supervisor() {
    let mut pod = Pod::start(&file(&[TEMPO]));
    pod.until("it runs", |state| state.collector.running);
    pod.tell("/sent/5");
    pod.until("spans were sent", |state| state.destinations[0].sent_spans == 5);
    pod.kill_collector();
    let state = pod.until("it runs again", |state| state.collector.running && state.collector.starts == 2);
    assert_eq!((state.collector.crashes, state.collector.refused), (1, None));
    pod.tell("/sent/2");
    pod.until("counters go on", |state| state.destinations[0].sent_spans == 7);
    assert!(pod.is_alive());
    assert_eq!(pod.until_spans(1).len(), 1);
}

#[test]
fn a_collector_that_hangs_is_renewed() {
    let pod = Pod::start_with(&file(&[TEMPO]), &["--hang-timeout=3s"]);
    pod.until("it runs", |state| state.collector.running);
    pod.tell("/hang");
    pod.until("it runs again", |state| state.collector.running && state.collector.crashes >= 1 && state.collector.starts >= 2);
}

#[test]
fn a_new_file_is_taken_once_the_queues_are_empty() {
    let pod = Pod::start(&file(&[TEMPO]));
    pod.until("it runs", |state| state.collector.running);
    pod.tell("/queue/7");
    pod.until("something waits", |state| state.destinations[0].queue_size == 7);
    let looks = pod.looks();
    pod.mount(&file(&[TEMPO, PHOENIX]));
    pod.until_looks(looks + 20);
    assert_eq!(pod.state().collector.starts, 1, "it does not wait for the queue");
    pod.tell("/queue/0");
    let revision = pod.revision();
    let state = pod.until("the new file runs", |state| state.collector.running && state.collector.revision == revision);
    let names: Vec<_> = state.destinations.iter().map(|destination| destination.name.as_str()).collect();
    assert_eq!((names, state.collector.starts, state.collector.crashes), (vec!["tempo", "phoenix"], 2, 0));
}

#[test]
fn a_dead_destination_holds_a_new_file_for_a_bounded_time() {
    let pod = Pod::start_with(&file(&[TEMPO]), &["--drain-timeout=1s"]);
    pod.until("it runs", |state| state.collector.running);
    pod.tell("/queue/7");
    pod.mount(&file(&[PHOENIX]));
    pod.until("the new file runs", |state| state.collector.running && state.collector.starts == 2);
}

#[test]
fn a_bad_file_goes_back_to_the_last_good_one_and_says_why() {
    let pod = Pod::start_with(&file(&[TEMPO]), &["--settle-time=200ms"]);
    pod.until("it runs", |state| state.collector.running);
    let good = pod.revision();
    pod.until_looks(pod.looks() + 5);
    pod.mount(&with_fake(&file(&[TEMPO, PHOENIX]), json!({"refuses": [PHOENIX.0]})));
    let state = pod.until("it is refused", |state| state.collector.running && state.collector.refused.is_some());
    let refused = state.collector.refused.unwrap_or_default();
    assert_eq!(refused, REFUSED_PHOENIX);
    assert_eq!((state.collector.revision, state.collector.starts), (good, 3));
    pod.mount(&file(&[PHOENIX]));
    let revision = pod.revision();
    let state = pod.until("the mended file runs", |state| state.collector.running && state.collector.revision == revision);
    assert_eq!(state.collector.refused, None);
}

#[test]
fn a_destination_that_a_first_file_cannot_be_started_with_is_left_out_and_the_others_go_on() {
    let mut pod = Pod::start(&with_fake(&file(&[TEMPO, PHOENIX]), json!({"refuses": [PHOENIX.0]})));
    let state = pod.until("it runs", |state| state.collector.running);
    assert_eq!(state.collector.refused.as_deref(), Some(REFUSED_PHOENIX));
    assert_eq!(pod.effective()["service"]["pipelines"]["traces"]["exporters"], json!([TEMPO.0]));
    assert_eq!(state.destinations.len(), 2);
    assert!(pod.is_alive());
}

#[test]
fn a_file_that_is_no_configuration_leaves_the_collector_alone() {
    let pod = Pod::start(&file(&[TEMPO]));
    pod.until("it runs", |state| state.collector.running);
    pod.mount_text("receivers: [");
    let state = pod.until("it is refused", |state| state.collector.refused.is_some());
    assert!(state.collector.running);
    assert_eq!(state.collector.starts, 1);
    assert!(state.collector.refused.unwrap_or_default().starts_with("the mounted configuration is not YAML: "));
}

#[test]
fn a_missing_key_leaves_its_destination_out_until_it_is_there() {
    let pod = Pod::start(&file(&[TEMPO, PHOENIX]));
    pod.remove_key("tempo");
    let state =
        pod.until("tempo is left out", |state| state.collector.running && !state.destinations[0].missing_keys.is_empty());
    assert_eq!(state.destinations[0].missing_keys, ["tempo"]);
    assert!(state.destinations[1].missing_keys.is_empty());
    let effective = pod.effective();
    assert_eq!(effective["service"]["pipelines"]["traces"]["exporters"], json!([PHOENIX.0]));
    pod.put_key("tempo", "back");
    pod.until("tempo is back", |state| state.collector.running && state.destinations[0].missing_keys.is_empty());
    assert_eq!(pod.effective()["exporters"][TEMPO.0]["headers"]["authorization"], "back");
}

#[test]
fn a_credential_is_trimmed_escaped_and_private() {
    let pod = Pod::prepare(&file(&[TEMPO])).with_key("tempo", "pa$$word${env:HOME}\n").run(&[]);
    pod.until("it runs", |state| state.collector.running);
    assert_eq!(pod.effective()["exporters"][TEMPO.0]["headers"]["authorization"], "pa$$$$word$${env:HOME}");
    let mode = fs::metadata(pod.effective_path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_error_is_remembered_for_its_destination_without_the_credential() {
    let pod = Pod::prepare(&file(&[TEMPO])).with_key("tempo", "Bearer open-sesame").run(&[]);
    pod.until("it runs", |state| state.collector.running);
    let line = json!({"level": "info", "msg": "Exporting failed.", "otelcol.component.id": TEMPO.0, "error": "'open-sesame' is wrong"});
    pod.post("/log", &line.to_string());
    let state = pod.until("the error is there", |state| state.destinations[0].last_error.is_some());
    assert_eq!(state.destinations[0].last_error.as_deref(), Some("Exporting failed: '***' is wrong"));
    assert_eq!(state.collector.last_error, state.destinations[0].last_error);
    pod.put_key("tempo", "Bearer right-sesame");
    let state = pod.until("the new key is in use", |state| state.collector.running && state.collector.starts == 2);
    assert_eq!((&state.collector.last_error, &state.destinations[0].last_error), (&None, &None));
    let log = pod.end();
    assert!(log.contains("'***' is wrong"), "the line is not passed on");
    assert!(!log.contains("open-sesame"), "the credential is in the log");
}

#[test]
fn a_command_that_does_not_exist_is_reported_and_not_fatal() {
    let mut pod = Pod::prepare(&file(&[TEMPO])).run_command(&["/no/such/collector"], &[]);
    let state = pod.until("it says why", |state| state.collector.last_error.is_some());
    let error = state.collector.last_error.unwrap_or_default();
    assert_eq!(error, "cannot start /no/such/collector: No such file or directory (os error 2)");
    assert!(!state.collector.running);
    assert_eq!((state.collector.starts, state.collector.refused), (0, None));
    assert_eq!(state.destinations[0].name, "tempo");
    assert!(pod.is_alive());
}

#[test]
fn the_end_waits_for_the_queues_and_is_orderly() {
    let mut pod = Pod::start_with(&file(&[TEMPO]), &["--shutdown-timeout=60s"]);
    pod.until("it runs", |state| state.collector.running);
    pod.tell("/queue/7");
    pod.until("something waits", |state| state.destinations[0].queue_size == 7);
    let looks = pod.looks();
    pod.terminate();
    pod.until_looks(looks + 10);
    assert!(pod.is_alive(), "it does not wait for the queue");
    pod.tell("/queue/0");
    assert_eq!(pod.exit_code(), Some(0));
}

#[test]
fn the_end_keeps_to_its_time_whatever_the_collector_does() {
    let mut pod = Pod::start_with(&with_fake(&file(&[TEMPO]), json!({"stubborn": true})), &["--shutdown-timeout=1s"]);
    pod.until("it runs", |state| state.collector.running);
    pod.tell("/queue/7");
    pod.terminate();
    assert_eq!(pod.exit_code(), Some(0));
}

#[test]
fn a_shell_in_front_of_the_collector_is_stopped_with_it() {
    let collector = env!("CARGO_BIN_EXE_fake-collector");
    let script = format!("{collector} \"$@\"; exit 3");
    let mut pod = Pod::prepare(&file(&[TEMPO])).run_command(&["sh", "-c", &script, "sh"], &[]);
    pod.until("it runs", |state| state.collector.running);
    pod.mount(&file(&[PHOENIX]));
    let revision = pod.revision();
    pod.until("the new file runs", |state| state.collector.running && state.collector.revision == revision);
    pod.terminate();
    assert_eq!(pod.exit_code(), Some(0));
}

#[test]
fn orphans_of_the_collector_are_reaped() {
    let pod = Pod::start(&file(&[TEMPO]));
    pod.until("it runs", |state| state.collector.running);
    let orphan = pod.post("/orphan", "");
    assert!(orphan.parse::<u32>().is_ok(), "no process id: {orphan}");
    pod.until("the orphan is gone", |_| !fs::exists(format!("/proc/{orphan}")).unwrap());
}

#[test]
fn an_installed_supervisor_is_a_program() {
    let dir = tempfile::tempdir().unwrap();
    let install =
        |program: &std::path::Path| std::process::Command::new(program).arg("install").arg(dir.path()).output().unwrap();
    let supervisor = dir.path().join(SUPERVISOR_BINARY);
    assert!(install(env!("CARGO_BIN_EXE_sojourn-sidecar").as_ref()).status.success());
    assert_eq!(fs::metadata(&supervisor).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(install(&supervisor).status.success(), "it cannot be installed over itself");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
