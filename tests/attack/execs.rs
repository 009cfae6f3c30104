//! Attacks by becoming the permitted program too late or too early: what execve(2) changes of a process, and what not.
//!
//! The attackers are late or early by the agent's standing still (SIGSTOP) until they are ready: no luck is needed.

use crate::{
    program::{Playing, Programs, counts, digest, peer, record},
    scene::{Attacked, finished, permitted},
    skip,
};
use claviger::{
    crypto::sha256,
    name::WorkloadName,
    peer::{
        self, Settings, Strangers,
        attestor::{Attestor, Depth, Started},
        level::Level,
        program::{self, Refusal},
    },
};
use nix::sys::socket::{getsockopt, sockopt};
use std::{
    collections::BTreeMap,
    fs,
    future::poll_fn,
    os::{
        fd::AsFd as _,
        unix::fs::{PermissionsExt as _, chown},
    },
    path::Path,
};
use tokio::net::UnixListener;

/// Connects, asks, becomes the permitted program, a child listens: so many at a time.
fn becoming<'a>(count: &'a str, delay: &'a str, way: &'a str) -> [&'a str; 7] {
    ["hostile", "become", "SOCKET", "legit", count, delay, way]
}

/// How each was refused, and that nobody got anything.
fn refusals(record: &[String]) -> BTreeMap<&str, usize> {
    let counts = counts(record);
    assert!(counts.keys().all(|line| line.contains(" deny ")), "{counts:?}");
    counts
}

fn closed(text: &str) -> usize {
    text.lines().filter(|line| *line == "closed").count()
}

/// Attack 9, by an agent that is late: the permitted program is found, and only the nonce is in the way. If fewer than nine of
/// ten had come so far, this would show nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_and_then_becomes_the_permitted_program_gets_nothing_from_a_late_agent() {
    let Some(programs) = Programs::new().await else { return };
    let attacked = programs.attacked().await;
    for way in ["bare", "guess", "both", "echo"] {
        for _ in 0..5 {
            let told = programs.tell_late(&attacked, &becoming("5", "0", way)).await;
            told.got_nothing();
            assert_eq!(closed(&told.text), 5, "{}", told.text);
        }
    }
    let record = attacked.record().await;
    let refusals = refusals(&record);
    let of = |line: &str| refusals.get(line).copied().unwrap_or_default();
    let (without, another) =
        (of("peer.rejected.v1 deny no_nonce"), of("peer.rejected.v1 deny writer_mismatch"));
    assert_eq!(refusals.values().sum::<usize>(), 100, "{refusals:?}");
    // A child that has the nonce is not whom it was for.
    assert!(without + another + of("peer.rejected.v1 deny image_changed") >= 90, "vacuous: {refusals:?}");
    assert!(without >= 65 && another >= 15, "{refusals:?}");
}

/// Attack 9, by an agent that is not late.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_and_then_becomes_the_permitted_program_gets_nothing_in_100_of_100() {
    let Some(programs) = Programs::new().await else { return };
    let attacked = programs.attacked().await;
    for _ in 0..10 {
        let told = programs.tell(&attacked, &becoming("10", "0", "bare")).await;
        told.got_nothing();
        assert_eq!(closed(&told.text), 10, "{}", told.text);
    }
    let record = attacked.record().await;
    let refusals = refusals(&record);
    assert_eq!(refusals.values().sum::<usize>(), 100, "{refusals:?}");
}

/// Attack 9, the control that must succeed: where no program is required, nothing is in the way. (Level `program` cannot be had
/// without the nonce.)
#[tokio::test(flavor = "multi_thread")]
async fn at_level_container_whoever_asks_and_then_becomes_another_program_gets_the_secret() {
    let Some(programs) = Programs::new().await else { return };
    let attacked = Attacked::new("uid: 20001, level: container").await;
    programs.tell_late(&attacked, &becoming("1", "0", "bare")).await.got_the_secret();
    assert_eq!(attacked.record().await, ["secret.read.v1 allow - container"]);
}

