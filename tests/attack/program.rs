//! The permitted program of level `program` and its attackers, which are compiled here; and what comes first at that level.
//!
//! Does not know the attacks.

use crate::{
    cgroups::{Cgroup, can_tell_containers},
    part::{Part, quiet},
    scene::{Attacked, Late, Told, attack, finished, permitted},
    skip,
    support::{LIMIT, finish, until},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// A folder that others can read, with the permitted program and its attackers in it.
pub(crate) struct Programs {
    folder: TempDir,
    cgroup: Cgroup,
}

impl Programs {
    /// `None` where nothing can be compiled, or level `program` cannot be had: says why.
    pub(crate) async fn new() -> Option<Self> {
        if !can_tell_containers() {
            return None;
        }
        let (folder, cgroup) = (TempDir::new().unwrap(), Cgroup::new()?);
        std::os::unix::fs::chown(folder.path(), Some(0), Some(0)).unwrap();
        let mut mode = Command::new("chmod");
        mode.arg("755").arg(folder.path());
        finish(mode).await;
        let programs = Self { folder, cgroup };
        let legit = programs.compile("legit", "tests/attack/legit.c", &[]).await;
        (legit && programs.compile("hostile", "tests/attack/hostile.c", &[]).await).then_some(programs)
    }

    /// Compiles a source of this repository.
    pub(crate) async fn compile(&self, name: &str, source: &str, options: &[&str]) -> bool {
        let mut command = Command::new("cc");
        command.arg("-O1").args(options).arg("-o").arg(self.path(name));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(source));
        let compiled = finish(command).await;
        if !compiled.status.success() {
            skip(&format!("needs a C compiler: {}", String::from_utf8_lossy(&compiled.stderr)));
        }
        compiled.status.success()
    }

    /// Where they all lie.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// SHA-256 of one of them, in hex.
    pub(crate) fn digest(&self, name: &str) -> String {
        digest(&self.path(name))
    }

    /// Where all of them run: the container, as it were.
    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Who may connect: the workload's user that executes one of these programs.
    pub(crate) fn peer(&self, names: &[&str]) -> String {
        let digests: Vec<String> = names.iter().map(|name| format!("\"{}\"", self.digest(name))).collect();
        peer(&format!("exe_sha256: [{}]", digests.join(", ")))
    }

    /// An agent that serves the permitted program only.
    pub(crate) async fn attacked(&self) -> Attacked {
        self.attacked_where(&["legit"]).await
    }

    /// An agent that serves these programs.
    pub(crate) async fn attacked_where(&self, names: &[&str]) -> Attacked {
        Attacked::with(&self.peer(names), 300).await
    }

    /// Words of a line: the agent's socket, the permitted program, and others as they are.
    pub(crate) fn line(&self, attacked: &Attacked, words: &[&str]) -> Vec<String> {
        let word = |word: &&str| match *word {
            "SOCKET" => attacked.socket().display().to_string(),
            "SECRET" => "/secrets/stripe".to_owned(),
            name if self.path(name).exists() => self.path(name).display().to_string(),
            other => other.to_owned(),
        };
        words.iter().map(word).collect()
    }

    /// The command that plays a line as the workload's user.
    pub(crate) fn command(&self, line: Vec<String>) -> Command {
        let mut command = self.cgroup.part(Part::BecomeAs(permitted(), line)).command();
        quiet(&mut command);
        command.into()
    }

    /// Plays a line to its end; again, if the machine was too slow for the agent to find out in time who that is.
    pub(crate) async fn tell(&self, attacked: &Attacked, words: &[&str]) -> Told {
        in_time(|| finished(self.command(self.line(attacked, words)))).await
    }

    /// Plays one of the programs, which asks for the secret.
    pub(crate) async fn run(&self, attacked: &Attacked, name: &str) -> Told {
        self.tell(attacked, &[name, "SOCKET", "SECRET"]).await
    }

    /// Begins to play a line.
    pub(crate) fn play(&self, attacked: &Attacked, words: &[&str]) -> Playing {
        Playing::of(self.command(self.line(attacked, words)))
    }

    /// Plays a line to its end, while the agent stands still until it says that it is ready.
    pub(crate) async fn tell_late(&self, attacked: &Attacked, words: &[&str]) -> Told {
        let late = Late::new(&attacked.agent).await;
        let mut playing = self.play(attacked, words);
        playing.until("ready").await;
        drop(late);
        playing.end().await
    }

    /// Waits until the last change of a program is so long ago that its digest is remembered.
    pub(crate) async fn settle(&self, name: &str) {
        use std::os::unix::fs::MetadataExt as _;
        let old = || {
            let changed = fs::metadata(self.path(name)).unwrap();
            let changed = Duration::new(changed.ctime().try_into().unwrap(), 0) + Duration::from_secs(1);
            let now = std::time::UNIX_EPOCH + changed + Duration::from_secs(2);
            now.elapsed().is_ok().then_some(())
        };
        until("an old program", || async { old() }).await;
    }
}

