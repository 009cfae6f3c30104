//! The attestor as it runs, before real processes. Most need root, whose files the permitted program must be.

use super::{Attestor, Depth, Image, Started, parent, texts, worker};
use crate::{
    crypto::{Hash, sha256},
    peer::{
        process::Process,
        program::{Allowance, Ancestry, Refusal, Settings},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::{FileExt as _, PermissionsExt as _},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nobody's ids, as a container would give.
const NOBODY: u32 = 65_534;

#[test]
#[ignore = "the attestor's own: the other tests start it"]
fn first_process() {
    let _ = parent(|| layer("worker_process"));
}

#[test]
#[ignore = "the attestor's own: the other tests start it"]
fn worker_process() {
    let _ = worker();
}

#[test]
#[ignore = "the attestor's own: the other tests start it"]
fn blinded_process() {
    assert!(enters_a_sandbox());
    let _ = parent(|| layer("worker_process"));
}

/// Whether this thread is in a Landlock domain from now on: one that takes next to nothing away.
fn enters_a_sandbox() -> bool {
    use landlock::{AccessFs, Ruleset, RulesetAttr as _, RulesetStatus};
    let ruleset = Ruleset::default().handle_access(AccessFs::MakeFifo).unwrap();
    ruleset.create().unwrap().restrict_self().unwrap().ruleset != RulesetStatus::NotEnforced
}

/// This binary, as a layer of the attestor.
fn layer(name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments(name));
    command
}

fn arguments(name: &str) -> [String; 4] {
    let name = format!("peer::attestor::tests::{name}");
    [name, "--exact".to_owned(), "--ignored".to_owned(), "--nocapture".to_owned()]
}

/// An attestor that is ready: it has answered.
async fn attestor_by(command: Command) -> Attestor {
    // A busy machine is no reason to fail.
    let attestor = Attestor::within(Started::by(command).unwrap(), PATIENCE).unwrap();
    answers(&attestor).await;
    attestor
}

async fn attestor() -> Attestor {
    attestor_by(layer("first_process")).await
}

/// Waits until it answers.
async fn answers(attestor: &Attestor) {
    let mut sleeper = Running::start(Command::new("/bin/sleep").arg("1000"));
    let begun = Instant::now();
    loop {
        match attestor.mount_namespace(sleeper.pidfd().as_fd()).await {
            Err(Refusal::Timeout | Refusal::AttestorFailed) => {}
            _ => break,
        }
        assert!(begun.elapsed() < PATIENCE, "the attestor does not answer");
    }
    sleeper.end();
}

/// What it finds of all there is to a program: its image, and what it has in its memory.
async fn all_of(attestor: &Attestor, pidfd: OwnedFd, settings: &Settings) -> Result<Image, Refusal> {
    let image = attestor.pin(pidfd.as_fd(), settings).await?;
    image.check(Depth::Full).await.map(|()| image)
}

/// What it answers in time, if not at once.
async fn answer(attestor: &Attestor, running: &Running, settings: &Settings) -> Result<Image, Refusal> {
    let begun = Instant::now();
    loop {
        match all_of(attestor, running.pidfd(), settings).await {
            Err(Refusal::Timeout) if begun.elapsed() < PATIENCE => {}
            found => return found,
        }
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let running = Self(command.stdin(Stdio::piped()).spawn().unwrap());
        // spawn() comes back when the old image is gone, which is before the new one is whole.
        let stat = || texts::stat(&fs::read(running.proc("stat")).unwrap()).unwrap();
        wait_until("the program", || stat().image.is_told());
        running
    }

    fn pidfd(&self) -> OwnedFd {
        pidfd_of(self.pid())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.0.id()).into()
    }

    fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A copy of another program.
struct Program {
    folder: TempDir,
    path: PathBuf,
}

impl Program {
    fn copy(of: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("payments");
        fs::copy(of, &path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let program = Self { folder, path };
        // Bytes that nobody executes: changed, it is another program.
        program.append(b"one");
        program
    }

    fn append(&self, bytes: &[u8]) {
        OpenOptions::new().append(true).open(&self.path).unwrap().write_all(bytes).unwrap();
    }

    fn digest(&self) -> Hash {
        sha256(&fs::read(&self.path).unwrap())
    }

    fn settings(&self) -> Settings {
        Settings::of(vec![[0; 32], self.digest()])
    }

    fn start(&self) -> Running {
        Running::start(Command::new(&self.path).arg("1000"))
    }

    /// Waits until that process executes it, and is whole: the name is there before the rest.
    fn is_executed_by(&self, pid: Pid) {
        let whole = || texts::stat(&fs::read(format!("/proc/{pid}/stat")).unwrap()).unwrap().image.is_told();
        let named = || fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == self.path);
        wait_until("the program", || named() && whole());
    }

    /// Waits until two changes of the file could not have the same time.
    fn settle(&self) {
        wait_until("the file to have settled", || {
            let changed = fs::metadata(&self.path).unwrap().modified().unwrap();
            changed.elapsed().is_ok_and(|age| age > Duration::from_millis(2100))
        });
    }
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a test may wait")]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[track_caller]
fn refused(found: Result<Image, Refusal>, expected: Refusal) {
    assert_eq!(found.map(|_| "permitted"), Err(expected));
}

/// The attestor's worker.
fn worker_of(attestor: &Attestor) -> Pid {
    child_of(attestor.pid())
}

/// A child of that process which executes its program.
fn child_of(parent: u32) -> Pid {
    let is_child = |pid: u32| {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|text| texts::stat(&text));
        stat.is_some_and(|stat| stat.parent == parent && stat.image.is_told())
    };
    let number = |one: std::io::Result<fs::DirEntry>| one.ok()?.file_name().to_str()?.parse().ok();
    let mut child = None;
    wait_until("a child", || {
        let mut processes = fs::read_dir("/proc").unwrap().filter_map(number);
        child = processes.find(|pid| is_child(*pid)).and_then(|pid| i32::try_from(pid).ok());
        child.is_some()
    });
    Pid::from_raw(child.unwrap())
}

fn pidfd_of(pid: Pid) -> OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}

