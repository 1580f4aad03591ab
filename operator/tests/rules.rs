//! The rules of the schema, judged by a real API server: `cargo test -p sojourn-operator --test rules` with a kubeconfig of a
//! cluster in which the definition is installed. Every request is a dry run.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

struct Rules {
    api: Api<DynamicObject>,
}

impl Rules {
    async fn of_the_cluster() -> Self {
        // Another test of this process may have installed it already.
        let _already = rustls::crypto::ring::default_provider().install_default().is_err();
        let client = Client::try_default().await.unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("sojourn.dev", "v1alpha1", "InferenceService"));
        Self { api: Api::default_namespaced_with(client, &kind) }
    }

    /// What the API server says to a service with a model and this much more of a spec; nothing when it takes it.
    async fn judge(&self, name: &str, spec: &str) -> Option<String> {
        let mut object = json!({
            "apiVersion": "sojourn.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {"model": {"uri": "pvc://models/m.gguf"}},
        });
        let more: Value = serde_yaml::from_str(spec).unwrap();
        for (field, value) in more.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        match self.api.create(&parameters, &serde_json::from_value(object).unwrap()).await {
            Ok(_) => None,
            Err(kube::Error::Api(status)) => Some(status.message.clone()),
            Err(error) => panic!("the API server cannot be asked: {error}"),
        }
    }

    async fn accept(&self, specs: &[&str]) {
        for spec in specs {
            assert_eq!(self.judge("chat", spec).await, None, "{spec}");
        }
    }

    async fn refuse(&self, specs: &[(&str, &str)]) {
        for (spec, expected) in specs {
            let said = self.judge("chat", spec).await;
            assert!(said.as_deref().is_some_and(|said| said.contains(expected)), "{spec}: {said:?}");
        }
    }
}

#[tokio::test]
async fn names_are_those_of_services() {
    let rules = Rules::of_the_cluster().await;
    assert_eq!(rules.judge(&"a".repeat(50), "{}").await, None);
    for name in ["1st", &"a".repeat(51)] {
        assert!(rules.judge(name, "{}").await.is_some_and(|said| said.contains("begin with a letter")), "{name}");
    }
}

#[tokio::test]
async fn a_model_is_where_its_scheme_says() {
    let rules = Rules::of_the_cluster().await;
    rules
        .accept(&[
            "model: {uri: 'pvc://m/x..y'}",
            "model: {uri: 'hf://org/repo'}",
            "model: {uri: 'hf://org/repo@main', file: a/b.gguf, cache: {sizeLimit: 20Gi}}",
            "model: {uri: 'file:///srv/m.gguf'}",
        ])
        .await;
    rules
        .refuse(&[
            ("model: {uri: 's3://bucket/key'}", "s3:// and oci:// are not supported yet"),
            ("model: {uri: 'oci://registry/image'}", "s3:// and oci:// are not supported yet"),
            ("model: {uri: 'http://x/m.gguf'}", "write pvc://CLAIM/path/model.gguf"),
            ("model: {uri: 'pvc://models'}", "write the claim's name and the path in it"),
            ("model: {uri: 'pvc://models/../x'}", "may not contain '..'"),
            ("model: {uri: 'hf://org'}", "write hf://ORG/REPO"),
            ("model: {uri: 'file://srv/m'}", "three slashes"),
            ("model: {uri: 'pvc://m/d', file: /x}", "a relative path"),
            ("model: {uri: 'hf://a/b', cache: {claimName: c, sizeLimit: 1Gi}}", "claimName or sizeLimit, not both"),
        ])
        .await;
}

