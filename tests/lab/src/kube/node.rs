//! A Kubernetes node that runs pods: API server, controllers, scheduler, containerd with runc, kubelet and kube-proxy, each
//! a plain process in namespaces of their own. Nothing of the machine is changed, and one kill ends it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::api_server::{arguments, etcd_arguments, ready};
use super::archive::write_image;
use super::cluster::Cluster;
use super::namespaces::Namespaces;
use super::pki::Pki;
use super::settings::{NODE, PAUSE_IMAGE, Place};
use crate::require_or_skip;
use crate::server::{Folder, RunAs, Server};

/// The programs of a node, each the lab's or Debian's.
struct Programs {
    etcd: PathBuf,
    kube: PathBuf,
    containerd: PathBuf,
    plugins: PathBuf,
    pause: PathBuf,
    runc: PathBuf,
}

/// A running node. Dropping it ends it with all its pods.
#[derive(Debug)]
pub struct Node {
    // First: with it all the others end at once. Fields are dropped in order.
    namespaces: Namespaces,
    servers: Vec<(Server, Folder)>,
    pki: Pki,
    cluster: Cluster,
    tools: PathBuf,
}

impl Node {
    /// Starts one: about 10 s and 750 MB. `None`: skip the test, as in [`require_or_skip`].
    ///
    /// # Panics
    /// When it is there but does not start (not root, no right to make namespaces or cgroups), or is missing and required.
    pub fn start() -> Option<Node> {
        let programs = Programs {
            etcd: require_or_skip("etcd")?,
            kube: require_or_skip("kube")?,
            containerd: require_or_skip("containerd")?,
            plugins: require_or_skip("cni")?,
            pause: require_or_skip("pause")?,
            runc: require_or_skip("node-tools")?,
        };
        let namespaces = Namespaces::make(&programs.pause);
        let mut node = Node::prepare(namespaces, &programs);
        node.start_servers(&programs);
        Some(node)
    }

    fn prepare(namespaces: Namespaces, programs: &Programs) -> Node {
        let pki = Pki::make(namespaces.folder().join("pki"));
        let (address, number) = (namespaces.node(), namespaces.number());
        let server = format!("https://{address}:6443");
        pki.sign(
            "apiserver",
            "/CN=kube-apiserver",
            &format!(
                "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:{address},IP:10.{number}.96.1"
            ),
        );
        pki.sign(
            "kubelet-server",
            &format!("/O=system:nodes/CN=system:node:{NODE}"),
            &format!("DNS:{NODE},IP:{address}"),
        );
        pki.sign("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", "");
        let admin = pki.kubeconfig("admin", "/O=system:masters/CN=admin", &server);
        pki.kubeconfig("kubelet", &format!("/O=system:nodes/CN=system:node:{NODE}"), &server);
        for (name, subject) in [
            ("controllers", "/CN=system:kube-controller-manager"),
            ("scheduler", "/CN=system:kube-scheduler"),
            ("proxy", "/CN=system:kube-proxy"),
        ] {
            pki.kubeconfig(name, subject, &server);
        }
        let cluster = Cluster::new(programs.kube.join("kubectl"), admin, namespaces.folder().join("home"));
        Node { namespaces, servers: Vec::new(), pki, cluster, tools: programs.containerd.clone() }
    }

