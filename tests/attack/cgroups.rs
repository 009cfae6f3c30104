//! Which container a process is in, asked of processes in cgroups of their own: what changes it, and what cannot.
//!
//! Asks the library, without an agent. A cgroup of version 2 stands for a container, as it does on a node.

use crate::{
    can_attack,
    part::{Part, quiet},
    scene::permitted,
    skip,
    support::{LIMIT, finish, until},
};
use claviger::{
    name::WorkloadName,
    peer::{
        Cause, Peer, Settings, Strangers,
        container::{self, Container, ContainerId, Containers, Facts, Pinned},
        identify,
        level::Level,
        process::Support,
    },
};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    process::{Child, Command},
    time::timeout,
};

/// A cgroup of its own, as a container has one; gone with all that is in it when this is dropped.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// `None` where none can be made: says why.
    pub(crate) fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let Some(mount) = mounts.find(|mount| mount[2] == "cgroup2") else {
            skip("needs a mount of cgroup2");
            return None;
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(mount[1]).join(format!("claviger-attack-{}-{number}", std::process::id()));
        if let Err(error) = fs::create_dir(&folder) {
            skip(&format!("needs the right to make a cgroup: {}: {error}", folder.display()));
            return None;
        }
        Some(Self(folder))
    }

    /// Its directory.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// The same part, played in it.
    pub(crate) fn part(&self, part: Part) -> Part {
        Part::InCgroup(self.0.clone(), Box::new(part))
    }

    /// What whoever is in it must be told apart by.
    pub(crate) fn id(&self) -> ContainerId {
        ContainerId::Cgroup(fs::metadata(&self.0).unwrap().ino())
    }

    fn name(&self) -> &str {
        self.0.file_name().unwrap().to_str().unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let begun = std::time::Instant::now();
        // What was killed needs a moment to be gone.
        while fs::remove_dir(&self.0).is_err() && begun.elapsed() < LIMIT {
            std::thread::yield_now();
        }
    }
}

/// Whether containers can be told apart here; says so if not.
pub(crate) fn can_tell_containers() -> bool {
    if !can_attack() {
        return false;
    }
    let given = *container::support() == Support::Given;
    if !given {
        skip(&format!("needs level container: {:?}", container::support()));
    }
    given
}

/// A client that has connected and waits for an answer that never comes.
struct Client {
    peer: Peer,
    stream: UnixStream,
    child: Child,
}

impl Client {
    fn container(&self) -> Result<Container, Cause> {
        Container::of(self.peer.process().unwrap(), Facts::default())
    }

    /// Its connection is closed, upon which it ends, and is waited for.
    async fn end(mut self) -> Peer {
        drop(self.stream);
        assert!(timeout(LIMIT, self.child.wait()).await.unwrap().unwrap().success());
        self.peer
    }
}

/// Something to connect to.
struct Place {
    listener: UnixListener,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        for (path, mode) in [(folder.path(), 0o755), (&socket, 0o666)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { listener, folder }
    }

    fn ask(&self) -> Part {
        Part::Ask(self.folder.path().join("socket"), permitted(), "/whoami".into())
    }

    async fn client(&self, mut command: std::process::Command) -> Client {
        quiet(&mut command);
        let child = Command::from(command).kill_on_drop(true).spawn().unwrap();
        let (stream, _) = timeout(LIMIT, self.listener.accept()).await.expect("no client came").unwrap();
        let peer = known(&stream);
        Client { peer, stream, child }
    }
}

fn known(stream: &UnixStream) -> Peer {
    let (uids, gids, groups) = (Vec::new(), Vec::new(), Vec::new());
    let settings = Settings {
        uids,
        gids,
        groups,
        level: Level::Process,
        strangers: Strangers::default(),
        program: None,
    };
    identify(stream, &settings, &WorkloadName::new("job").unwrap()).unwrap()
}

