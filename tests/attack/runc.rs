//! A pod as a kubelet makes it, of containers by Debian's runc: an agent in one, and whoever speaks to it in others.
//!
//! Each container has what Pod Security `restricted` and the default seccomp profile leave it: a user of its own, no capability,
//! no new privileges, a read-only root. The network is the machine's own, as the agent's Vault listens there. Does not know the
//! attacks.

use crate::{
    can_attack,
    part::{Ids, Part, quiet},
    scene::{Attacked, Told, config, finished, permitted},
    skip,
    support::{Agent, BINARY, Config, Scene, finish, until},
};
use nix::unistd::{Gid, Uid, chown};
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command as Blocking, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::OnceCell,
};

/// The agent's user, and its group.
pub(crate) const AGENT: u32 = 65_532;

/// Which system calls a container may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The default of Docker and containerd.
    Moby,
    /// The default of Podman and CRI-O.
    ContainersCommon,
}

pub(crate) const PROFILES: [Profile; 2] = [Profile::Moby, Profile::ContainersCommon];

impl Profile {
    /// As runc takes it, or why there is none.
    async fn read(self) -> Result<Value, String> {
        let mut command = Command::new(lab("seccomp").await?);
        if self == Self::ContainersCommon {
            command.arg(lab("containers-common").await?);
        }
        let output = finish(command).await;
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    }
}

/// Where the lab has this: used whenever it is there, also where the real servers are left out.
async fn lab(name: &str) -> Result<PathBuf, String> {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/build"));
    command.args(["--cached", name]);
    let output = finish(command).await;
    if output.status.success() {
        return Ok(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end()));
    }
    Err(format!("needs {name}; get it with: tests/lab/build {name}"))
}

/// Whether the containers see each other's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pids {
    /// Each has a namespace of its own: the default.
    Own,
    /// `shareProcessNamespace: true`.
    Shared,
}

/// Whether pods can be made here; says why not.
pub(crate) async fn can_make_pods() -> bool {
    if !can_attack() {
        return false;
    }
    static TRIED: OnceCell<Result<(), String>> = OnceCell::const_new();
    let tried = TRIED.get_or_init(try_runc).await;
    if let Err(why) = tried {
        skip(why);
    }
    tried.is_ok()
}

async fn try_runc() -> Result<(), String> {
    for profile in PROFILES {
        profile.read().await?;
    }
    let mut command = Command::new("runc");
    command.arg("--version").stdin(Stdio::null());
    if command.output().await.is_err() {
        return Err("needs runc; Debian has a package of that name".into());
    }
    let kit = Kit::new(Profile::Moby).await;
    let (command, _container) = kit.container(&user(0), &["/bin/true"], &[], &[], None);
    let output = finish(command).await;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("runc cannot make a container here: {}", said.lines().last().unwrap_or("?")))
    }
}

/// A directory of the machine that a container sees in the same place.
struct Mount {
    from: PathBuf,
    to: PathBuf,
    options: &'static [&'static str],
}

impl Mount {
    fn read_only(path: &Path) -> Self {
        Self { from: path.into(), to: path.into(), options: &["bind", "ro", "nosuid", "nodev"] }
    }

    fn writable(path: &Path) -> Self {
        Self { options: &["bind", "rw", "nosuid", "nodev"], ..Self::read_only(path) }
    }

    fn spec(&self) -> Value {
        json!({"type": "bind", "source": self.from, "destination": self.to, "options": self.options})
    }
}

/// What containers are made of.
struct Kit {
    /// The bundles, and what runc knows of those that run.
    folder: TempDir,
    profile: Value,
}

impl Kit {
    async fn new(profile: Profile) -> Self {
        let profile = profile.read().await.unwrap();
        let folder = tempfile::Builder::new().prefix("claviger-attack-").tempdir().unwrap();
        // Nobody may read the binary, as in the image. Another process writes the copy: what this one has open for writing its
        // children have too, for a moment, and what is open for writing cannot be executed.
        let mut copy = Command::new("install");
        copy.args(["-m", "0111", BINARY]).arg(folder.path().join("claviger"));
        assert!(finish(copy).await.status.success());
        Self { folder, profile }
    }