#[tokio::test]
async fn pods_and_engines_can_be_run() {
    let rules = Rules::of_the_cluster().await;
    rules
        .accept(&[
            "gpu: {count: 1}",
            "replicas: 0",
            "resources: {requests: {cpu: 1, memory: 1Gi}}",
            "engine: {schedulingPolicy: priority, extraArgs: ['--client-stall-timeout=3', '--port-x']}",
            "rollout: {maxSurge: 0, maxUnavailable: 1}",
            "{podTemplate: {spec: {anything: 1}}, affinity: {x: 1}, tolerations: [{key: a, operator: Exists}]}",
        ])
        .await;
    rules
        .refuse(&[
            ("gpu: {count: 2}", "use replicas for more"),
            ("replicas: -1", "greater than or equal to 0"),
            ("engine: {schedulingPolicy: lifo}", "supported values"),
            ("engine: {extraArgs: ['--otlp-traces-endpoint=x']}", "extraArgs may not repeat"),
            ("engine: {extraArgs: ['--max-num-seqs', '3']}", "extraArgs may not repeat"),
            ("engine: {extraArgs: ['--hf-token=secret']}", "extraArgs may not repeat"),
            ("rollout: {maxSurge: 0, maxUnavailable: 0%}", "may not both be 0"),
            ("rollout: {strategy: Recreate, maxSurge: 1}", "no meaning with Recreate"),
            ("drain: {timeout: 2}", "string"),
            ("startup: {timeout: soon}", "write a duration"),
        ])
        .await;
}

#[tokio::test]
async fn destinations_can_be_reached() {
    let rules = Rules::of_the_cluster().await;
    let with = |destination: &str| format!("tracing: {{destinations: [{{name: a, {destination}}}]}}");
    let accepted = [
        "endpoint: 'http://tempo.observability:4317'",
        "endpoint: 'https://tempo:4317', tls: {caSecretKey: ca.crt}",
        "endpoint: 'https://host/otlp', protocol: http, headers: [{name: authorization, secretKey: token}]",
        "exporter: {type: kafka, config: {a: {b: [1]}}}",
    ];
    for destination in accepted {
        rules.accept(&[&with(destination)]).await;
    }
    let refused = [
        ("endpoint: 'tempo:4317'", "write http://HOST:PORT"),
        ("endpoint: 'http://tempo'", "needs a port and no path"),
        ("endpoint: 'http://tempo:4317/v1'", "needs a port and no path"),
        ("protocol: grpc", "exactly one of endpoint (OTLP) and exporter"),
        ("endpoint: 'http://a:1', exporter: {type: kafka}", "exactly one of endpoint (OTLP) and exporter"),
        ("exporter: {type: kafka}, protocol: http", "belong to endpoint"),
        ("endpoint: 'http://a:1', tls: {caSecretKey: x}", "starts with https://"),
        ("endpoint: 'http://a:1', headers: [{name: x}]", "exactly one of value and secretKey"),
        ("endpoint: 'http://a:1', headers: [{name: x, value: v, secretKey: k}]", "exactly one of value and secretKey"),
    ];
    for (destination, expected) in refused {
        rules.refuse(&[(&with(destination), expected)]).await;
    }
    let nine: Vec<String> = (0..9).map(|n| format!("{{name: d{n}, endpoint: 'http://a:1'}}")).collect();
    let many = format!("tracing: {{destinations: [{}]}}", nine.join(", "));
    let twice = "tracing: {destinations: [{name: a, endpoint: 'http://a:1'}, {name: a, endpoint: 'http://b:1'}]}";
    rules.refuse(&[(&many, "at most 8"), (twice, "Duplicate value")]).await;
}

#[tokio::test]
async fn sampling_and_collector_mean_something() {
    let rules = Rules::of_the_cluster().await;
    rules
        .accept(&[
            "tracing: {sampling: {rate: 0.0001%, parents: Ignore, keep: {errors: false, slowerThan: 1m30s}}}",
            "tracing: {collector: {image: '', command: []}}",
            "tracing: {collector: {image: otelcol, command: [/otelcol]}}",
        ])
        .await;
    rules
        .refuse(&[
            ("tracing: {sampling: {rate: '10'}}", "write a percentage"),
            ("tracing: {sampling: {rate: 0.00001%}}", "write a percentage"),
            ("tracing: {sampling: {rate: 101%}}", "write a percentage"),
            ("tracing: {sampling: {keep: {slowerThan: '2'}}}", "write a duration"),
            ("tracing: {sampling: {parents: Maybe}}", "supported values"),
            ("tracing: {collector: {image: x}}", "set command to the image's own entry point"),
            ("tracing: {baggage: ['a,b']}", "without commas"),
            ("tracing: {resourceAttributes: {service.name: x}}", "choose other keys"),
        ])
        .await;
}
