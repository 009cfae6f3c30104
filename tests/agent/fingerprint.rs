//! Fingerprints of values: made once for each, before it is served, and never in the way of serving it.

use crate::support::{Bench, bench::until};
use claviger::{
    keeper::{Kind, Shelf},
    vault::session::{Identity, State},
};
use devvault::{DevVault, Fault, Matcher, RoleSettings, Times};
use std::time::Duration;
use tokio::sync::watch;

const MINUTE: Duration = Duration::from_secs(60);
const LONG: &str = "sk_live_long_enough";
/// 32 bytes of 0x1a in base 64.
const HMAC: &str = "vault:v3:GhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGho=";

fn vault() -> DevVault {
    let dev = DevVault::new();
    dev.mount("secret", devvault::Kind::KvV2);
    dev.put_kv("secret/stripe", &[("api_key", LONG)]);
    let read: &[&str] = &["read"];
    dev.policy("reports", &[("secret/data/*", read), ("secret/metadata/*", read)]);
    dev
}

fn hmacs() -> Matcher {
    Matcher::path("crypt/hmac/audit/sha2-256").method("POST")
}

fn answers(dev: &DevVault, body: &str) {
    let answer = Fault::Answer { status: 200, headers: Vec::new(), body: body.to_owned() };
    dev.script(hmacs(), answer, Times::Always);
}

async fn started(dev: &DevVault) -> (Bench, Identity) {
    let ids = dev.approle("approle", "reports", RoleSettings::policies(&["reports"]).ttl(60 * MINUTE));
    let mut bench = Bench::new(dev);
    let settings = bench.approle(&ids);
    let mut identity = bench.identity(settings);
    drop(until(&mut identity, |state| matches!(state, State::Live(_))).await);
    (bench, identity)
}

/// The fingerprint of generation `generation`, once it is served.
async fn fingerprint(shelf: &mut watch::Receiver<Shelf>, generation: u64) -> Option<String> {
    let served = |shelf: &Shelf| shelf.current.as_ref().is_some_and(|it| it.value.generation() == generation);
    let shelf = tokio::time::timeout(60 * MINUTE, shelf.wait_for(served)).await.unwrap().unwrap();
    shelf.current.as_ref().unwrap().value.fingerprint().map(str::to_owned)
}

fn kv() -> Kind {
    Kind::Kv {
        path: "secret/stripe".into(),
        field: Some("api_key".into()),
        refresh: MINUTE,
        max_stale: 10 * MINUTE,
        version: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_has_its_fingerprint_from_the_start_and_vault_is_asked_once_for_each() {
    let dev = vault();
    answers(&dev, &format!(r#"{{"data": {{"hmac": "{HMAC}"}}}}"#));
    let (mut bench, identity) = started(&dev).await;
    bench.fingerprint_by("crypt", "audit");
    let mut shelf = bench.keep(&identity, "stripe", kv());
    assert_eq!(fingerprint(&mut shelf, 1).await.unwrap(), format!("k3:hmac-sha256:{}", "1a".repeat(32)));
    assert_eq!(shelf.borrow().current.as_ref().unwrap().value.mount(), Some("secret"));
    dev.wait_for_calls(&Matcher::path("secret/metadata/stripe"), 5, 10 * MINUTE).await.unwrap();
    assert_eq!(dev.calls_matching(&hmacs()).len(), 1);
    dev.put_kv("secret/stripe", &[("api_key", "another_long_value")]);
    fingerprint(&mut shelf, 2).await.unwrap();
    dev.put_kv("secret/stripe", &[("api_key", "short")]);
    assert_eq!(fingerprint(&mut shelf, 3).await.as_deref(), Some("none"));
    assert_eq!(dev.calls_matching(&hmacs()).len(), 2, "what is too short is not sent");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_vault_refuses_or_garbles_or_never_answers_is_served_without_a_fingerprint() {
    for fault in [
        Fault::denied(),
        Fault::Garbage,
        Fault::Hang,
        Fault::Answer {
            status: 200,
            headers: Vec::new(),
            body: r#"{"data": {"hmac": "vault:v1:AAAA"}}"#.into(),
        },
    ] {
        let dev = vault();
        dev.script(hmacs(), fault.clone(), Times::Next(1));
        dev.script(
            hmacs(),
            Fault::Answer {
                status: 200,
                headers: Vec::new(),
                body: format!(r#"{{"data": {{"hmac": "{HMAC}"}}}}"#),
            },
            Times::Always,
        );
        let (mut bench, identity) = started(&dev).await;
        bench.fingerprint_by("crypt", "audit");
        let mut shelf = bench.keep(&identity, "stripe", kv());
        assert_eq!(fingerprint(&mut shelf, 1).await.as_deref(), Some("unavailable"));
        // The token is not doubted for it, and the next value has its own try.
        assert_eq!(dev.calls_matching(&Matcher::path("auth/token/lookup-self")).len(), 0);
        dev.put_kv("secret/stripe", &[("api_key", "another_long_value")]);
        assert!(fingerprint(&mut shelf, 2).await.unwrap().starts_with("k3:"));
        bench.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_nothing_is_asked() {
    let dev = vault();
    let (mut bench, identity) = started(&dev).await;
    let mut shelf = bench.keep(&identity, "stripe", kv());
    assert_eq!(fingerprint(&mut shelf, 1).await, None);
    assert_eq!(dev.calls_matching(&Matcher::path("crypt/*")).len(), 0);
    bench.stop().await;
}