    /// A command that runs `line` in a container to its end, and what removes the container.
    fn container(
        &self,
        ids: &Ids,
        line: &[impl AsRef<str>],
        variables: &[String],
        mounts: &[Mount],
        pids: Option<i32>,
    ) -> (Command, Container) {
        static MADE: AtomicU32 = AtomicU32::new(0);
        // As unlike any other as the folder's name is: it is also the name of a cgroup.
        let folder = self.folder.path().file_name().unwrap().display();
        let id = format!("{folder}-{}", MADE.fetch_add(1, Ordering::Relaxed));
        let bundle = self.folder.path().join(&id);
        let root = bundle.join("rootfs");
        fs::create_dir_all(&root).unwrap();
        let mut mounts: Vec<Value> = self.system(&root).chain(mounts.iter().map(Mount::spec)).collect();
        for (kind, at, options) in
            [("tmpfs", "/tmp", "mode=1777"), ("tmpfs", "/dev", "mode=755"), ("proc", "/proc", "nodev")]
        {
            mounts.insert(
                0,
                json!({"type": kind, "source": kind, "destination": at, "options": ["nosuid", options]}),
            );
        }
        let line: Vec<&str> = line.iter().map(AsRef::as_ref).collect();
        let variables = [&["PATH=/usr/bin:/bin".to_owned()], variables].concat();
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": ids.uid, "gid": ids.gid, "additionalGids": ids.groups},
                "args": line, "env": variables, "cwd": "/", "capabilities": {}, "noNewPrivileges": true
            },
            "root": {"path": "rootfs", "readonly": true},
            "hostname": id,
            "mounts": mounts,
            "linux": {
                "namespaces": namespaces(pids), "cgroupsPath": format!("/{id}"), "seccomp": self.profile,
                "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
            }
        });
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        let container = Container { runc: self.folder.path().join("runc"), bundle, id };
        (container.run(), container)
    }

    /// The machine's own programs and libraries, and the two of this test.
    fn system(&self, root: &Path) -> impl Iterator<Item = Value> + use<> {
        let binary =
            |from: PathBuf, to: &str| Mount { from, to: to.into(), ..Mount::read_only(Path::new("/")) };
        let mut mounts = vec![
            Mount::read_only(Path::new("/usr")),
            binary(self.folder.path().join("claviger"), "/claviger"),
            binary(std::env::current_exe().unwrap(), "/attacker"),
        ];
        for name in ["bin", "lib", "lib64"] {
            let path = Path::new("/").join(name);
            match fs::read_link(&path) {
                Ok(target) => symlink(target, root.join(name)).unwrap(),
                Err(_) if path.exists() => mounts.push(Mount::read_only(&path)),
                Err(_) => {}
            }
        }
        mounts.into_iter().map(|mount| mount.spec())
    }
}

fn namespaces(pids: Option<i32>) -> Value {
    let pid = match pids {
        None => json!({"type": "pid"}),
        Some(pause) => json!({"type": "pid", "path": format!("/proc/{pause}/ns/pid")}),
    };
    json!([pid, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}])
}

/// A container, which is gone when this is.
pub(crate) struct Container {
    runc: PathBuf,
    bundle: PathBuf,
    id: String,
}

impl Container {
    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.runc).arg(verb);
        command
    }

    fn run(&self) -> Command {
        let mut command = self.command("run");
        command.arg("--bundle").arg(&self.bundle).arg("--pid-file").arg(self.pid_file()).arg(&self.id);
        command
    }

    fn pid_file(&self) -> PathBuf {
        self.bundle.join("pid")
    }

    /// Its first process, by the machine's own count.
    pub(crate) async fn pid(&self) -> i32 {
        let read = || async { fs::read_to_string(self.pid_file()).ok()?.parse().ok() };
        until("the container's process", read).await
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Whoever ended by itself is not known any more.
        if self.runc.join(&self.id).exists() {
            let mut command = Blocking::new("runc");
            command.arg("--root").arg(&self.runc).args(["delete", "--force", &self.id]);
            let _ = command.stdin(Stdio::null()).output();
        }
    }
}

/// A pod with an agent that serves. What is in it ends in this order.
pub(crate) struct Pod {
    pub(crate) attacked: Attacked,
    _agent: Container,
    /// The first process of the namespace that all share, for as long as its standard input is open.
    pause: Option<(i32, Child, Container)>,
    kit: Kit,
    /// Folders that the workload's containers see too.
    shown: Vec<PathBuf>,
}

impl Pod {
    /// `peer` is who may connect, as the config has it.
    pub(crate) async fn new(profile: Profile, pids: Pids, peer: &str) -> Self {
        let scene = Scene::new().await;
        let config = config(&scene, peer, 64);
        Self::with(profile, pids, scene, &config).await
    }