    fn start_servers(&mut self, programs: &Programs) {
        let folder = self.namespaces.folder().to_owned();
        for name in ["network", "pod-logs", "volume-plugins"] {
            make_folder(&folder.join(name));
        }
        let place = self.place(programs);
        let write = |name: &str, text: String| {
            fs::write(folder.join(name), text).unwrap_or_else(|error| panic!("writing {name}: {error}"));
            folder.join(name).display().to_string()
        };
        let containerd = write("containerd.toml", place.containerd());
        write("network/10-pods.conflist", place.network().to_string());
        let kubelet = write("kubelet.yaml", place.kubelet().to_string());
        let proxy = write("proxy.yaml", place.proxy().to_string());
        let cluster = self.cluster.clone();

        let etcd = etcd_arguments(&folder.join("etcd"), "http://127.0.0.1:2379", "http://127.0.0.1:2380");
        self.run("etcd", &programs.etcd, etcd);
        self.run("containerd", &programs.containerd.join("containerd"), ["--config".to_owned(), containerd]);
        self.run("kube-apiserver", &programs.kube.join("kube-apiserver"), self.api_server_arguments());
        self.wait("containerd", |node| node.runtime(&["version"]).ok().map(drop));
        self.import_pause(&programs.pause);
        self.wait("kube-apiserver", |_| ready(&cluster));
        self.run(
            "kube-controller-manager",
            &programs.kube.join("kube-controller-manager"),
            self.controllers(),
        );
        self.run("kube-scheduler", &programs.kube.join("kube-scheduler"), self.scheduler());
        self.run("kubelet", &programs.kube.join("kubelet"), self.kubelet(&kubelet));
        self.run("kube-proxy", &programs.kube.join("kube-proxy"), [format!("--config={proxy}")]);
        let wait = ["wait", "--for=condition=Ready", &format!("node/{NODE}"), "--timeout=1s"];
        self.wait("kubelet", |_| (cluster.kubectl(&wait).code == Some(0)).then_some(()));
        let account = ["get", "serviceaccount", "default"];
        self.wait("kube-controller-manager", |_| (cluster.kubectl(&account).code == Some(0)).then_some(()));
    }

    fn place<'a>(&'a self, programs: &'a Programs) -> Place<'a> {
        Place {
            folder: self.namespaces.folder(),
            pki: self.pki.folder(),
            plugins: &programs.plugins,
            runc: &programs.runc,
            node: self.namespaces.node(),
            pods: format!("10.{}.7.0/24", self.namespaces.number()),
            cgroup: self.namespaces.cgroup(),
        }
    }

    /// Starts one component inside.
    fn run(&mut self, name: &'static str, program: &Path, arguments: impl IntoIterator<Item = String>) {
        let folder = Folder::make(name, RunAs::Same);
        let mut command = self.namespaces.enter(program);
        command.args(arguments);
        let server = Server::start(name, &command, &folder, RunAs::Same, Signal::SIGKILL);
        self.servers.push((server, folder));
    }

    /// Waits for `ready`, and for the end of the component that it waits for.
    fn wait(&self, name: &str, ready: impl Fn(&Node) -> Option<()>) {
        let (server, _) = self
            .servers
            .iter()
            .find(|(server, _)| server.name() == name)
            .unwrap_or_else(|| panic!("{name} was not started"));
        if let Err(log) = server.wait_until(|| ready(self)) {
            panic!("{name} ended at its start; its log:\n{log}");
        }
    }

