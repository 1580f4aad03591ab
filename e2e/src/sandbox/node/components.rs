//! The programs of the node: what each is started with, and after what. Pure; paths are those inside the node.

use serde::{Deserialize, Serialize};

use super::layout;
use crate::sandbox::settings::Settings;

/// One program of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Component {
    /// Name of the component, of its log file and in what the sandbox says about it.
    pub name: String,
    /// The program, a path inside the node.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether it starts only once the API server answers; the others start at once.
    pub after_api_server: bool,
}

/// Where the programs lie inside the node.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// Directory of the Kubernetes programs.
    pub kubernetes: String,
    /// Directory of etcd.
    pub etcd: String,
    /// containerd itself, the host's.
    pub containerd: String,
}

/// The programs of a node, in the order in which they start.
pub(super) fn components(settings: &Settings, programs: &Programs) -> Vec<Component> {
    let kubernetes = |name: &str| format!("{}/{name}", programs.kubernetes);
    vec![
        component("etcd", format!("{}/etcd", programs.etcd), etcd(), false),
        component("containerd", programs.containerd.clone(), vec![flag("config", layout::etc("containerd.toml"))], false),
        component("kube-apiserver", kubernetes("kube-apiserver"), api_server(settings), false),
        component("kube-controller-manager", kubernetes("kube-controller-manager"), controller_manager(settings), true),
        component("kube-scheduler", kubernetes("kube-scheduler"), scheduler(), true),
        component("kubelet", kubernetes("kubelet"), kubelet(settings), true),
        component("kube-proxy", kubernetes("kube-proxy"), vec![flag("config", layout::etc("kube-proxy.yaml"))], true),
    ]
}

fn component(name: &str, program: String, arguments: Vec<String>, after_api_server: bool) -> Component {
    Component { name: name.to_owned(), program, arguments, after_api_server }
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn etcd() -> Vec<String> {
    vec![
        flag("data-dir", "/var/lib/etcd"),
        flag("listen-client-urls", "http://127.0.0.1:2379"),
        flag("advertise-client-urls", "http://127.0.0.1:2379"),
        flag("listen-peer-urls", "http://127.0.0.1:2380"),
        // Nothing of the cluster outlives its node, so nothing has to survive a power failure.
        flag("unsafe-no-fsync", true),
    ]
}

fn api_server(settings: &Settings) -> Vec<String> {
    vec![
        flag("etcd-servers", "http://127.0.0.1:2379"),
        flag("bind-address", "0.0.0.0"),
        flag("secure-port", layout::API_SERVER_PORT),
        flag("advertise-address", settings.node_address()),
        flag("service-cluster-ip-range", settings.services),
        flag("client-ca-file", layout::etc("ca.crt")),
        flag("tls-cert-file", layout::etc("apiserver.crt")),
        flag("tls-private-key-file", layout::etc("apiserver.key")),
        flag("service-account-key-file", layout::etc("tokens.pub")),
        flag("service-account-signing-key-file", layout::etc("tokens.key")),
        flag("service-account-issuer", "https://kubernetes.default.svc"),
        flag("kubelet-client-certificate", layout::etc("apiserver-kubelet.crt")),
        flag("kubelet-client-key", layout::etc("apiserver-kubelet.key")),
        // Else exec, logs and port-forward try to resolve the node's name.
        flag("kubelet-preferred-address-types", "InternalIP"),
        flag("authorization-mode", "Node,RBAC"),
        flag("enable-admission-plugins", "NodeRestriction"),
        flag("allow-privileged", true),
    ]
}

fn controller_manager(settings: &Settings) -> Vec<String> {
    vec![
        flag("kubeconfig", layout::etc("controller-manager.kubeconfig")),
        flag("service-account-private-key-file", layout::etc("tokens.key")),
        flag("root-ca-file", layout::etc("ca.crt")),
        flag("cluster-signing-cert-file", layout::etc("ca.crt")),
        flag("cluster-signing-key-file", layout::etc("ca.key")),
        flag("use-service-account-credentials", true),
        flag("cluster-cidr", settings.pods),
        flag("allocate-node-cidrs", false),
        flag("leader-elect", false),
    ]
}

fn scheduler() -> Vec<String> {
    vec![flag("kubeconfig", layout::etc("scheduler.kubeconfig")), flag("leader-elect", false)]
}

fn kubelet(settings: &Settings) -> Vec<String> {
    vec![
        flag("config", layout::etc("kubelet.yaml")),
        flag("kubeconfig", layout::etc("kubelet.kubeconfig")),
        flag("hostname-override", &settings.name),
        flag("node-ip", settings.node_address()),
    ]
}
