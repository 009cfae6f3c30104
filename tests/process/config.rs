//! Bad configs: everything that is wrong is said, and nothing is started.

use crate::support::{BINARY, Config, Scene, finish};
use serde_json::Value;
use std::{fs, path::Path, process::Output};
use tokio::process::Command;

async fn claviger(line: &[&str], file: &Path) -> Output {
    let mut command = Command::new(BINARY);
    command.args(line).arg(file);
    finish(command).await
}

/// `text` is refused by `run`, `check` and `check --json` alike, for exactly these: the path, the line, and a part of what
/// is said.
async fn refused(scene: &Scene, text: &str, problems: &[(&str, Option<u64>, &str)]) {
    let file = scene.write(text);
    let run = claviger(&["run", "--config"], &file).await;
    let check = claviger(&["check"], &file).await;
    let json = claviger(&["check", "--json"], &file).await;
    for output in [&run, &check, &json] {
        assert_eq!(output.status.code(), Some(64), "{output:?}");
    }
    assert_eq!(run.stderr, check.stderr);
    assert_eq!((run.stdout.len(), check.stdout.len(), json.stderr.len()), (0, 0, 0), "{json:?}");
    let said = String::from_utf8(check.stderr).unwrap();
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let found = report["problems"].as_array().unwrap();
    assert_eq!(found.len(), problems.len(), "{said}");
    for (found, (path, line, text)) in found.iter().zip(problems) {
        let line = line.map_or(Value::Null, Value::from);
        assert_eq!((&found["path"], &found["line"]), (&Value::from(*path), &line), "{said}");
        let whole =
            format!("{} {}", found["found"].as_str().unwrap(), found["would_be_right"].as_str().unwrap());
        assert!(whole.contains(text), "{text} is not in: {whole}");
        assert_ne!(found["would_be_right"], "", "no remedy: {whole}");
        let at = if path.is_empty() { (*text).to_owned() } else { format!("{path}: line {line}: ") };
        assert!(said.contains(&at), "{said}");
    }
    assert_eq!(scene.vault.calls().len(), 0, "Vault was called");
    assert!(!scene.socket("job").exists(), "a socket was made");
    assert!(!scene.journal().exists(), "a journal was made");
}

/// The scene's config with one text replaced, which must be there.
fn with(scene: &Scene, from: &str, to: &str) -> String {
    let text = scene.config().text();
    assert!(text.contains(from), "{from} is not in\n{text}");
    text.replacen(from, to, 1)
}

#[tokio::test]
async fn an_unknown_key_is_named_and_nothing_is_started() {
    let scene = Scene::new().await;
    let text = with(&scene, "refresh: 1h", "refesh: 1h");
    refused(&scene, &text, &[("secrets.stripe.refesh", Some(3), "refresh")]).await;
}

#[tokio::test]
async fn a_duplicate_key_is_named_and_nothing_is_started() {
    let scene = Scene::new().await;
    let text = with(&scene, "refresh: 1h", "refresh: 1h, kind: kv");
    refused(&scene, &text, &[("secrets.stripe.kind", Some(3), "twice")]).await;
}

#[tokio::test]
async fn a_wrong_type_is_named_and_nothing_is_started() {
    let scene = Scene::new().await;
    let text = with(&scene, "refresh: 1h", "refresh: [1h]");
    refused(&scene, &text, &[("secrets.stripe.refresh", Some(3), "list")]).await;
}

#[tokio::test]
async fn two_rules_of_one_name_are_refused() {
    let scene = Scene::new().await;
    let text = with(&scene, "secrets: [stripe]}]", "secrets: [stripe]}, {name: keys, secrets: [stripe]}]");
    refused(&scene, &text, &[("workloads.job.rules[1].name", Some(5), "keys")]).await;
}

#[tokio::test]
async fn a_secret_that_names_no_identity_is_refused() {
    let scene = Scene::new().await;
    let text = with(&scene, "{identity: reports", "{identity: report");
    refused(&scene, &text, &[("secrets.stripe.identity", Some(3), "reports")]).await;
    let text = with(&scene, "{identity: reports, ", "{");
    refused(&scene, &text, &[("secrets.stripe.identity", Some(3), "missing write identity: ")]).await;
}