#[tokio::test]
async fn the_permitted_program_is_permitted_and_stays_so() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let mut running = program.start();
    let image = all_of(&attestor, running.pidfd(), &program.settings()).await.unwrap();
    for _ in 0..100 {
        assert_eq!(image.check(Depth::Light).await, Ok(()));
        assert_eq!(image.check(Depth::Full).await, Ok(()));
    }
    running.end();
    assert_eq!(image.check(Depth::Light).await, Err(Refusal::PeerExited));
    refused(all_of(&attestor, pidfd_of_the_dead(), &program.settings()).await, Refusal::PeerExited);
}

fn pidfd_of_the_dead() -> OwnedFd {
    let mut running = Running::start(Command::new("/bin/sleep").arg("1000"));
    let pidfd = running.pidfd();
    running.end();
    pidfd
}

#[tokio::test]
async fn another_program_is_refused() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let settings = program.settings();
    let other = Running::start(Command::new("/bin/sleep").arg("1000"));
    refused(all_of(&attestor, other.pidfd(), &settings).await, Refusal::Digest);
    let nobody = Settings { exe_sha256: vec![], ..settings };
    refused(all_of(&attestor, program.start().pidfd(), &nobody).await, Refusal::Digest);
}

#[tokio::test]
async fn a_file_that_is_rewritten_or_renamed_over_after_a_grant_is_refused() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let settings = program.settings();
    program.settle();
    let mut running = program.start();
    for _ in 0..2 {
        all_of(&attestor, running.pidfd(), &settings).await.unwrap();
    }
    running.end();
    // As large as before, and as old as before.
    let modified = fs::metadata(&program.path).unwrap().modified().unwrap();
    let file = OpenOptions::new().write(true).open(&program.path).unwrap();
    let end = file.metadata().unwrap().len() - 3;
    file.write_all_at(b"two", end).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    let mut running = program.start();
    refused(all_of(&attestor, running.pidfd(), &settings).await, Refusal::Digest);
    running.end();
    let other = Program::copy("/bin/sleep");
    other.append(b"three");
    fs::rename(&other.path, &program.path).unwrap();
    refused(all_of(&attestor, program.start().pidfd(), &settings).await, Refusal::Digest);
}

