//! `claviger audit`: what it says of a record that a real agent wrote, and by which exit code.

use crate::support::{Line, Scene};
use serde_json::Value;
use std::{fs, path::PathBuf, process::Output};

/// A journal of two runs, the workload's reads in it, and what the agent printed.
async fn recorded() -> (Scene, String) {
    let scene = Scene::new().await;
    let mut printed = String::new();
    for _ in 0..2 {
        let mut agent = scene.start(&scene.config()).await;
        let mut line = Line::open(&scene.socket("job")).await.unwrap();
        for _ in 0..3 {
            assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
        }
        drop(line);
        assert_eq!(agent.stop().await, Some(0));
        printed.push_str(&agent.stdout());
    }
    (scene, printed)
}

async fn audit(scene: &Scene, line: &[&str]) -> Output {
    scene.claviger(&[&["audit"], line].concat()).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_wrote_and_what_it_printed_verify_good_and_are_the_same_lines() {
    let (scene, printed) = recorded().await;
    let dir = scene.journal().display().to_string();
    let judged = audit(&scene, &["verify", &dir]).await;
    assert_eq!(judged.status.code(), Some(0), "{}", text(&judged.stdout));
    assert!(text(&judged.stdout).contains("\ngood: "), "{}", text(&judged.stdout));

    let exported = audit(&scene, &["export", &dir]).await;
    assert_eq!(exported.status.code(), Some(0));
    assert_eq!(text(&exported.stdout), printed);

    let file = scene.path("events.jsonl");
    fs::write(&file, printed).unwrap();
    let judged = audit(&scene, &["verify", "--json", &file.display().to_string()]).await;
    let report: Value = serde_json::from_slice(&judged.stdout).unwrap();
    assert_eq!((judged.status.code(), &report["verdict"]), (Some(0), &Value::from("good")));
    assert_eq!(report["chains"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_record_exits_10_and_a_cut_one_11_and_the_first_bad_number_and_both_hashes_are_named() {
    let (scene, printed) = recorded().await;
    let file: PathBuf = scene.path("events.jsonl");
    let path = file.display().to_string();
    let lines: Vec<&str> = printed.lines().collect();
    let at = lines.iter().position(|line| line.contains("secret.read")).unwrap();

    let forged = lines[at].replacen("\"stripe\"", "\"strips\"", 1);
    let mut changed = lines.clone();
    changed[at] = &forged;
    fs::write(&file, changed.join("\n")).unwrap();
    let judged = audit(&scene, &["verify", "--json", &path]).await;
    let report: Value = serde_json::from_slice(&judged.stdout).unwrap();
    assert_eq!(judged.status.code(), Some(10), "{report}");
    let first = &report["findings"][0];
    assert_eq!(first["seq"], at + 1);
    assert!(
        first["expected"].is_string() && first["found"].is_string() && first["expected"] != first["found"]
    );

    // The last event of the first run: the second run's first event names it.
    let stop = lines.iter().position(|line| line.contains("agent.stopped")).unwrap();
    let mut cut = lines.clone();
    cut.remove(stop);
    fs::write(&file, cut.join("\n")).unwrap();
    let judged = audit(&scene, &["verify", &path]).await;
    assert_eq!(judged.status.code(), Some(11), "{}", text(&judged.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_is_one_line_an_event_and_a_place_without_a_journal_is_an_error_with_advice() {
    let (scene, _) = recorded().await;
    let dir = scene.journal().display().to_string();
    let tail = text(&audit(&scene, &["tail", &dir, "-n", "4"]).await.stdout);
    assert_eq!(tail.lines().count(), 4, "{tail}");
    assert!(tail.lines().last().unwrap().contains("agent.stopped"), "{tail}");
    let all = text(&audit(&scene, &["tail", &dir, "-n", "1000"]).await.stdout);
    assert!(all.contains("secret.read job stripe [rule keys, uid "), "{all}");
    let json = text(&audit(&scene, &["tail", &dir, "-n", "1", "--json"]).await.stdout);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["type"], "agent.stopped.v1");

    let nothing = scene.path("run").display().to_string();
    for command in ["verify", "export"] {
        let failed = audit(&scene, &[command, &nothing]).await;
        assert_eq!(failed.status.code(), Some(1));
        assert!(
            text(&failed.stderr).contains("holds no journal\n  name the directory"),
            "{}",
            text(&failed.stderr)
        );
    }
}