#[tokio::test]
async fn a_socket_file_name_that_cannot_fit_is_refused() {
    let scene = Scene::new().await;
    let text = with(&scene, "job.sock", &format!("{}.sock", "j".repeat(90)));
    refused(&scene, &text, &[("workloads.job.socket.path", Some(5), "95 bytes")]).await;
}

#[tokio::test]
async fn a_file_over_256_kib_is_refused() {
    let scene = Scene::new().await;
    let text = scene.config().text() + "# " + &"x".repeat(256 * 1024) + "\n";
    refused(&scene, &text, &[("", None, "256 KiB")]).await;
}

#[tokio::test]
async fn a_deeply_nested_file_is_refused() {
    let scene = Scene::new().await;
    let text = scene.config().text() + "sandbox: " + &"[".repeat(100_000) + "\n";
    refused(&scene, &text, &[("", Some(9), "32 levels")]).await;
}

#[tokio::test]
async fn four_faults_of_different_kinds_are_reported_as_four() {
    let scene = Scene::new().await;
    let mut config: Config = scene.config();
    config.secrets = config.secrets.replace("refresh: 1h", "refresh: soon").replace("field:", "feld:");
    config.workloads = config.workloads.replace("[stripe]", "[strip]");
    config.rest = "log: loud\n".into();
    refused(
        &scene,
        &config.text(),
        &[
            ("secrets.stripe.refresh", Some(3), "1h"),
            ("secrets.stripe.feld", Some(3), "field"),
            ("workloads.job.rules[0].secrets[0]", Some(5), "stripe"),
            ("log", Some(9), "keys and values"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_secret_in_the_wrong_place_is_not_repeated() {
    let scene = Scene::new().await;
    let pasted = "hvs.CAESIJxYd9Kq2LmN4pQrStUvWxYz0123456789";
    let file = scene.write(&with(&scene, "kind: kv", &format!("kind: {pasted}, {pasted}: {pasted}")));
    for line in [&["run", "--config"][..], &["check"], &["check", "--json"]] {
        let output = claviger(line, &file).await;
        assert_eq!(output.status.code(), Some(64));
        let all = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&all).contains("CAESIJ"), "{}", String::from_utf8_lossy(&all));
    }
}

#[tokio::test]
async fn a_uid_equal_to_our_own_is_a_warning() {
    let scene = Scene::new().await;
    let own = nix::unistd::geteuid();
    let file = scene.write(&scene.config().text());
    let check = claviger(&["check"], &file).await;
    let said = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(0));
    assert!(said.starts_with("warning: workloads.job.peer.uid: line 5: "), "{said}");
    assert!(said.contains(&format!("{own} is our own uid")), "{said}");
    assert!(String::from_utf8(check.stdout).unwrap().contains("is good: 1 workload, 1 secret, 1 identity"));
    let json: Value = serde_json::from_slice(&claviger(&["check", "--json"], &file).await.stdout).unwrap();
    assert_eq!((&json["ok"], &json["warnings"][0]["path"]), (&true.into(), &"workloads.job.peer.uid".into()));
    assert!(!scene.journal().exists());
    // `run` says it too, and runs.
    let mut agent = scene.start(&scene.config()).await;
    let wanted = format!("{own} is our own uid");
    agent.err_line("the warning", |line| line["warning"].as_str().is_some_and(|w| w.contains(&wanted))).await;
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test]
async fn a_config_that_cannot_be_read_is_a_bad_config() {
    let scene = Scene::new().await;
    for file in [scene.path("nothing.yaml"), scene.path("run")] {
        for line in [&["run", "--config"][..], &["check"]] {
            let output = claviger(line, &file).await;
            assert_eq!(output.status.code(), Some(64), "{output:?}");
            assert!(String::from_utf8(output.stderr).unwrap().contains("cannot read"));
        }
    }
    fs::write(scene.path("latin.yaml"), b"vault: \xe9\n").unwrap();
    assert_eq!(claviger(&["check"], &scene.path("latin.yaml")).await.status.code(), Some(64));
}

#[tokio::test]
async fn what_cannot_be_started_is_1_and_says_why() {
    let scene = Scene::new().await;
    let mut config = scene.config();
    config.workloads = config.workloads.replace("/run/", "/nowhere/");
    let output = finish(scene.run(&config)).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("workloads.job.socket") && said.contains("No such file"), "{said}");
    assert_eq!(scene.vault.calls().len(), 0);
}