#[tokio::test]
async fn a_program_whose_file_is_deleted_or_not_roots_own_is_refused() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let (settings, running) = (program.settings(), program.start());
    fs::set_permissions(&program.path, Permissions::from_mode(0o775)).unwrap();
    refused(all_of(&attestor, running.pidfd(), &settings).await, Refusal::MappingNotAllowed);
    fs::set_permissions(&program.path, Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&program.path, Some(1000), None).unwrap();
    refused(all_of(&attestor, running.pidfd(), &settings).await, Refusal::MappingNotAllowed);
    std::os::unix::fs::chown(&program.path, Some(0), None).unwrap();
    all_of(&attestor, running.pidfd(), &settings).await.unwrap();
    fs::remove_file(&program.path).unwrap();
    refused(all_of(&attestor, running.pidfd(), &settings).await, Refusal::ExeDeleted);
}

#[tokio::test]
async fn a_process_that_becomes_another_program_is_no_longer_the_one_that_was_pinned() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sh"));
    let mut command = Command::new(&program.path);
    let mut running = Running::start(
        command.args(["-c", "read line; exec \"$0\" -c 'read line; read line'"]).arg(&program.path),
    );
    let image = all_of(&attestor, running.pidfd(), &program.settings()).await.unwrap();
    assert_eq!(image.check(Depth::Full).await, Ok(()));
    let before = fs::read(running.proc("cmdline")).unwrap();
    running.say("");
    wait_until("another image", || fs::read(running.proc("cmdline")).unwrap() != before);
    program.is_executed_by(running.pid());
    // The same program, executed again.
    assert_eq!(image.check(Depth::Light).await, Err(Refusal::ImageChanged));
    assert_eq!(image.check(Depth::Full).await, Err(Refusal::ImageChanged));
    running.end();
}

#[tokio::test]
async fn a_library_from_elsewhere_is_refused_though_the_program_is_permitted() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let theirs = maps
        .lines()
        .filter_map(|line| line.split_once('/'))
        .find(|(_, path)| path.contains("libgcc_s"))
        .unwrap()
        .1;
    let library = program.folder.path().join("evil.so");
    fs::copy(format!("/{theirs}"), &library).unwrap();
    let running = Running::start(Command::new(&program.path).arg("1000").env("LD_PRELOAD", &library));
    let is_loaded =
        |path: &Path| fs::read_to_string(running.proc("maps")).unwrap().contains(path.to_str().unwrap());
    wait_until("the library", || is_loaded(&library));
    refused(all_of(&attestor, running.pidfd(), &program.settings()).await, Refusal::MappingNotAllowed);
    // Where it is allowed, it must be root's own.
    let mut settings = program.settings();
    settings.allow_prefix.push(program.folder.path().into());
    all_of(&attestor, running.pidfd(), &settings).await.unwrap();
    fs::set_permissions(&library, Permissions::from_mode(0o646)).unwrap();
    refused(all_of(&attestor, running.pidfd(), &settings).await, Refusal::MappingNotAllowed);
}

#[tokio::test]
async fn code_that_is_changed_or_brought_in_is_seen() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let running = program.start();
    let image = all_of(&attestor, running.pidfd(), &program.settings()).await.unwrap();
    let maps = fs::read_to_string(running.proc("maps")).unwrap();
    let code = maps.lines().find(|line| line.contains("r-xp") && line.contains("payments")).unwrap();
    let address = u64::from_str_radix(code.split('-').next().unwrap(), 16).unwrap();
    let memory = OpenOptions::new().write(true).open(running.proc("mem")).unwrap();
    memory.write_all_at(&[0xcc], address + 0x100).unwrap();
    assert_eq!(image.check(Depth::Full).await, Err(Refusal::TextModified));
    refused(all_of(&attestor, running.pidfd(), &program.settings()).await, Refusal::TextModified);
}