    pub(crate) async fn with(profile: Profile, pids: Pids, scene: Scene, config: &Config) -> Self {
        let kit = Kit::new(profile).await;
        let pause = match pids {
            Pids::Own => None,
            Pids::Shared => {
                let (mut command, container) = kit.container(&user(65_535), &["/bin/cat"], &[], &[], None);
                let child = command.stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
                Some((container.pid().await, child, container))
            }
        };
        // As a kubelet makes a volume: root's, and everybody may write where it is not mounted read-only.
        let run = scene.path("run");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
        let journal = scene.journal();
        fs::create_dir(&journal).unwrap();
        fs::set_permissions(&journal, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&journal, Some(Uid::from_raw(AGENT)), Some(Gid::from_raw(AGENT))).unwrap();
        let file = scene.write(&config.text());
        let mounts =
            [Mount::read_only(file.parent().unwrap()), Mount::writable(&run), Mount::writable(&journal)];
        let line = ["/claviger", "run", "--config", file.to_str().unwrap()];
        let namespace = pause.as_ref().map(|(pid, ..)| *pid);
        let (command, container) = kit.container(&user(AGENT), &line, &[], &mounts, namespace);
        let mut agent = Agent::spawn(command).await;
        agent.until_ready().await;
        // Its streams and its end are runc's, its process is its own.
        agent.pid = container.pid().await;
        Self { attacked: Attacked { scene, agent }, _agent: container, pause, kit, shown: vec![] }
    }

    /// Has the workload's containers see this folder, too.
    pub(crate) fn showing(mut self, folder: &Path) -> Self {
        self.shown.push(folder.into());
        self
    }

    /// A container that plays a part, as this user, with the workload's socket in a directory that it cannot write to.
    pub(crate) fn container(&self, ids: &Ids, part: &Part) -> (Command, Container) {
        self.container_with(ids, part, Mount::read_only)
    }

    /// Plays a part in a container that runs, as `kubectl exec` would.
    pub(crate) async fn attack_inside(&self, container: &Container, part: &Part) -> Told {
        let (line, variables) = in_container(part);
        let mut command = container.command("exec");
        for variable in &variables {
            command.arg("--env").arg(variable);
        }
        command.arg(&container.id).args(&line);
        quiet(command.as_std_mut());
        finished(command).await
    }

    fn container_with(&self, ids: &Ids, part: &Part, mount: fn(&Path) -> Mount) -> (Command, Container) {
        let (line, variables) = in_container(part);
        let shown = self.shown.iter().map(|folder| Mount::read_only(folder));
        let mounts: Vec<Mount> = shown.chain([mount(&self.attacked.scene.path("run"))]).collect();
        let namespace = self.pause.as_ref().map(|(pid, ..)| *pid);
        let (mut command, container) = self.kit.container(ids, &line, &variables, &mounts, namespace);
        quiet(command.as_std_mut());
        (command, container)
    }

    /// Plays a part in the workload's container to the end of everybody in it.
    pub(crate) async fn attack(&self, part: Part) -> Told {
        self.attack_as(&permitted(), part).await
    }

    /// The same as another user, in another container.
    pub(crate) async fn attack_as(&self, ids: &Ids, part: Part) -> Told {
        let (command, _container) = self.container(ids, &Part::UnderInit(Box::new(part)));
        finished(command).await
    }

    /// The same where somebody has forgotten to mount the directory read-only.
    pub(crate) async fn attack_writable(&self, part: Part) -> Told {
        let (command, _container) =
            self.container_with(&permitted(), &Part::UnderInit(Box::new(part)), Mount::writable);
        finished(command).await
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.attacked.socket()
    }

    /// Ends the agent, and gives what is on record.
    pub(crate) async fn record(self) -> Vec<String> {
        self.attacked.record().await
    }
}

/// The words and the variables by which a container's process plays a part.
fn in_container(part: &Part) -> (Vec<String>, Vec<String>) {
    let command = part.command();
    let word = |word: &OsStr| word.to_str().unwrap().to_owned();
    let mut line = vec!["/attacker".to_owned()];
    line.extend(command.get_args().map(word));
    let variable = |(name, value): (&OsStr, Option<&OsStr>)| Some(format!("{}={}", word(name), word(value?)));
    (line, command.get_envs().filter_map(variable).collect())
}

/// A user with a group of the same number, and no other.
pub(crate) fn user(id: u32) -> Ids {
    Ids { uid: id, gid: id, groups: vec![] }
}
