//! A wall clock that jumps under a running agent: the fault case A16 of the audit design.

use crate::support::{Line, Scene, finish};
use serde_json::Value;
use std::{fs, os::unix::fs::FileExt as _, time::Instant};
use tokio::process::Command;

fn number(event: &Value, key: &str) -> u64 {
    event[key].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_goes_an_hour_back_and_forth_again_shortens_no_token_and_leaves_a_record_in_order()
{
    const HOUR: i64 = 3_600;
    let scene = Scene::new().await;
    let (library, shift) = (scene.path("clock.so"), scene.path("shift"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library);
    cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/clock.c")).arg("-ldl");
    assert!(finish(cc).await.status.success());
    fs::write(&shift, 0_i64.to_ne_bytes()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&shift).unwrap();
    let mut run = scene.run(&scene.config());
    run.env("LD_PRELOAD", &library).env("CLOCK_SHIFT", &shift);
    let begun = Instant::now();
    let mut agent = crate::support::Agent::spawn(run).await;
    agent.until_ready().await;
    let mut line = Line::open(&scene.socket("job")).await.unwrap();
    for (seconds, jump) in [(0, 0), (-HOUR, -HOUR), (0, HOUR)] {
        file.write_all_at(&i64::to_ne_bytes(seconds), 0).unwrap();
        if jump != 0 {
            let said = |event: &Value| event["agent"]["jump_ms"].as_i64().unwrap_or(0);
            let told = |event: &Value| {
                event["type"] == "agent.clock_jump.v1" && (said(event) - jump * 1_000).abs() < 500_000
            };
            let event = agent.event("the jump", told).await;
            assert_eq!((&event["outcome"], &event["reason"]), (&"error".into(), &"clock_jump".into()));
            assert!(event["agent"]["skew_ms"].is_i64(), "{event}");
        }
        for _ in 0..3 {
            assert_eq!(line.ask("/secrets/stripe").await.unwrap().status, 200);
        }
    }
    assert_eq!(agent.page("/readyz").await.status, 200);
    assert_eq!(agent.stop().await, Some(0));
    let lasted = begun.elapsed().as_nanos();
    let events = scene.events();
    for pair in events.windows(2) {
        let time = |event: &Value| event["time"].as_str().unwrap().to_owned();
        assert!(time(&pair[0]) <= time(&pair[1]), "{pair:#?}");
        assert!(number(&pair[0], "mono_ns") <= number(&pair[1], "mono_ns"), "{pair:#?}");
    }
    assert!(u128::from(number(events.last().unwrap(), "mono_ns")) < lasted, "mono_ns does not jump");
    assert_eq!(events.iter().filter(|event| event["type"] == "agent.clock_jump.v1").count(), 2);
    // Nobody logged in anew, and nothing ran out.
    assert_eq!(events.iter().filter(|event| event["type"] == "auth.login.v1").count(), 1);
    assert!(!events.iter().any(|event| event["outcome"] == "deny" || event["type"] == "auth.failed.v1"));
    let mut verify = Command::new(crate::support::BINARY);
    verify.args(["audit", "verify"]).arg(scene.journal());
    assert_eq!(finish(verify).await.status.code(), Some(0));
}