#[tokio::test]
async fn memory_that_no_file_backs_may_not_be_executed_unless_that_is_allowed() {
    const SOURCE: &str = "#include <sys/mman.h>\n#include <unistd.h>\n\
        int main(void) { mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); for (;;) pause(); }\n";
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("a.c");
    fs::write(&source, SOURCE).unwrap();
    let made = folder.path().join("jit");
    let compiled = Command::new("cc").arg("-o").arg(&made).arg(&source).status();
    if !is_root() || !compiled.is_ok_and(|status| status.success()) {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy(made.to_str().unwrap()));
    let running = program.start();
    let maps = || fs::read_to_string(running.proc("maps")).unwrap();
    wait_until("its memory", || maps().contains("rwxp"));
    refused(all_of(&attestor, running.pidfd(), &program.settings()).await, Refusal::AnonExec);
    let allowed = Settings { anon_exec: Allowance::Allow, ..program.settings() };
    all_of(&attestor, running.pidfd(), &allowed).await.unwrap();
}

#[tokio::test]
async fn a_traced_process_is_refused_for_as_long_as_it_is_traced() {
    use nix::sys::{ptrace, wait::waitpid};
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let running = program.start();
    let image = all_of(&attestor, running.pidfd(), &program.settings()).await.unwrap();
    ptrace::attach(running.pid()).unwrap();
    waitpid(running.pid(), None).unwrap();
    assert_eq!(image.check(Depth::Light).await, Err(Refusal::Traced));
    refused(all_of(&attestor, running.pidfd(), &program.settings()).await, Refusal::Traced);
    ptrace::detach(running.pid(), None).unwrap();
    all_of(&attestor, running.pidfd(), &program.settings()).await.unwrap();
}

#[tokio::test]
async fn what_is_required_beside_the_program_is_asked_of_the_kernel() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let (running, settings) = (program.start(), program.settings());
    let privileges = Settings { no_new_privs: true, ..settings.clone() };
    refused(all_of(&attestor, running.pidfd(), &privileges).await, Refusal::NoNewPrivs);
    let filter = Settings { seccomp: true, ..settings.clone() };
    refused(all_of(&attestor, running.pidfd(), &filter).await, Refusal::Seccomp);
    let main = Settings { ancestry: Ancestry::ContainerMain, ..settings };
    refused(all_of(&attestor, running.pidfd(), &main).await, Refusal::Ancestry);
    let tame = Running::start(Command::new("setpriv").arg("--no-new-privs").arg(&program.path).arg("1000"));
    program.is_executed_by(tame.pid());
    all_of(&attestor, tame.pidfd(), &privileges).await.unwrap();
}

#[tokio::test]
async fn an_attestor_without_the_right_to_look_refuses() {
    if !is_root() {
        return;
    }
    let mut command = layer("first_process");
    command.uid(NOBODY).gid(NOBODY);
    let (attestor, program) = (attestor_by(command).await, Program::copy("/bin/sleep"));
    let settings = program.settings();
    let start = |uid, gid| Running::start(Command::new(&program.path).arg("1000").uid(uid).gid(gid));
    all_of(&attestor, start(NOBODY, NOBODY).pidfd(), &settings).await.unwrap();
    for (uid, gid) in [(NOBODY, 1000), (1000, NOBODY), (0, 0)] {
        refused(all_of(&attestor, start(uid, gid).pidfd(), &settings).await, Refusal::ExeUnreadable);
        assert_eq!(
            attestor.mount_namespace(start(uid, gid).pidfd().as_fd()).await,
            Err(Refusal::PidNotVisible)
        );
    }
    // Whose image may not be read is not dumpable.
    fs::set_permissions(&program.path, Permissions::from_mode(0o711)).unwrap();
    refused(all_of(&attestor, start(NOBODY, NOBODY).pidfd(), &settings).await, Refusal::ExeUnreadable);
}

