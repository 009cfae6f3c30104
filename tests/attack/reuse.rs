//! Attack 7: the number of a process that connected and ended goes to the permitted program, before the agent looks.

use crate::{
    part::quiet,
    program::{Playing, Programs, counts},
    scene::{Attacked, Late, Told, UID, config, lines},
    skip,
    support::{Agent, BINARY, Config, Scene, VALUE, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, process::Stdio};
use tokio::process::{Child, Command};

const TIMES: usize = 200;

/// A PID namespace in which nobody but those of this test takes numbers.
struct Numbers {
    first: Child,
    pid: i32,
}

impl Numbers {
    /// `None` where none can be made, or where the last number that it gave cannot be set: says why.
    async fn new() -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
        command.arg("echo 10 > /proc/sys/kernel/ns_last_pid && echo can; exec cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut first = command.kill_on_drop(true).spawn().unwrap();
        let mut lines = tokio::io::BufReader::new(first.stdout.take().unwrap());
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.unwrap();
        if line != "can\n" {
            skip("needs a PID namespace whose /proc/sys/kernel/ns_last_pid can be written");
            return None;
        }
        let pid = child_of(i32::try_from(first.id().unwrap()).unwrap()).await;
        Some(Self { first, pid })
    }

    /// A command in it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--pid", "--mount", "--target", &self.pid.to_string(), program]);
        command
    }
}

async fn child_of(pid: i32) -> i32 {
    let children = format!("/proc/{pid}/task/{pid}/children");
    until("a child", || async { fs::read_to_string(&children).ok()?.trim().parse().ok() }).await
}

/// Plays it against an agent with this config; gives what was told, and what is on record.
async fn play(programs: &Programs, scene: Scene, config: &Config) -> Option<(String, Vec<String>)> {
    let numbers = Numbers::new().await?;
    let mut command = numbers.command(BINARY);
    command.args(["run", "--config"]).arg(scene.write(&config.text()));
    let mut agent = Agent::spawn(command).await;
    agent.until_ready().await;
    let around = agent.pid;
    agent.pid = child_of(around).await;
    let attacked = Attacked { scene, agent };
    let late = Late::new(&attacked.agent).await;
    let words = ["reuse", "SOCKET", "legit", &TIMES.to_string(), &UID.to_string()];
    let mut command = numbers.command(&programs.path("hostile").display().to_string());
    command.args(programs.line(&attacked, &words));
    quiet(command.as_std_mut());
    let mut playing = Playing::of(command);
    playing.until("ready").await;
    drop(late);
    // Whoever started it stood still with it.
    kill(Pid::from_raw(around), Signal::SIGCONT).unwrap();
    let told = playing.end().await.text;
    let Attacked { scene, mut agent } = attacked;
    kill(Pid::from_raw(agent.pid), Signal::SIGTERM).unwrap();
    assert_eq!(agent.wait().await.code(), Some(0), "{}", agent.stderr());
    drop(numbers.first);
    Some((told, lines(&scene.events())))
}

fn check(told: &str) {
    let reused = told.lines().find_map(|line| line.strip_prefix("reused ")).unwrap();
    let reused: usize = reused.parse().unwrap();
    assert!(reused * 10 >= TIMES * 9, "vacuous: only {reused} numbers were given again");
    assert_eq!(told.lines().filter(|line| *line == "closed").count(), TIMES, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permitted_program_is_not_taken_for_whoever_had_its_number_in_200_of_200() {
    let Some(programs) = Programs::new().await else { return };
    for peer in ["uid: 20001, level: process".to_owned(), programs.peer(&["legit"])] {
        let scene = Scene::new().await;
        let config = config(&scene, &peer, 300);
        let Some((told, record)) = play(&programs, scene, &config).await else { return };
        check(&told);
        Told { text: told }.got_silence();
        assert_eq!(counts(&record), [("peer.rejected.v1 deny peer_exited", TIMES)].into(), "{peer}");
    }
}

/// The control that must succeed: at level `user` nobody asks for the process.
#[tokio::test(flavor = "multi_thread")]
async fn at_level_user_whoever_has_ended_is_answered() {
    let Some(programs) = Programs::new().await else { return };
    let scene = Scene::new().await;
    let config = config(&scene, "uid: 20001, level: user", 300);
    let Some((told, record)) = play(&programs, scene, &config).await else { return };
    check(&told);
    assert_eq!(told.matches(VALUE).count(), TIMES);
    assert_eq!(counts(&record), [("secret.read.v1 allow -", TIMES)].into());
}