/// Who may connect: the workload's user, of whose program this is required.
pub(crate) fn peer(program: &str) -> String {
    format!("uid: {}, level: program, program: {{{program}}}", permitted().uid)
}

/// SHA-256 of a file, in hex.
pub(crate) fn digest(path: &Path) -> String {
    claviger::crypto::hex(&claviger::crypto::sha256(&fs::read(path).unwrap()))
}

/// Plays it again, if the machine was too slow for the agent to find out in time who that is.
pub(crate) async fn in_time<F: Future<Output = Told>>(mut play: impl FnMut() -> F) -> Told {
    loop {
        let told = play().await;
        if !told.text.contains("could not find out in time") {
            return told;
        }
    }
}

/// Ends the agent, and gives what is on record, but for what the machine was too slow for.
pub(crate) async fn record(attacked: Attacked) -> Vec<String> {
    let mut record = attacked.record().await;
    record.retain(|line| !line.starts_with("peer.rejected.v1 deny timeout "));
    record
}

/// How often each line is there. Refusals that are counted together have no level any more, so none is told.
pub(crate) fn counts(record: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for line in record {
        *counts.entry(line.rsplit_once(' ').unwrap().0).or_default() += 1;
    }
    counts
}

/// A part that is played, and in which somebody takes part.
pub(crate) struct Playing {
    child: Child,
    lines: BufReader<ChildStdout>,
    input: Option<ChildStdin>,
    text: String,
}

impl Playing {
    /// Begins.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (lines, input) = (BufReader::new(child.stdout.take().unwrap()), child.stdin.take());
        Self { child, lines, input, text: String::new() }
    }

    /// Waits for a line.
    pub(crate) async fn until(&mut self, wanted: &str) {
        loop {
            let mut line = String::new();
            let reading = timeout(LIMIT, self.lines.read_line(&mut line));
            let length = reading.await.unwrap_or_else(|_| panic!("no {wanted}: {}", self.text)).unwrap();
            self.text.push_str(&line);
            if line.trim_end() == wanted {
                return;
            }
            assert_ne!(length, 0, "it ended without {wanted}: {}", self.text);
        }
    }

    /// Gives it a line.
    pub(crate) async fn say(&mut self, line: &str) {
        self.input.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// What it told so far.
    pub(crate) fn told(&mut self) -> Told {
        Told { text: std::mem::take(&mut self.text) }
    }

    /// Waits for the end of it and of all who have its output.
    pub(crate) async fn end(mut self) -> Told {
        drop(self.input.take());
        let rest = async {
            tokio::io::AsyncReadExt::read_to_string(&mut self.lines, &mut self.text).await.unwrap();
            self.child.wait_with_output().await.unwrap()
        };
        let output = timeout(LIMIT, rest).await.expect("the attackers do not end");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("panicked"), "{}\n{errors}", self.text);
        Told { text: self.text }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permitted_program_gets_the_secret_and_no_other_does() {
    let Some(programs) = Programs::new().await else { return };
    assert!(programs.compile("other", "tests/attack/legit.c", &["-DOTHER", "-O2"]).await);
    let attacked = programs.attacked().await;
    programs.run(&attacked, "legit").await.got_the_secret();
    programs.run(&attacked, "other").await.got_no_nonce("digest");
    // The permitted user with another program, which asks without a nonce.
    let ask = Part::Ask(attacked.socket(), permitted(), "/secrets/stripe".into());
    attack(&programs.cgroup().part(ask)).await.got_nothing();
    let expected = [
        "secret.read.v1 allow - program",
        "peer.rejected.v1 deny digest process",
        "peer.rejected.v1 deny digest process",
    ];
    assert_eq!(record(attacked).await, expected);
}
