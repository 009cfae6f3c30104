//! The files that the node's components read: containerd, the network plugins, the kubelet and kube-proxy.
//! Pure. Nothing of the machine is in them but paths; what each deviation from a default is for stands beside it.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

/// The image of a pod's sandbox, imported at the start.
pub(crate) const PAUSE_IMAGE: &str = "node.local/pause:1";
/// The one node's name.
pub(crate) const NODE: &str = "node1";

/// What the files need to know of one node.
pub(crate) struct Place<'a> {
    /// Where all state is.
    pub(crate) folder: &'a Path,
    /// The folder of keys, certificates and kubeconfigs.
    pub(crate) pki: &'a Path,
    /// The network plugins' folder.
    pub(crate) plugins: &'a Path,
    /// runc.
    pub(crate) runc: &'a Path,
    /// The node's address.
    pub(crate) node: Ipv4Addr,
    /// The pods' network.
    pub(crate) pods: String,
    /// The name of the cgroup of all that the kubelet starts.
    pub(crate) cgroup: String,
}

impl Place<'_> {
    fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn pki(&self, name: &str) -> String {
        self.pki.join(name).display().to_string()
    }

    /// Where containerd listens.
    pub(crate) fn runtime_socket(&self) -> String {
        self.at("containerd.sock")
    }

    /// containerd's own file (TOML, version 3).
    pub(crate) fn containerd(&self) -> String {
        format!(
            r#"version = 3
root = '{root}'
state = '{state}'
oom_score = 0
disabled_plugins = [
    'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.erofs', 'io.containerd.differ.v1.erofs',
    'io.containerd.nri.v1.nri', 'io.containerd.internal.v1.opt', 'io.containerd.internal.v1.tracing',
    'io.containerd.tracing.processor.v1.otlp',
]

[grpc]
address = '{socket}'

[plugins.'io.containerd.cri.v1.images']
snapshotter = 'overlayfs'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE_IMAGE}'

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true    # without CAP_SYS_RESOURCE no score can be lowered
disable_apparmor = true

[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = 'runc'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
SystemdCgroup = false

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{plugins}']
conf_dir = '{network}'
"#,
            root = self.at("containerd/root"),
            state = self.at("containerd/state"),
            socket = self.runtime_socket(),
            runc = self.runc.display(),
            plugins = self.plugins.display(),
            network = self.at("network"),
        )
    }

    /// The pods' network: one bridge, addresses handed out from files.
    pub(crate) fn network(&self) -> Value {
        json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{
            "type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": self.at("addresses"),
                "ranges": [[{"subnet": self.pods, "gateway": self.node}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }]})
    }

    /// The kubelet's file.
    pub(crate) fn kubelet(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            // cgroups of version 1 are refused by default since 1.35.
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.cgroup),
            "failSwapOn": false,
            // The default, -999, takes CAP_SYS_RESOURCE.
            "oomScoreAdj": 0,
            "maxOpenFiles": 20000,
            "address": self.node,
            "healthzPort": 10248,
            "readOnlyPort": 0,
            "containerRuntimeEndpoint": format!("unix://{}", self.runtime_socket()),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.pki("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": self.pki("kubelet-server.crt"),
            "tlsPrivateKeyFile": self.pki("kubelet-server.key"),
            "resolvConf": "",
            "podLogsDir": self.at("pod-logs"),
            "volumePluginDir": self.at("volume-plugins"),
            "syncFrequency": "10s",
            // A full disk of the machine is not what is tested.
            "evictionHard": {"memory.available": "64Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        })
    }

    /// kube-proxy's file: Services by nftables, no setting of the machine touched.
    pub(crate) fn proxy(&self) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": self.pki("proxy.conf")},
            "hostnameOverride": NODE,
            "bindAddress": self.node,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "clusterCIDR": self.pods,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "oomScoreAdj": 0,
        })
    }
}