/// Why the attestor is a process of its own: in any sandbox by Landlock, whatever that allows, it sees nobody outside.
#[tokio::test]
async fn an_attestor_in_a_sandbox_is_blind_and_refuses() {
    if !is_root() || !std::thread::spawn(enters_a_sandbox).join().unwrap() {
        return;
    }
    let (attestor, program) = (attestor_by(layer("blinded_process")).await, Program::copy("/bin/sleep"));
    let running = program.start();
    refused(all_of(&attestor, running.pidfd(), &program.settings()).await, Refusal::ExeUnreadable);
    assert_eq!(attestor.mount_namespace(running.pidfd().as_fd()).await, Err(Refusal::PidNotVisible));
}

#[tokio::test]
async fn a_process_outside_our_pid_namespace_is_refused() {
    if !is_root() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(std::env::current_exe().unwrap()).args(arguments("first_process"));
    let (attestor, program) = (attestor_by(command).await, Program::copy("/bin/sleep"));
    let running = program.start();
    refused(all_of(&attestor, running.pidfd(), &program.settings()).await, Refusal::PidNotVisible);
}

#[tokio::test]
async fn only_what_descends_from_the_first_process_of_its_container_does_so() {
    if !is_root() {
        return;
    }
    let program = Program::copy("/bin/sleep");
    let settings = Settings { ancestry: Ancestry::ContainerMain, ..program.settings() };
    // The container's first process, and its child. One cgroup is enough: no other process of it is in this PID namespace.
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", "\"$0\" 1000 & wait"]);
    let container = Running::start(command.arg(&program.path));
    let first = child_of(container.0.id());
    let child = child_of(first.as_raw().try_into().unwrap());
    program.is_executed_by(child);
    let enter = |program: &Path| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &first.to_string(), "--pid", "--mount"]).arg(program);
        command
    };
    let mut command = enter(&std::env::current_exe().unwrap());
    command.args(arguments("first_process"));
    let attestor = attestor_by(command).await;
    all_of(&attestor, pidfd_of(child), &settings).await.unwrap();
    // As `kubectl exec` enters.
    let entered = Running::start(enter(&program.path).arg("1000"));
    let entered = child_of(entered.0.id());
    program.is_executed_by(entered);
    refused(all_of(&attestor, pidfd_of(entered), &settings).await, Refusal::Ancestry);
    all_of(&attestor, pidfd_of(entered), &program.settings()).await.unwrap();
    kill(entered, Signal::SIGKILL).unwrap();
}

/// Stops a process, and waits until each of its threads stands still.
fn freeze(process: Pid) {
    kill(process, Signal::SIGSTOP).unwrap();
    let stands = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| stat.contains(") T "))
    };
    wait_until("all its threads to stand still", || {
        let mut tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        tasks.all(|task| stands(&task.unwrap()))
    });
}

#[tokio::test]
async fn a_worker_that_dies_fails_what_it_had_and_another_takes_over() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let (running, settings) = (program.start(), program.settings());
    let image = all_of(&attestor, running.pidfd(), &settings).await.unwrap();
    let worker = worker_of(&attestor);
    freeze(worker);
    let pidfd = running.pidfd();
    let (found, ()) = tokio::join!(attestor.pin(pidfd.as_fd(), &settings), async {
        kill(worker, Signal::SIGKILL).unwrap();
    });
    refused(found, Refusal::AttestorFailed);
    answers(&attestor).await;
    assert_ne!(worker_of(&attestor), worker);
    assert_eq!(image.check(Depth::Light).await, Err(Refusal::AttestorFailed));
    all_of(&attestor, running.pidfd(), &settings).await.unwrap();
    assert!(attestor.is_running());
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_a_refusal_and_what_it_says_later_counts_for_nobody() {
    if !is_root() {
        return;
    }
    let attestor = Attestor::of(Started::by(layer("first_process")).unwrap()).unwrap();
    answers(&attestor).await;
    let program = Program::copy("/bin/sleep");
    let (running, settings) = (program.start(), program.settings());
    let worker = worker_of(&attestor);
    freeze(worker);
    refused(all_of(&attestor, running.pidfd(), &settings).await, Refusal::Timeout);
    kill(worker, Signal::SIGCONT).unwrap();
    let other = Running::start(Command::new("/bin/sleep").arg("1000"));
    refused(answer(&attestor, &other, &settings).await, Refusal::Digest);
    assert_eq!(worker_of(&attestor), worker);
}

