//! What scenarios count on in the sandbox: names, Services, limits, models, ConfigMaps, Jaeger. Brings the usual sandbox up
//! if it is not.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

use std::{process::Output, time::Duration};

use serde_json::{Value, json};
use sojourn_e2e::{
    namespace::Namespace,
    sandbox::{BUSYBOX_IMAGE, Cluster, MODELS_CLAIM, Progress, Sandbox},
    wait::{self, Look},
};

const NAMESPACE: &str = "sandbox-works";

#[tokio::test]
async fn pods_find_each_other_and_are_held_to_their_limits() {
    let cluster = Sandbox::from_environment().unwrap().up(&Progress::new()).await.unwrap();
    let namespace = Namespace::create(&cluster.client(), NAMESPACE).await.unwrap();
    cluster.provide_models(NAMESPACE).await.unwrap();
    std::fs::write(cluster.models().join("sandbox-works.txt"), "a model").unwrap();

    let web = "echo page > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";
    let greedy = "x=$(head -c 100000000 /dev/zero | tr '\\0' x)";
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"word": "old"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
            "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}],
        }},
        pod("web", web),
        pod("client", "exec sleep 1000000"),
        pod("greedy", greedy),
    ]});
    kubectl(&cluster, &["apply", "--filename=-"], &objects.to_string());
    kubectl(&cluster, &["wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=60s"], "");

    // Through the Service, from another pod, from the pod itself, and from the host.
    for from in ["client", "web"] {
        assert_eq!(kubectl(&cluster, &["exec", from, "--", "wget", "-qO-", "http://web.sandbox-works/"], ""), "page\n");
    }
    let address = kubectl(&cluster, &["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"], "");
    let page = reqwest::get(format!("http://{address}/")).await.unwrap().text().await.unwrap();
    assert_eq!(page, "page\n");

    // A name outside does not exist, which is heard at once.
    let outside = run(&cluster, &["exec", "client", "--", "wget", "-qO-", "http://tempo.elsewhere/"], "");
    assert!(String::from_utf8_lossy(&outside.stderr).contains("bad address"));

    // Models can be read and not changed.
    assert_eq!(kubectl(&cluster, &["exec", "client", "--", "cat", "/models/sandbox-works.txt"], ""), "a model");
    let change = run(&cluster, &["exec", "client", "--", "touch", "/models/sandbox-works.txt"], "");
    assert!(String::from_utf8_lossy(&change.stderr).contains("Read-only file system"));

    let reason = ["get", "pod", "greedy", "-o", "jsonpath={.status.containerStatuses[0].state.terminated.reason}"];
    becomes(&cluster, "OOMKilled", &reason).await;

    kubectl(&cluster, &["patch", "configmap", "words", "--patch", r#"{"data": {"word": "new"}}"#], "");
    becomes(&cluster, "new", &["exec", "client", "--", "cat", "/words/word"]).await;

    std::fs::remove_file(cluster.models().join("sandbox-works.txt")).unwrap();
    namespace.delete().await.unwrap();
}

#[tokio::test]
async fn jaeger_answers_with_the_span_that_it_was_sent() {
    let cluster = Sandbox::from_environment().unwrap().up(&Progress::new()).await.unwrap();
    let trace: String = format!("{:032x}", u128::from(std::process::id()) << 64 | 0x5013_0042);
    let span = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "sandbox-works"}}]},
        "scopeSpans": [{"spans": [{
            "traceId": trace, "spanId": "00000000000000aa", "name": "hello", "kind": 2,
            "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000",
        }]}],
    }]});
    let client = reqwest::Client::new();
    let receiver = cluster.jaeger_url().replace(":16686", ":4318");
    client.post(format!("{receiver}/v1/traces")).json(&span).send().await.unwrap().error_for_status().unwrap();
    let found = client.get(format!("{}/api/traces/{trace}", cluster.jaeger_url())).send().await.unwrap();
    let found: Value = found.error_for_status().unwrap().json().await.unwrap();
    assert_eq!(found["data"][0]["spans"][0]["operationName"], "hello");
}

/// A pod that restricted Pod Security lets in, with the models and the words mounted.
fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "main",
                "image": BUSYBOX_IMAGE,
                "command": ["sh", "-c", script],
                "resources": {"limits": {"memory": "40Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [
                    {"name": "models", "mountPath": "/models"},
                    {"name": "words", "mountPath": "/words"},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            }],
            "volumes": [
                {"name": "models", "persistentVolumeClaim": {"claimName": MODELS_CLAIM, "readOnly": true}},
                {"name": "words", "configMap": {"name": "words"}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    })
}

async fn becomes(cluster: &Cluster, wanted: &str, question: &[&str]) {
    wait::quietly(wanted, Duration::from_secs(60), || async {
        let answer = kubectl(cluster, question, "");
        Ok(if answer == wanted { Look::Holds(()) } else { Look::NotYet(answer) })
    })
    .await
    .unwrap();
}

fn kubectl(cluster: &Cluster, arguments: &[&str], input: &str) -> String {
    let output = run(cluster, arguments, input);
    assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn run(cluster: &Cluster, arguments: &[&str], input: &str) -> Output {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, input.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut kubectl = std::process::Command::new(cluster.kubectl());
    kubectl.env("KUBECONFIG", cluster.kubeconfig()).args(["--namespace", NAMESPACE]).args(arguments).stdin(file);
    kubectl.output().unwrap()
}