/// Attack 9, the control without the challenge: everything else that is asked of the process says yes, and the request is there.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_nonce_everything_that_is_asked_of_the_process_says_yes() {
    let Some(programs) = Programs::new().await else { return };
    let socket = programs.path("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    peer::prepare(&listener).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let line = programs.path("hostile").display().to_string();
    let [socket, legit] = [&socket, &programs.path("legit")].map(|path| path.display().to_string());
    let words = ["become", &socket, &legit, "1", "0", "bare"].map(str::to_owned);
    let mut playing = Playing::of(programs.command([vec![line], words.to_vec()].concat()));
    playing.until("ready").await;
    let (stream, _) = listener.accept().await.unwrap();
    let settings = Settings {
        uids: vec![permitted().uid],
        gids: vec![],
        groups: vec![],
        level: Level::Process,
        strangers: Strangers::default(),
        program: None,
    };
    let known = peer::identify(&stream, &settings, &WorkloadName::new("job").unwrap()).unwrap();
    let mut command = std::process::Command::new(crate::support::BINARY);
    command.arg("attestor");
    let attestor = Attestor::of(Started::by(command).unwrap()).unwrap();
    let required = program::Settings::of(vec![sha256(&fs::read(legit).unwrap())]);
    let process = getsockopt(&stream, sockopt::PeerPidfd).unwrap();
    let image = loop {
        match attestor.pin(process.as_fd(), &required).await {
            // It has just been started.
            Err(Refusal::Timeout) => {}
            pinned => break pinned.unwrap(),
        }
    };
    // The request was written before, by the very process, and nothing of it changes any more.
    stream.readable().await.unwrap();
    let mut asked = [0; 4096];
    let mut asked = tokio::io::ReadBuf::new(&mut asked);
    poll_fn(|context| known.watch().poll_receive(&stream, context, &mut asked)).await.unwrap();
    assert!(asked.filled().starts_with(b"GET /secrets/stripe "));
    image.check(Depth::Full).await.unwrap();
    drop(stream);
    playing.end().await;
}

/// Attacks 10 and 11: whenever it becomes the permitted program, whether it asks for a nonce and sends that back itself, and
/// whether another process keeps its memory meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_matter_when_an_attacker_becomes_the_permitted_program() {
    let Some(programs) = Programs::new().await else { return };
    let attacked = programs.attacked().await;
    for delay in ["0", "100", "300", "1000", "3000", "10000"] {
        for way in ["bare", "memory"] {
            programs.tell(&attacked, &becoming("10", delay, way)).await.got_nothing();
        }
    }
    for _ in 0..2 {
        programs.tell(&attacked, &becoming("10", "0", "self")).await.got_nothing();
        programs.tell_late(&attacked, &becoming("5", "0", "memory")).await.got_nothing();
    }
    let record = attacked.record().await;
    let refusals = refusals(&record);
    // Whoever asks itself is not given a nonce.
    assert!(refusals.get("peer.rejected.v1 deny digest").is_some_and(|count| *count >= 20), "{refusals:?}");
    // Each of them, and again all that was tried together with one that a busy machine did not decide in time.
    assert!(refusals.values().sum::<usize>() >= 150, "{refusals:?}");
}

/// Attacks 11 and 30: a program that was permitted, and proved so, becomes another one while it waits for an answer; its child
/// listens. With a process that keeps the old memory, only the addresses in it tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_permitted_program_that_becomes_another_one_while_it_waits_is_not_answered() {
    let Some(programs) = Programs::new().await else { return };
    assert!(programs.compile("relayer", "tests/attack/hostile.c", &["-O2"]).await);
    let attacked = programs.attacked_where(&["relayer"]).await;
    for verb in ["become", "become-keeping"] {
        let mut playing = programs.play(&attacked, &["relayer", "relay", "SOCKET"]);
        playing.until("challenged").await;
        playing.say("/secrets/stripe").await;
        playing.until("answered").await;
        let told = playing.told();
        told.got_the_secret();
        let tag = told.text.split_once("etag: \"").unwrap().1.split_once('"').unwrap().0;
        let legit = programs.path("legit").display().to_string();
        playing.say(&format!("{verb} {legit} /secrets/stripe?wait=1s&since={tag}")).await;
        playing.end().await.got_silence();
    }
    let read = "secret.read.v1 allow - program";
    let denied = "peer.rejected.v1 deny image_changed program";
    assert_eq!(record(attacked).await, [read, denied, read, denied]);
}

