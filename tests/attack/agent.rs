//! Attack 27: the agent itself is the target, of a process with its own uid beside it in one PID namespace.
//!
//! The agent becomes that user by setresuid(2) and then execve(2), as a container's runtime does it: setpriv keeps capabilities
//! over the change, and the kernel would find the binary readable.

use crate::{
    can_attack,
    part::{Ids, Part, connect, tell},
    scene::{UID, attack, permitted},
    support::{Agent, BINARY, Config, Scene, VALUE, finish},
};
use nix::{
    errno::Errno,
    sys::{
        ptrace,
        socket::{getsockopt, sockopt},
        uio::{RemoteIoVec, process_vm_readv},
    },
    unistd::{Gid, Pid, Uid, chown},
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::{
    fs,
    io::{self, IoSliceMut, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};
use tokio::process::Command;

/// What the attacker plays: each attempt is a line `NAME got` or `NAME ERRNO`.
pub(crate) fn rob(pid: i32, socket: Option<&Path>) {
    let proc = |file: &str| format!("/proc/{pid}/{file}");
    let told = |what: &str, tried: Result<(), Errno>| match tried {
        Ok(()) => tell(&format!("{what} got")),
        Err(errno) => tell(&format!("{what} {errno:?}")),
    };
    for file in ["mem", "environ", "maps", "auxv", "smaps"] {
        // What cannot be judged at open(2) is at read(2); the first page of memory is nobody's.
        let read = fs::File::open(proc(file)).and_then(|mut file| file.read(&mut [0; 16]));
        told(
            file,
            read.map(drop).or_else(|error| {
                if error.raw_os_error() == Some(libc::EIO) { Ok(()) } else { Err(errno(&error)) }
            }),
        );
    }
    for link in ["exe", "root", "cwd", "ns/mnt"] {
        told(link, fs::read_link(proc(link)).map(drop).map_err(|error| errno(&error)));
    }
    told("fd", fs::read_dir(proc("fd")).map(drop).map_err(|error| errno(&error)));
    told("exe-open", fs::File::open(proc("exe")).map(drop).map_err(|error| errno(&error)));
    let target = Pid::from_raw(pid);
    let mut bytes = [0; 16];
    let remote = [RemoteIoVec { base: 0x1000, len: bytes.len() }];
    let read = process_vm_readv(target, &mut [IoSliceMut::new(&mut bytes)], &remote);
    // EFAULT: nothing is there, but we might have read it.
    told(
        "process_vm_readv",
        read.map(drop).or_else(|errno| if errno == Errno::EFAULT { Ok(()) } else { Err(errno) }),
    );
    let pidfd = match socket {
        Some(socket) => getsockopt(&connect(socket), sockopt::PeerPidfd).unwrap(),
        None => pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap(),
    };
    let copied = pidfd_getfd(&pidfd, 2, PidfdGetfdFlags::empty());
    told("pidfd_getfd", copied.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error())));
    // The kernel lets go of it when we end.
    told("ptrace", ptrace::seize(target, ptrace::Options::empty()));
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// The attempts of [`rob`] and how each ended.
pub(crate) fn attempts(told: &str) -> Vec<(&str, &str)> {
    let known = |line: &&str| {
        line.split_once(' ')
            .is_some_and(|(_, how)| how == "got" || (how.starts_with('E') && !how.contains(' ')))
    };
    told.lines().filter(known).filter_map(|line| line.split_once(' ')).collect()
}

/// An agent of the workload's own uid, from a copy of the binary with this mode.
async fn agent_of_the_same_uid(scene: &Scene, mode: u32, sandbox: &str) -> Agent {
    let mut config = crate::scene::config(scene, &format!("uid: {UID}"), 64);
    config.rest = format!("sandbox: {sandbox}\n");
    Agent::spawn(Command::from(agent_of(scene, UID, mode, &config).await.command())).await
}

/// The part of an agent that is of this uid, and of a group of the same number, from a copy of the binary with this mode.
pub(crate) async fn agent_of(scene: &Scene, id: u32, mode: u32, config: &Config) -> Part {
    let binary = scene.path("claviger");
    // Another process writes it: what this one has open for writing its children have too, for a moment, and what is open for
    // writing cannot be executed.
    let mut copy = Command::new("cp");
    copy.arg(BINARY).arg(&binary);
    assert!(finish(copy).await.status.success());
    fs::set_permissions(&binary, fs::Permissions::from_mode(mode)).unwrap();
    let (uid, gid) = (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
    fs::create_dir(scene.journal()).unwrap();
    fs::set_permissions(scene.journal(), fs::Permissions::from_mode(0o700)).unwrap();
    for path in [scene.journal(), scene.path("run"), scene.path("role_id"), scene.path("secret_id")] {
        chown(&path, uid, gid).unwrap();
    }
    let file = scene.write(&config.text()).display().to_string();
    let line = [&binary.display().to_string(), "run", "--config", &file].map(str::to_owned).to_vec();
    Part::BecomeAs(Ids { uid: id, gid: id, groups: vec![] }, line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_agents_own_uid_reads_nothing_of_it() {
    if !can_attack() {
        return;
    }
    let scene = Scene::new().await;
    let mut agent = agent_of_the_same_uid(&scene, 0o111, "required").await;
    agent.until_ready().await;
    let ask = Part::Ask(scene.socket("job"), permitted(), "/secrets/stripe".into());
    attack(&ask).await.got_the_secret();
    let told = attack(&Part::Rob(permitted(), agent.pid, Some(scene.socket("job")))).await.text;
    let found = attempts(&told);
    assert_eq!(found.len(), 14, "{told}");
    for (what, how) in found {
        assert!(["EACCES", "EPERM"].contains(&how), "{what}: {how}\n{told}");
    }
    assert!(!told.contains(VALUE), "{told}");
    let line = agent.err_line("what holds", |line| line["message"] == "sandbox").await;
    assert_eq!(line["dumpable"], "no", "{line}");
    assert!(!agent.page("/readyz").await.body.contains("notes"));
    assert_eq!(agent.stop().await, Some(0));
}

/// The control: the same attempts at a program that does nothing against them all succeed.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_program_that_does_nothing_against_it_everything_is_read() {
    if !can_attack() {
        return;
    }
    let line = ["sleep", "60"].map(str::to_owned).to_vec();
    let mut command = Command::from(Part::BecomeAs(permitted(), line).command());
    let victim = command.kill_on_drop(true).stdout(std::process::Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(victim.id().unwrap()).unwrap();
    let comm = format!("/proc/{pid}/comm");
    crate::support::until("the victim", || async {
        (fs::read_to_string(&comm).unwrap() == "sleep\n").then_some(())
    })
    .await;
    let told = attack(&Part::Rob(permitted(), pid, None)).await.text;
    let found = attempts(&told);
    assert_eq!(found.len(), 14, "{told}");
    assert!(found.iter().all(|(_, how)| *how == "got"), "{told}");
}

/// A readable binary closes itself as soon as it runs, and says that there was a moment before.
#[tokio::test(flavor = "multi_thread")]
async fn a_readable_binary_is_closed_a_moment_later_and_says_so() {
    if !can_attack() {
        return;
    }
    let scene = Scene::new().await;
    let mut agent = agent_of_the_same_uid(&scene, 0o755, "on").await;
    agent.until_ready().await;
    let told = attack(&Part::Rob(permitted(), agent.pid, Some(scene.socket("job")))).await.text;
    assert!(attempts(&told).iter().all(|(_, how)| ["EACCES", "EPERM"].contains(how)), "{told}");
    let line = agent.err_line("what holds", |line| line["message"] == "sandbox").await;
    assert_eq!(line["dumpable"], "partly", "{line}");
    let warns = |line: &serde_json::Value| {
        line["level"] == "WARN" && line["warning"].as_str().is_some_and(|text| text.contains("our memory"))
    };
    agent.err_line("the warning", warns).await;
    assert!(agent.page("/readyz").await.body.contains("dumpable_at_exec"));
    assert_eq!(agent.stop().await, Some(0));
    let started = scene.events().into_iter().find(|event| event["type"] == "agent.started.v1").unwrap();
    assert!(started["agent"]["sandbox"].as_str().unwrap().starts_with("dumpable=partly"), "{started}");
}

/// And is refused where the sandbox is required.
#[tokio::test(flavor = "multi_thread")]
async fn a_readable_binary_of_a_workloads_uid_does_not_start_where_the_sandbox_is_required() {
    if !can_attack() {
        return;
    }
    let scene = Scene::new().await;
    let mut agent = agent_of_the_same_uid(&scene, 0o755, "required").await;
    assert_eq!(agent.wait().await.code(), Some(64));
    assert!(agent.stderr().contains("ship the binary with mode 0111"), "{}", agent.stderr());
}
