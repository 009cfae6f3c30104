//! From the start to an orderly end.

use crate::support::{Agent, LIMIT, Line, Scene, VALUE, events_in, until};
use devvault::{Fault, Matcher, Times};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{process::Stdio, time::Duration};
use tokio::{io::AsyncReadExt as _, process::Command};

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

async fn stopped_by(signal: Signal) {
    let scene = Scene::new().await;
    let mut config = scene.config();
    config.secrets = "{stripe: {identity: reports, kind: kv, path: secret/stripe, field: api_key}, \
                      orders: {identity: reports, kind: lease, path: database/creds/orders}}"
        .into();
    let mut agent = scene.start(&config).await;
    assert_eq!((scene.vault.tokens().len(), scene.vault.leases().len()), (1, 1));
    let mut idle = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(idle.ask("/whoami").await.unwrap().status, 200);
    let mut waiting = Line::open(&scene.socket("job")).await.unwrap();
    let first = waiting.ask("/secrets/stripe").await.unwrap();
    let tag = first.header("etag").unwrap().trim_matches('"');
    waiting.say(&format!("/secrets/stripe?wait=60s&since={tag}")).await.unwrap();
    // Accepted behind the request that waits: when this one is answered, that one is running.
    let mut other = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(other.ask("/secrets/stripe").await.unwrap().status, 200);

    agent.signal(signal);
    let last = waiting.hear().await.unwrap();
    assert_eq!((last.status, last.body.contains(VALUE)), (200, true), "{last:?}");
    assert!(waiting.ends().await && idle.ends().await && other.ends().await);
    assert_eq!(agent.wait().await.code(), Some(0));

    assert!(!scene.socket("job").exists(), "the socket file is left behind");
    assert!(Line::open(&scene.socket("job")).await.is_err());
    assert_eq!((scene.vault.tokens().len(), scene.vault.leases().len()), (0, 0));
    assert_eq!(scene.vault.count_calls(&Matcher::path("auth/token/revoke-self").status(204)), 1);
    let events = scene.events();
    let types = types(&events);
    assert_eq!(types.first(), Some(&"agent.started.v1"));
    assert_eq!(types.last(), Some(&"agent.stopped.v1"));
    let count = |wanted: &str| types.iter().filter(|found| **found == wanted).count();
    assert_eq!(
        (count("secret.read.v1"), count("auth.revoke.v1"), count("auth.login.v1")),
        (3, 1, 1),
        "{types:?}"
    );
    assert!(events.iter().all(|event| event["outcome"] == "allow"), "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_runs_revokes_what_we_own_and_ends_the_record_in_order() {
    stopped_by(Signal::SIGTERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_does_the_same() {
    stopped_by(Signal::SIGINT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_has_exactly_the_journalled_bytes() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    for target in ["/secrets/stripe", "/secrets/nothing", "/secrets", "/secrets/stripe"] {
        line.ask(target).await.unwrap();
    }
    assert_eq!(agent.stop().await, Some(0));
    let journal = claviger::audit::journal::read(&scene.journal()).unwrap();
    let lines: String = journal.map(|(_, bytes)| String::from_utf8(bytes).unwrap() + "\n").collect();
    assert_eq!(agent.stdout(), lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_revocations_of_many_identities_are_all_on_record_before_the_last_event() {
    const MANY: usize = 80;
    let scene = Scene::new().await;
    let mut config = scene.config();
    let method = config.identities.trim_start_matches("{reports: ").trim_end_matches("}}").to_owned() + "}";
    config.identities = format!("\n  reports: {method}\n");
    for number in 1..MANY {
        config.identities.push_str(&format!("  more-{number}: {method}\n"));
    }
    config.vault = config.vault.replace("]}", "], budget: {calls_per_second: 1000, burst: 1000}}");
    let mut agent = scene.start(&config).await;
    assert_eq!(scene.vault.tokens().len(), MANY);
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(scene.vault.tokens().len(), 0);
    let events = scene.events();
    let types = types(&events);
    assert_eq!(types.iter().filter(|found| **found == "auth.revoke.v1").count(), MANY);
    assert_eq!(types.last(), Some(&"agent.stopped.v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_hangs_while_we_stop_does_not_keep_us() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    scene.vault.script(Matcher::any(), Fault::Hang, Times::Always);
    assert_eq!(agent.stop().await, Some(0));
    scene.vault.wait_for_call(&Matcher::path("auth/token/revoke-self"), LIMIT).await.unwrap();
    assert_eq!(types(&scene.events()).last(), Some(&"agent.stopped.v1"));
    assert!(!scene.socket("job").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_hangs_from_the_start_does_not_keep_us() {
    let scene = Scene::new().await;
    scene.vault.script(Matcher::any(), Fault::Hang, Times::Always);
    let mut agent = Agent::spawn(scene.run(&scene.config())).await;
    scene.vault.wait_for_call(&Matcher::login(), LIMIT).await.unwrap();
    let reply = Line::open(&scene.socket("job")).await.unwrap().ask("/secrets/stripe").await.unwrap();
    assert_eq!((reply.status, &reply.json()["reason"]), (503, &"not_ready".into()), "{reply:?}");
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(types(&scene.events()).last(), Some(&"agent.stopped.v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_answered_while_we_stop_leaves_no_token_behind() {
    let scene = Scene::new().await;
    let gate = devvault::Gate::new();
    scene.vault.script(Matcher::login(), Fault::Hold(gate.clone()), Times::Next(1));
    let mut agent = Agent::spawn(scene.run(&scene.config())).await;
    scene.vault.wait_for_call(&Matcher::login(), LIMIT).await.unwrap();
    agent.signal(Signal::SIGTERM);
    agent.err_line("the stop began", |line| line["phase"] == "accept").await;
    gate.open();
    assert_eq!(agent.wait().await.code(), Some(0));
    assert_eq!(scene.vault.tokens().len(), 0, "a token outlives its agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_finish_do_not_keep_us() {
    let scene = Scene::new().await;
    let mut config = scene.config();
    config.rest = "shutdown: {grace: 1s}\n".into();
    let mut agent = scene.start(&config).await;
    let mut half = Line::open(&scene.socket("job")).await.unwrap();
    half.send("GET /secrets/str").await.unwrap();
    let mut body = Line::open(&scene.socket("job")).await.unwrap();
    body.send("POST /secrets/stripe/ack HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{").await.unwrap();
    let mut proof = Line::open(&scene.socket("job")).await.unwrap();
    assert_eq!(proof.ask("/secrets/stripe").await.unwrap().status, 200);
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(types(&scene.events()).last(), Some(&"agent.stopped.v1"));
    assert!(half.ends().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_standard_output_that_stalls_holds_up_nobody() {
    let scene = Scene::new().await;
    let mut command = scene.run(&scene.config());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    // Held open, and not read.
    let mut out = child.stdout.take().unwrap();
    let mut line = until("the socket", || async { Line::open(&scene.socket("job")).await.ok() }).await;
    until("the value", || ready(&scene)).await;
    // A pipe holds 64 KiB: some 100 events.
    for _ in 0..300 {
        assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
    }
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    let status = tokio::time::timeout(LIMIT, child.wait()).await.expect("it does not end").unwrap();
    assert_eq!(status.code(), Some(0));
    let events = scene.events();
    assert_eq!(types(&events).last(), Some(&"agent.stopped.v1"));
    let mut printed = Vec::new();
    out.read_to_end(&mut printed).await.unwrap();
    // The next start prints the rest: between the two, every event is there.
    let mut again = scene.start(&scene.config()).await;
    assert_eq!(again.stop().await, Some(0));
    let all = String::from_utf8_lossy(&printed).into_owned() + &again.stdout();
    for event in scene.events() {
        assert!(all.contains(event["id"].as_str().unwrap()), "{event} was never printed");
    }
}

async fn ready(scene: &Scene) -> Option<()> {
    let reply = Line::open(&scene.socket("job")).await.ok()?.ask("/secrets/stripe").await.ok()?;
    (reply.status == 200).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_outputs_closed_the_agent_serves_and_stops_all_the_same() {
    let scene = Scene::new().await;
    let run = scene.run(&scene.config());
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" >&- 2>&-", "sh"]).arg(run.as_std().get_program());
    command.args(run.as_std().get_args());
    let mut agent = Agent::spawn(command).await;
    until("the value", || ready(&scene)).await;
    assert_eq!(agent.stop().await, Some(0));
    assert_eq!(types(&scene.events()).last(), Some(&"agent.stopped.v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_the_same_journal_or_socket_is_refused_and_the_first_goes_on() {
    let scene = Scene::new().await;
    let mut first = scene.start(&scene.config()).await;
    let before = scene.vault.calls().len();
    let mut second = Agent::spawn(scene.run(&scene.config())).await;
    assert_eq!(second.wait().await.code(), Some(1));
    assert!(second.stderr().contains("another process uses this journal"), "{}", second.stderr());
    let mut config = scene.config();
    config.audit = config.audit.replace("/audit\"", "/audit-2\"");
    let mut third = Agent::spawn(scene.run(&config)).await;
    assert_eq!(third.wait().await.code(), Some(1));
    assert!(third.stderr().contains("another agent is listening"), "{}", third.stderr());
    // Neither of them called Vault, nor took the socket away.
    assert_eq!(scene.vault.calls().len(), before);
    let reply = Line::open(&scene.socket("job")).await.unwrap().ask("/secrets/stripe").await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(first.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_an_orderly_end_says_so_and_removes_a_stale_socket() {
    let scene = Scene::new().await;
    let mut first = scene.start(&scene.config()).await;
    assert_eq!(first.stop().await, Some(0));
    // As a crash leaves one.
    drop(std::os::unix::net::UnixListener::bind(scene.socket("job")).unwrap());
    let mut second = scene.start(&scene.config()).await;
    let found = second.event("recovered", |event| event["type"] == "audit.recovered.v1").await;
    assert_eq!((&found["outcome"], &found["reason"]), (&"allow".into(), &Value::Null));
    second.signal(Signal::SIGKILL);
    second.wait().await;
    let third = scene.start(&scene.config()).await;
    let found = third.event("recovered", |event| event["reason"] == "crash").await;
    assert_eq!((&found["type"], &found["outcome"]), (&"audit.recovered.v1".into(), &"error".into()));
    assert!(events_in(&scene.journal()).len() > 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_come_again_while_we_stop_change_nothing() {
    let scene = Scene::new().await;
    let mut agent = scene.start(&scene.config()).await;
    let revoke = Matcher::path("auth/token/revoke-self");
    scene.vault.script(revoke.clone(), Fault::Delay(Duration::from_millis(300)), Times::Always);
    agent.signal(Signal::SIGTERM);
    scene.vault.wait_for_call(&revoke, LIMIT).await.unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM] {
        agent.signal(signal);
    }
    assert_eq!(agent.wait().await.code(), Some(0));
    assert_eq!(scene.vault.tokens().len(), 0);
    assert_eq!(types(&scene.events()).last(), Some(&"agent.stopped.v1"));
}