/// The part, started by another program, which ends with becoming what it is given as its last arguments.
pub(crate) fn under(line: &[&str], part: &Part) -> std::process::Command {
    let inner = part.command();
    let mut command = std::process::Command::new(line[0]);
    command.args(&line[1..]).arg(std::env::current_exe().unwrap()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_in_the_container_of_its_cgroup_and_another_cgroup_is_another_container() {
    let (true, Some(ours), Some(other)) = (can_tell_containers(), Cgroup::new(), Cgroup::new()) else {
        return;
    };
    let place = Place::new();
    let first = place.client(ours.part(place.ask()).command()).await;
    let second = place.client(ours.part(place.ask()).command()).await;
    let stranger = place.client(other.part(place.ask()).command()).await;
    let [one, two, three] = [&first, &second, &stranger].map(|client| client.container().unwrap());
    assert_eq!((one.id(), one.name()), (ours.id(), Some(ours.name())));
    assert_eq!(one, two);
    assert_eq!((three.id(), three.name()), (other.id(), Some(other.name())));
    assert_ne!(one, three);
    one.check_holds(first.peer.process().unwrap()).unwrap();
    // Moved, as only somebody with rights over both can.
    let pid = first.peer.pid().unwrap().to_string();
    fs::write(other.folder().join("cgroup.procs"), pid).unwrap();
    assert_eq!(first.container().unwrap(), three);
    assert!(matches!(one.check_holds(first.peer.process().unwrap()), Err(Cause::Container)));
    for client in [first, second, stranger] {
        let peer = client.end().await;
        let dead = peer.process().unwrap();
        assert!(matches!(Container::of(dead, Facts { mount_namespace: Some(5) }), Err(Cause::Exited)));
        assert!(matches!(one.check_holds(dead), Err(Cause::Exited)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_keeps_others_out_until_each_of_its_processes_has_ended() {
    let (true, Some(ours), Some(other)) = (can_tell_containers(), Cgroup::new(), Cgroup::new()) else {
        return;
    };
    let (place, board) = (Place::new(), Containers::default());
    let first = place.client(ours.part(place.ask()).command()).await;
    let second = place.client(ours.part(place.ask()).command()).await;
    let stranger = place.client(other.part(place.ask()).command()).await;
    let come = |client: &Client| {
        let told = client.container().and_then(|ours| board.admit(&ours, client.peer.process().unwrap()));
        told.map_err(|cause| format!("{cause:?}"))
    };
    assert_eq!(come(&first), Ok(Pinned::First));
    assert_eq!(come(&second), Ok(Pinned::Same));
    assert_eq!(come(&stranger), Err("Container".into()));
    let before = first.container().unwrap();
    first.end().await;
    assert_eq!(come(&stranger), Err("Container".into()));
    // Its connection is gone, and it lives: the process counts, not the connection.
    let Client { peer, stream, child } = second;
    child.id().expect("it lives");
    drop(peer);
    assert_eq!(come(&stranger), Err("Container".into()));
    drop(stream);
    let mut child = child;
    assert!(timeout(LIMIT, child.wait()).await.unwrap().unwrap().success());
    let now = stranger.container().unwrap();
    assert_eq!(come(&stranger), Ok(Pinned::Anew { before, now }));
    stranger.end().await;
}

/// Attack 25, and less than it: namespaces of its own and mounts that say something else do not make it another's.
#[tokio::test(flavor = "multi_thread")]
async fn neither_namespaces_nor_forged_mounts_change_the_container_of_a_process() {
    let (true, Some(ours), Some(other)) = (can_tell_containers(), Cgroup::new(), Cgroup::new()) else {
        return;
    };
    let place = Place::new();
    let honest = place.client(ours.part(place.ask()).command()).await;
    let expected = honest.container().unwrap();
    honest.end().await;

    let apart = place.client(under(&["unshare", "--mount"], &ours.part(place.ask()))).await;
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    let pid = apart.peer.pid().unwrap().to_string();
    assert_ne!(namespace(&pid), namespace("self"), "it is in no mount namespace of its own");
    assert_eq!(apart.container().unwrap(), expected);
    apart.end().await;

    // In a cgroup namespace of its own it is in the root; its mounts say that it is in the other one.
    let root = place.folder.path().join("forged");
    fs::create_dir(&root).unwrap();
    let script = format!(
        "echo 0 > {0}/cgroup.procs && exec unshare --cgroup --mount sh -c \
         'mount --bind {1} {2} && exec \"$@\"' sh \"$@\"",
        ours.folder().display(),
        other.folder().display(),
        root.display()
    );
    let forger = place.client(under(&["sh", "-c", &script, "sh"], &place.ask())).await;
    let pid = forger.peer.pid().unwrap();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(mounts.contains(other.name()) && !mounts.contains(ours.name()), "nothing is forged: {mounts}");
    assert_eq!(forger.container().unwrap(), expected);
    forger.end().await;
}

/// Attack 4, as far as a container is to be told: what cannot be seen is refused, and nothing is made up for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_pid_is_hidden_is_in_no_container_until_its_mount_namespace_is_known() {
    if !can_tell_containers() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("socket");
    let mut command = Part::InPidNamespace(Box::new(Part::TellContainer(socket.clone()))).command();
    quiet(&mut command);
    let connecting = until("the listener", || async { UnixStream::connect(&socket).await.ok() });
    // The connection is held until the other end has told.
    let (output, _stream) = tokio::join!(finish(command.into()), connecting);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("Hidden, Hidden, mount namespace 5"), "{told}");
}

/// What is to be told of whoever connects to `socket`: without anything known of it, with an id that is none, with one.
pub(crate) fn connector(socket: &Path) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = UnixListener::bind(socket).unwrap();
        let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        let peer = known(&stream);
        let told = [None, Some(0), Some(5)].map(|mount_namespace| {
            match Container::of(peer.process().unwrap(), Facts { mount_namespace }) {
                Ok(container) => container.id().to_string(),
                Err(cause) => format!("{cause:?}"),
            }
        });
        told.join(", ")
    })
}