#[tokio::test]
async fn the_attestor_ends_with_the_agent_and_the_agent_sees_its_end() {
    let attestor = attestor().await;
    let (first, worker) = (Pid::from_raw(attestor.pid().try_into().unwrap()), worker_of(&attestor));
    drop(attestor);
    let is_gone = |pid: Pid| {
        // A zombie that somebody else must wait for has ended.
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    };
    wait_until("the end of both", || is_gone(first) && is_gone(worker));
    let attestor = self::attestor().await;
    kill(Pid::from_raw(attestor.pid().try_into().unwrap()), Signal::SIGKILL).unwrap();
    wait_until("its end to be seen", || !attestor.is_running());
    let sleeper = Running::start(Command::new("/bin/sleep").arg("1000"));
    assert_eq!(attestor.mount_namespace(sleeper.pidfd().as_fd()).await, Err(Refusal::AttestorFailed));
}

#[tokio::test]
async fn the_worker_is_confined() {
    let attestor = attestor().await;
    let worker = worker_of(&attestor);
    let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // It answers before the last of its threads has begun.
    wait_until("ten confined threads", || {
        let threads = fs::read_dir(format!("/proc/{worker}/task")).unwrap();
        let confined = threads.filter(|thread| {
            let status = fs::read_to_string(thread.as_ref().unwrap().path().join("status"));
            status.is_ok_and(|status| status.contains("Seccomp:\t2"))
        });
        confined.count() >= 10
    });
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max core file size        0")), "{limits}");
}

#[tokio::test]
async fn the_next_connection_of_a_process_has_its_image_again_as_long_as_it_is_the_same() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sh"));
    let settings = Arc::new(Settings { steerable: Allowance::Allow, ..program.settings() });
    let mut running = Running::start(
        Command::new(&program.path)
            .args([
                "-c",
                r#"read line; exec /bin/sh -c 'read line; exec "$0" -c "read line; read line"' "$0""#,
            ])
            .arg(&program.path),
    );
    let process = Process::for_test(running.pidfd());
    let first = attestor.pin_process(&process, &settings).await.unwrap();
    let id = first.id();
    // Of two at a time, each has its own.
    let second = attestor.pin_process(&process, &settings).await.unwrap();
    assert_ne!(second.id(), id);
    drop(first);
    let again = attestor.pin_process(&process, &settings).await.unwrap();
    assert_eq!(again.id(), id);
    again.check(Depth::Full).await.unwrap();
    drop((again, second));
    // Another program now: what was found of the one before counts neither for it nor against it.
    running.say("become another");
    wait_until("another program", || fs::read_link(running.proc("exe")).is_ok_and(|exe| exe != program.path));
    refused(attestor.pin_process(&process, &settings).await, Refusal::Digest);
    running.say("become the permitted one");
    program.is_executed_by(running.pid());
    let anew = attestor.pin_process(&process, &settings).await.unwrap();
    assert!(anew.id() > id);
    drop(anew);
    running.end();
    refused(attestor.pin_process(&process, &settings).await, Refusal::PeerExited);
}

#[tokio::test]
async fn what_is_no_longer_needed_is_not_held() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let (running, settings) = (program.start(), program.settings());
    let pidfd = running.pidfd();
    let descriptors = format!("/proc/{}/fd", worker_of(&attestor));
    let count = || fs::read_dir(&descriptors).unwrap().count();
    let before = count();
    // More than may be held at a time.
    for _ in 0..1200 {
        attestor.pin(pidfd.as_fd(), &settings).await.unwrap();
    }
    wait_until("all descriptors to be closed", || count() <= before + 2);
}

