//! A Kubernetes API server with its etcd on the loopback: admission, policies, tokens and TokenReview are real, but no
//! controller runs and no pod ever starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::cluster::Cluster;
use super::pki::Pki;
use crate::require_or_skip;
use crate::server::{Folder, RunAs, Server, free_port};

/// A running API server. Dropping it ends it.
#[derive(Debug)]
pub struct ApiServer {
    // Before the folders, and each before what it needs: fields are dropped in order.
    _server: Server,
    _etcd: Etcd,
    pki: Pki,
    _folder: Folder,
    cluster: Cluster,
    address: SocketAddr,
}

/// Where it keeps its objects.
#[derive(Debug)]
struct Etcd {
    _server: Server,
    _folder: Folder,
    url: String,
}

impl ApiServer {
    /// Starts one, empty but for the namespaces that each has: about 4 s and 300 MB. `None`: skip the test, as in
    /// [`require_or_skip`].
    ///
    /// # Panics
    /// When it is there but does not start, or is missing and required.
    pub fn start() -> Option<ApiServer> {
        let (etcd, programs) = (require_or_skip("etcd")?, require_or_skip("kube")?);
        // A free port may be taken by somebody else before its server has it.
        let mut log = String::new();
        for _ in 0..3 {
            match Etcd::launch(&etcd).and_then(|etcd| ApiServer::launch(&programs, etcd)) {
                Ok(server) => return Some(server),
                Err(ended) => log = ended,
            }
        }
        panic!("the API server ended at its start, three times; the last log:\n{log}")
    }

    fn launch(programs: &Path, etcd: Etcd) -> Result<ApiServer, String> {
        let folder = Folder::make("kube", RunAs::Same);
        let pki = Pki::make(folder.path().join("pki"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        pki.sign("apiserver", "/CN=kube-apiserver", "DNS:localhost,IP:127.0.0.1");
        let admin = pki.kubeconfig("admin", "/O=system:masters/CN=admin", &format!("https://{address}"));
        let mut command = Command::new(programs.join("kube-apiserver"));
        command.args(arguments(&pki, &etcd.url, address));
        command.args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"]);
        let server = Server::start("kube-apiserver", &command, &folder, RunAs::Same, Signal::SIGKILL);
        let cluster = Cluster::new(programs.join("kubectl"), admin, folder.path().join("home"));
        server.wait_until(|| ready(&cluster))?;
        Ok(ApiServer { _server: server, _etcd: etcd, pki, _folder: folder, cluster, address })
    }

    /// The cluster, as its administrator.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its URL, for who asks it for TokenReviews.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The CA that signed its certificate (PEM).
    pub fn ca_file(&self) -> PathBuf {
        self.pki.file("ca.crt")
    }
}

impl Etcd {
    fn launch(program: &Path) -> Result<Etcd, String> {
        let folder = Folder::make("etcd", RunAs::Same);
        let [url, peers] = [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(program);
        command.args(etcd_arguments(&folder.path().join("data"), &url, &peers));
        let server = Server::start("etcd", &command, &folder, RunAs::Same, Signal::SIGKILL);
        // The API server waits for it by itself, but not for one that ended.
        server.wait_until(|| server.log().contains("ready to serve client requests").then_some(()))?;
        Ok(Etcd { _server: server, _folder: folder, url })
    }
}

/// How etcd is started: on the loopback, alone, and with nothing that outlives the test kept safe from a power cut.
pub(super) fn etcd_arguments(data: &Path, url: &str, peers: &str) -> Vec<String> {
    vec![
        format!("--data-dir={}", data.display()),
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
    ]
}

/// What each API server of the lab is started with.
pub(super) fn arguments(pki: &Pki, etcd: &str, address: SocketAddr) -> Vec<String> {
    let file = |name: &str| pki.file(name).display().to_string();
    vec![
        format!("--etcd-servers={etcd}"),
        format!("--bind-address={}", address.ip()),
        format!("--advertise-address={}", address.ip()),
        format!("--secure-port={}", address.port()),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
    ]
}

/// Whether the API server says that it is ready and has made the namespace `default`.
pub(super) fn ready(cluster: &Cluster) -> Option<()> {
    let said = |line: &[&str]| cluster.kubectl(line).code == Some(0);
    (said(&["get", "--raw", "/readyz"]) && said(&["get", "namespace", "default"])).then_some(())
}
