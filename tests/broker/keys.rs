//! Keys that change, that do not fit, that are refused.

use crate::{
    rig::{Plan, Rig},
    server::{Seen, Step, say},
    support::VALUE,
};

const NEW: &str = "sk_test_a-new-one-after-rotation";

/// Takes one key only.
fn takes(key: &'static str) -> impl FnMut(&Seen) -> Vec<Step> + Send + 'static {
    move |seen| match seen.header("authorization") {
        Some(value) if value == format!("Bearer {key}") => say(200, &[], "fine"),
        other => say(401, &[("www-authenticate", "Bearer")], format!("bad key {}", other.unwrap_or("none"))),
    }
}

/// An upstream that takes the old key until it is rotated. `refresh` is an hour: only a refusal can have brought the new one.
async fn rotated() -> Rig {
    let rig = Rig::new(takes(VALUE)).await;
    assert_eq!(rig.get("/a").await.status, 200);
    rig.scene.vault.put_kv("secret/stripe", &[("api_key", NEW)]);
    rig.server.obey(takes(NEW));
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_a_safe_call_finds_the_new_key() {
    let rig = rotated().await;
    let reply = rig.get("/a").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "fine"));
    let keys: Vec<_> =
        rig.server.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(keys[1..], [format!("Bearer {VALUE}"), format!("Bearer {NEW}")]);
    let intents = rig.events("intent", 3).await;
    let of = |event: &serde_json::Value| {
        (event["upstream"]["attempt"].as_u64(), event["resource"]["version"].as_u64())
    };
    let attempts: Vec<_> = intents.iter().map(of).collect();
    assert_eq!(attempts, [(Some(1), Some(1)), (Some(1), Some(1)), (Some(2), Some(2))]);
    let refused =
        rig.events("result", 3).await.into_iter().filter(|event| event["reason"] == "credential_rejected");
    assert_eq!(refused.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_second_attempt_has_no_answer_the_first_one_s_counts() {
    let rig = rotated().await;
    rig.server.obey(|seen| match seen.header("authorization") {
        Some(key) if key.ends_with(NEW) => vec![Step::Cut],
        _ => say(401, &[], ""),
    });
    let reply = rig.get("/a").await;
    assert_eq!((reply.status, reply.reason().as_str()), (401, "credential_rejected"));
    let reasons: Vec<_> =
        rig.events("result", 3).await.iter().map(|event| event["reason"].to_string()).collect();
    assert_eq!(reasons[1..], ["\"credential_rejected\"", "\"upstream_protocol\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_a_call_that_changes_something_is_not_repeated_and_the_next_one_has_the_new_key() {
    let rig = rotated().await;
    let post = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";
    let reply = rig.own().await.ask(post).await;
    assert_eq!((reply.status, reply.reason().as_str()), (401, "credential_rejected"));
    assert!(!reply.text().contains(VALUE) && reply.header("www-authenticate").is_none());
    assert_eq!(rig.server.seen().len(), 2);
    crate::support::until("the new key", || async {
        (rig.own().await.ask(post).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_asked_for_again_once_and_not_at_every_refusal() {
    let rig = Rig::new(takes(NEW)).await;
    for _ in 0..3 {
        assert_eq!(rig.get("/a").await.status, 401);
    }
    assert_eq!(rig.server.seen().len(), 3, "the same key is not tried twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_sent_is_not_sent() {
    for (value, fits) in [
        ("sk_test_with_a_line\r", false),
        ("sk_test_with\na_line_feed", false),
        ("sk_test_with_a_line_feed_at_its_end\n", true),
        ("too_short", false),
    ] {
        let scene = crate::support::Scene::new().await;
        scene.vault.put_kv("secret/stripe", &[("api_key", value)]);
        crate::server::certify(&scene.path(""), &[("server", "127.0.0.1")]);
        let acceptor = crate::server::acceptor(&scene.path(""), "server");
        let server = crate::server::Server::start(Some(acceptor), |_| say(200, &[], "fine")).await;
        let agent = scene.start(&crate::rig::config(&scene, &server, &Plan::default())).await;
        let rig = Rig { scene, server, agent };
        let reply = rig.get("/").await;
        if fits {
            assert_eq!(reply.status, 200, "{value:?}");
            let key = rig.server.last().header("authorization").unwrap().to_owned();
            assert_eq!(key, format!("Bearer {}", value.trim_end()));
        } else {
            assert_eq!((reply.status, reply.reason().as_str()), (503, "credential_unavailable"), "{value:?}");
            assert_eq!(rig.server.connections(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_the_old_key_is_not_used_for_the_new_one() {
    let plan = Plan {
        secrets: Some(
            "{stripe: {identity: reports, kind: kv, path: secret/stripe, field: api_key, refresh: 1s}}",
        ),
        ..Plan::default()
    };
    let rig =
        Rig::with(plan, |seen| say(200, &[], seen.header("authorization").unwrap().len().to_string())).await;
    rig.get("/").await;
    rig.get("/").await;
    assert_eq!(rig.server.connections(), 1);
    rig.scene.vault.put_kv("secret/stripe", &[("api_key", NEW)]);
    crate::support::until("the new key", || async {
        rig.get("/").await;
        rig.server.last().header("authorization").unwrap().ends_with(NEW).then_some(())
    })
    .await;
    assert_eq!(rig.server.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_workload_may_read_need_not_be_hidden_from_it() {
    let scene = crate::support::Scene::new().await;
    crate::server::certify(&scene.path(""), &[("server", "127.0.0.1")]);
    let acceptor = crate::server::acceptor(&scene.path(""), "server");
    let server = crate::server::Server::start(Some(acceptor), |_| say(200, &[], "fine")).await;
    let mut config = crate::rig::config(&scene, &server, &Plan::default());
    config.workloads = config.workloads.replace("rules: [", "rules: [{name: keys, secrets: [stripe]}, ");
    let check = async |config: &crate::support::Config| {
        let file = scene.write(&config.text());
        scene.claviger(&["check", file.to_str().unwrap()]).await
    };
    let refused = check(&config).await;
    let text = String::from_utf8(refused.stdout).unwrap() + &String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{text}");
    assert!(
        text.contains("calls uses the secret stripe, which the rule keys lets this workload read"),
        "{text}"
    );
    config.workloads = config.workloads.replace("upstream: api,", "upstream: api, also_readable: true,");
    assert_eq!(check(&config).await.status.code(), Some(0));
}