    /// Runs containerd's own command line.
    fn runtime(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.namespaces.enter(&self.tools.join("ctr"));
        let socket = self.namespaces.folder().join("containerd.sock");
        command.arg("--address").arg(socket).args(["--namespace", "k8s.io"]).args(arguments);
        let ran = command.stdin(Stdio::null()).output();
        let ran = ran.unwrap_or_else(|error| panic!("running ctr: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ran.status.success() { Ok(text(&ran.stdout)) } else { Err(text(&ran.stderr)) }
    }

    fn import_pause(&self, pause: &Path) {
        let archive = self.namespaces.folder().join("pause.tar");
        write_image(&archive, PAUSE_IMAGE, &[(pause, "pause")]);
        self.import_labelled(&archive, &["--label", "io.cri-containerd.pinned=pinned"]);
    }

    fn import_labelled(&self, archive: &Path, options: &[&str]) {
        let archive = archive.display().to_string();
        let line = [&["images", "import"], options, &[archive.as_str()]].concat();
        self.runtime(&line).unwrap_or_else(|error| panic!("importing {archive}: {error}"));
    }
}

/// How each component is started.
impl Node {
    fn file(&self, name: &str) -> String {
        self.pki.file(name).display().to_string()
    }

    fn api_server_arguments(&self) -> Vec<String> {
        let mut line = arguments(&self.pki, "http://127.0.0.1:2379", self.address());
        line.extend([
            format!("--service-cluster-ip-range=10.{}.96.0/20", self.namespaces.number()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--kubelet-client-certificate={}", self.file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", self.file("kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", self.file("ca.crt")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]);
        line
    }

    fn controllers(&self) -> Vec<String> {
        let mut line = self.client("controllers.conf");
        line.extend([
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", self.file("accounts.key")),
            format!("--root-ca-file={}", self.file("ca.crt")),
            format!("--flex-volume-plugin-dir={}", self.namespaces.folder().join("volume-plugins").display()),
        ]);
        line
    }

    fn scheduler(&self) -> Vec<String> {
        self.client("scheduler.conf")
    }

    fn client(&self, kubeconfig: &str) -> Vec<String> {
        let config = self.file(kubeconfig);
        vec![
            format!("--kubeconfig={config}"),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
        ]
    }

    fn kubelet(&self, config: &str) -> Vec<String> {
        vec![
            format!("--config={config}"),
            format!("--kubeconfig={}", self.file("kubelet.conf")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={}", self.namespaces.node()),
            format!("--root-dir={}", self.namespaces.folder().join("kubelet").display()),
            format!("--cert-dir={}", self.pki.folder().display()),
        ]
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((self.namespaces.node(), 6443))
    }
}

/// What a test does with it.
impl Node {
    /// The cluster, as its administrator.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.file("admin.conf")
    }

    /// What a person types before the name of an image's archive to bring it to the node.
    pub fn import_line(&self) -> String {
        let socket = self.namespaces.folder().join("containerd.sock");
        let ctr = self.tools.join("ctr");
        let mut command = self.namespaces.enter(&ctr);
        command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import"]);
        format!("{command:?}")
    }

    /// The API server's URL, for who asks it for TokenReviews.
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// The CA that signed its certificate (PEM).
    pub fn ca_file(&self) -> PathBuf {
        self.pki.file("ca.crt")
    }

    /// Where pods reach what listens on the machine.
    pub fn machine(&self) -> Ipv4Addr {
        self.namespaces.machine()
    }

    /// Brings the images of an archive (OCI or Docker) to the node, in place of a pull.
    pub fn import(&self, archive: &Path) {
        self.import_labelled(archive, &[]);
    }

    /// The machine's ids of a container's processes; `id` is what its status calls `containerID`.
    pub fn processes(&self, id: &str) -> Vec<Pid> {
        let id = id.rsplit('/').next().unwrap_or(id);
        assert!(id.len() >= 32, "not a container's id: {id}");
        let entries = fs::read_dir("/proc").unwrap_or_else(|error| panic!("reading /proc: {error}"));
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let inside =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|of| of.contains(id));
        pids.filter(inside).map(Pid::from_raw).collect()
    }

    /// Ends a container's processes with SIGKILL, as the kernel would when memory runs out.
    pub fn kill(&self, id: &str) {
        let processes = self.processes(id);
        assert!(!processes.is_empty(), "{id} has no process");
        for pid in processes {
            kill(pid, Signal::SIGKILL).unwrap_or_else(|error| panic!("killing {pid}: {error}"));
        }
    }

    /// A file of a container's memory cgroup, by either version's name for it; `None` where this version has no such file.
    pub fn memory(&self, id: &str, file: &str) -> Option<String> {
        let pid = self.processes(id).first().copied()?;
        let of = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = |line: &str| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            match controllers {
                "memory" => Some(format!("/sys/fs/cgroup/memory{path}")),
                "" => Some(format!("/sys/fs/cgroup{path}")),
                _ => None,
            }
        };
        of.lines().filter_map(path).find_map(|folder| fs::read_to_string(Path::new(&folder).join(file)).ok())
    }

    /// A command that runs `program` in the node's mount, network and pid namespaces, as an administrator of the node could.
    pub fn enter(&self, program: &Path) -> Command {
        self.namespaces.enter(program)
    }

    /// What a component wrote to its log: `kubelet`, `containerd`, `kube-apiserver` …
    pub fn log(&self, component: &str) -> String {
        let found = self.servers.iter().find(|(server, _)| server.name() == component);
        found.map(|(server, _)| server.log()).unwrap_or_else(|| panic!("there is no {component}"))
    }
}

fn make_folder(path: &Path) {
    fs::create_dir_all(path).unwrap_or_else(|error| panic!("making {}: {error}", path.display()));
}
