//! The files that the node's programs read, as texts by their path below `etc`. Pure but for the randomness of keys.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Result;
use serde_json::{Value, json};

use super::layout;
use crate::sandbox::{
    addons::PAUSE_IMAGE,
    pki::{Authority, token_keys},
    settings::Settings,
};

/// The configuration files, which say the same each time. `plugins` is the directory of the network plug-ins.
pub(super) fn files(settings: &Settings, plugins: &str) -> Result<BTreeMap<String, String>> {
    let resolver = "# Pods that ask for the node's DNS get none: the sandbox reaches nothing outside.\n";
    let files = [
        ("containerd.toml", containerd(plugins)),
        ("cni/10-pods.conflist", serde_json::to_string_pretty(&pod_network(settings))?),
        ("kubelet.yaml", serde_yaml::to_string(&kubelet(settings))?),
        ("kube-proxy.yaml", serde_yaml::to_string(&kube_proxy(settings))?),
        ("resolv.conf", resolver.to_owned()),
    ];
    Ok(files.into_iter().map(|(name, content)| (name.to_owned(), content)).collect())
}

/// Certificates, keys and kubeconfigs of a new cluster.
pub(super) struct Credentials {
    /// Files below `etc`.
    pub files: BTreeMap<String, String>,
    /// The administrator's kubeconfig.
    pub administrator: String,
}

/// Makes a new cluster's credentials.
pub(super) fn credentials(settings: &Settings) -> Result<Credentials> {
    let server = format!("https://{}:{}", settings.node_address(), layout::API_SERVER_PORT);
    let authority = Authority::new(&settings.name)?;
    let mut files = BTreeMap::new();
    let mut put = |name: &str, content: String| files.insert(name.to_owned(), content);

    put("ca.crt", authority.certificate().to_owned());
    put("ca.key", authority.key().to_owned());
    let (private, public) = token_keys()?;
    put("tokens.key", private);
    put("tokens.pub", public);

    let node = IpAddr::from(settings.node_address());
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let service = IpAddr::from(settings.kubernetes_service());
    let names =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"];
    let system_node = format!("system:node:{}", settings.name);
    let identities = [
        ("apiserver", authority.identity("kube-apiserver", None, &names, &[loopback, node, service])?),
        ("apiserver-kubelet", authority.identity("kube-apiserver-kubelet-client", Some("system:masters"), &[], &[])?),
        ("kubelet", authority.identity(&system_node, Some("system:nodes"), &[&settings.name], &[loopback, node])?),
    ];
    for (name, identity) in identities {
        put(&format!("{name}.crt"), identity.certificate);
        put(&format!("{name}.key"), identity.key);
    }

    put("kubelet.kubeconfig", authority.kubeconfig(&server, &system_node, Some("system:nodes"))?);
    for user in ["controller-manager", "scheduler", "proxy"] {
        put(&format!("{user}.kubeconfig"), authority.kubeconfig(&server, &format!("system:kube-{user}"), None)?);
    }
    let administrator = authority.kubeconfig(&server, "admin", Some("system:masters"))?;
    Ok(Credentials { files, administrator })
}

/// Every pod on its own link, all traffic routed: Services work between pods of a node also where bridges bypass iptables.
fn pod_network(settings: &Settings) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": settings.pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }],
    })
}

fn containerd(plugins: &str) -> String {
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  # Lowering oom_score_adj needs a right that a virtual machine's root may lack.
  restrict_oom_score_adj = true
  # A profile would be loaded into the whole machine's kernel, and stay there.
  disable_apparmor = true
  sandbox_image = "{PAUSE_IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{conf_dir}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        conf_dir = layout::etc("cni"),
    )
}

fn kubelet(settings: &Settings) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout::etc("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": layout::etc("kubelet.crt"),
        "tlsPrivateKeyFile": layout::etc("kubelet.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": [settings.dns_service()],
        "clusterDomain": "cluster.local",
        "resolvConf": layout::etc("resolv.conf"),
        // Every container below one cgroup of ours, which `down` removes.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", settings.name),
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        // Nothing could be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // A changed ConfigMap reaches a running pod within seconds, not within a minute.
        "syncFrequency": "10s",
    })
}

fn kube_proxy(settings: &Settings) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": layout::etc("proxy.kubeconfig")},
        "mode": "iptables",
        "clusterCIDR": settings.pods,
        "hostnameOverride": settings.name,
        // The kernel's table is the host's: leave its limits alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}