#[tokio::test]
async fn more_processes_than_may_be_held_are_refused_and_room_is_made_again() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let (running, settings) = (program.start(), program.settings());
    let pidfd = running.pidfd();
    let mut images = Vec::new();
    let refusal = loop {
        match attestor.pin(pidfd.as_fd(), &settings).await {
            Ok(image) => images.push(image),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::AttestorFailed);
    assert!((100..=1024).contains(&images.len()), "{}", images.len());
    images.truncate(1);
    attestor.pin(pidfd.as_fd(), &settings).await.unwrap();
    assert_eq!(images[0].check(Depth::Light).await, Ok(()));
}

#[tokio::test]
async fn a_large_executable_is_permitted_once_it_is_hashed_and_a_huge_one_never() {
    if !is_root() {
        return;
    }
    let attestor = Attestor::of(Started::by(layer("first_process")).unwrap()).unwrap();
    answers(&attestor).await;
    let program = Program::copy("/bin/sleep");
    let grow = |size| OpenOptions::new().write(true).open(&program.path).unwrap().set_len(size).unwrap();
    grow(513 << 20);
    let huge = Settings { exe_sha256: vec![], ..program.settings() };
    let mut running = program.start();
    refused(answer(&attestor, &running, &huge).await, Refusal::ExeTooBig);
    running.end();
    grow(200 << 20);
    let settings = program.settings();
    let running = program.start();
    answer(&attestor, &running, &settings).await.unwrap();
}

#[tokio::test]
async fn many_may_ask_at_a_time() {
    if !is_root() {
        return;
    }
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let running: Vec<Running> = (0..40).map(|_| program.start()).collect();
    let mut asking = tokio::task::JoinSet::new();
    for one in &running {
        let (attestor, pidfd, settings) = (attestor.clone(), one.pidfd(), program.settings());
        asking.spawn(async move { attestor.pin(pidfd.as_fd(), &settings).await });
    }
    let found = asking.join_all().await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
}

#[tokio::test]
async fn a_mount_namespace_has_a_number_of_its_own() {
    if !is_root() {
        return;
    }
    let attestor = attestor().await;
    let sleeper = || Running::start(Command::new("/bin/sleep").arg("1000"));
    let ours = attestor.mount_namespace(sleeper().pidfd().as_fd()).await.unwrap();
    assert_eq!(attestor.mount_namespace(sleeper().pidfd().as_fd()).await, Ok(ours));
    let other = Running::start(Command::new("unshare").args(["--mount", "/bin/sleep", "1000"]));
    wait_until("another namespace", || {
        let of = |path: &Path| fs::read_link(path).unwrap();
        of(&other.proc("ns/mnt")) != of(Path::new("/proc/self/ns/mnt"))
    });
    let theirs = attestor.mount_namespace(other.pidfd().as_fd()).await.unwrap();
    assert_ne!(theirs, ours);
    let file = File::open("/dev/null").unwrap();
    assert!(attestor.mount_namespace(file.as_fd()).await.is_err());
}

#[tokio::test]
#[ignore = "prints what the parts cost: run it in a release build, on a quiet machine"]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn cost() {
    let (attestor, program) = (attestor().await, Program::copy("/bin/sleep"));
    let (running, settings) = (program.start(), program.settings());
    program.settle();
    let pidfd = running.pidfd();
    let image = attestor.pin(pidfd.as_fd(), &settings).await.unwrap();
    let (process, settings) = (Process::for_test(running.pidfd()), Arc::new(settings));
    for what in
        ["a question without a look", "pin, digest known", "pin, known", "check, light", "check, full"]
    {
        let mut times = Vec::new();
        for _ in 0..2000 {
            let begun = Instant::now();
            match what {
                "pin, digest known" => drop(attestor.pin(pidfd.as_fd(), &settings).await.unwrap()),
                "pin, known" => drop(attestor.pin_process(&process, &settings).await.unwrap()),
                "check, light" => image.check(Depth::Light).await.unwrap(),
                "check, full" => image.check(Depth::Full).await.unwrap(),
                _ => drop(attestor.mount_namespace(pidfd.as_fd()).await.unwrap()),
            }
            times.push(begun.elapsed().as_micros());
        }
        times.sort_unstable();
        println!("{what}: {} us at best, {} us half of the time", times[20], times[1000]);
    }
}