/// Attack 13: whoever may look into the permitted program, as each process of its user may, can copy its connection. It cannot
/// ask by it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_copies_the_connection_of_the_permitted_program_cannot_ask() {
    let Some(programs) = Programs::new().await else { return };
    let attacked = programs.attacked().await;
    let line = ["hostile", "copy", "SOCKET", "legit", "SECRET", "ask"];
    let told = programs.tell_late(&attacked, &line).await;
    told.got_nothing();
    let record = record(attacked).await;
    assert!(record.contains(&"peer.rejected.v1 deny writer_mismatch program".to_owned()), "{record:?}");
    assert!(!record.iter().any(|line| line.contains(" allow ")), "{record:?}");
}

/// Attack 13, a known miss: it can read what the permitted program asked for, and so can whoever gets the copy out of a queue in
/// which nobody sees it. Answers are not encrypted to whoever asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_miss_is_a_copy_of_the_permitted_programs_connection_that_only_listens() {
    let Some(programs) = Programs::new().await else { return };
    let attacked = programs.attacked().await;
    let told = programs.run(&attacked, "legit").await;
    let tag = told.text.split_once("etag: \"").unwrap().1.split_once('"').unwrap().0;
    let target = format!("/secrets/stripe?wait=2s&since={tag}");
    let mut playing = programs.play(&attacked, &["hostile", "copy", "SOCKET", "legit", &target, "queue"]);
    playing.until("ready").await;
    // By now the copy is in a queue, and no descriptor of its process.
    playing.say("").await;
    playing.end().await.got_the_secret();
    assert_eq!(record(attacked).await, ["secret.read.v1 allow - program"; 2]);
}

/// Attack 9, a known miss: the permitted program itself sends the nonce back, since somebody made the connection its standard
/// output before it began, and it says there what it hears by a socket that was named to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_miss_is_a_permitted_program_that_repeats_what_it_hears() {
    let Some(programs) = Programs::new().await else { return };
    let attacked = programs.attacked().await;
    let folder = tempfile::TempDir::new().unwrap();
    chown(folder.path(), Some(permitted().uid), Some(permitted().gid)).unwrap();
    let line = ["hostile", "repeat", "SOCKET", "legit", &folder.path().display().to_string()];
    programs.tell_late(&attacked, &line).await.got_the_secret();
    assert!(record(attacked).await.contains(&"secret.read.v1 allow - program".to_owned()));
}

/// Attack 10, the control: an interpreter is refused even where its digest is permitted, and a known miss: where that is
/// accepted, its script gets the secret, whoever wrote that.
#[tokio::test(flavor = "multi_thread")]
async fn an_interpreter_is_refused_and_a_known_miss_where_it_is_accepted() {
    let Some(programs) = Programs::new().await else { return };
    let perl = Path::new("/usr/bin/perl");
    if !perl.exists() {
        return skip("needs perl, the interpreter that Debian always has");
    }
    const SCRIPT: &str = r#"
        use IO::Socket::UNIX; $| = 1; local $/ = undef; my $answer;
        my $line = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die;
        syswrite $line, "GET /challenge HTTP/1.1\r\nhost: x\r\n\r\n"; sysread $line, $answer, 8192;
        my ($nonce) = $answer =~ /"nonce":"(\w+)"/ or do { print "unchallenged $answer\n"; exit };
        syswrite $line, "GET $ARGV[1] HTTP/1.1\r\nhost: x\r\nclaviger-nonce: $nonce\r\nconnection: close\r\n\r\n";
        print "heard ", <$line>, "\nclosed\n";
    "#;
    for (accepted, reason) in
        [("", "deny steerable process"), (", accept_steerable: true", "allow - program")]
    {
        let peer = peer(&format!("exe_sha256: [\"{}\"]{accepted}", digest(perl)));
        let attacked = Attacked::new(&peer).await;
        let mut line = vec![perl.display().to_string(), "-e".to_owned(), SCRIPT.to_owned()];
        line.extend(programs.line(&attacked, &["SOCKET", "SECRET"]));
        let told = finished(programs.command(line)).await;
        if accepted.is_empty() {
            told.got_no_nonce("steerable");
        } else {
            told.got_the_secret();
        }
        let record = record(attacked).await;
        assert_eq!(record.len(), 1, "{record:?}");
        assert!(record[0].ends_with(reason), "{record:?}");
    }
}
