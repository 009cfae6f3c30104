//! A secret's life: fetched, refreshed, renewed, replaced, let go.

use crate::support::{Bench, bench::until};
use claviger::{
    keeper::{Kind, LeaseRequest, Shelf, fact::Act},
    vault::session::{Identity, State},
};
use devvault::{DevVault, Fault, Matcher, RoleSettings, Times};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn vault() -> DevVault {
    let dev = DevVault::new();
    dev.mount("secret", devvault::Kind::KvV2);
    dev.mount("old", devvault::Kind::KvV1);
    dev.mount("database", devvault::Kind::Database);
    dev.mount("pki", devvault::Kind::Pki);
    dev.put_kv("secret/stripe", &[("api_key", "one")]);
    dev.put_kv("old/stripe", &[("api_key", "one")]);
    dev.database_role("database", "orders", HOUR, 4 * HOUR);
    dev.pki_role("pki", "web", DAY);
    let read: &[&str] = &["read"];
    let all: &[&str] = &["create", "read", "update"];
    dev.policy(
        "reports",
        &[
            ("secret/data/*", read),
            ("secret/metadata/*", read),
            ("old/*", read),
            ("database/creds/*", read),
            ("pki/issue/*", all),
            ("auth/token/create", all),
            ("sys/leases/*", all),
        ],
    );
    dev.policy("ci-read", &[("secret/data/ci", read)]);
    dev
}

fn kv(path: &str) -> Kind {
    Kind::Kv { path: path.into(), field: None, refresh: MINUTE, max_stale: 10 * MINUTE, version: None }
}

fn lease() -> Kind {
    Kind::Lease { path: "database/creds/orders".into(), request: LeaseRequest::Get }
}

/// A running identity, and a bench to keep secrets on.
async fn started(dev: &DevVault, role: RoleSettings) -> (Bench, Identity) {
    let ids = dev.approle("approle", "reports", role);
    let mut bench = Bench::new(dev);
    let settings = bench.approle(&ids);
    let mut identity = bench.identity(settings);
    drop(until(&mut identity, |state| matches!(state, State::Live(_))).await);
    (bench, identity)
}

fn role() -> RoleSettings {
    RoleSettings::policies(&["reports", "ci-read"]).ttl(HOUR)
}

async fn shelf_with(shelf: &mut watch::Receiver<Shelf>, wanted: impl Fn(&Shelf) -> bool) -> Shelf {
    tokio::time::timeout(30 * DAY, shelf.wait_for(|shelf| wanted(shelf))).await.unwrap().unwrap().clone()
}

fn generation(shelf: &Shelf) -> Option<u64> {
    shelf.served(Instant::now()).map(|served| served.held.value.generation())
}

fn is_served(shelf: &watch::Receiver<Shelf>) -> bool {
    generation(&shelf.borrow()).is_some()
}

#[tokio::test(start_paused = true)]
async fn a_kv_secret_that_did_not_change_costs_a_look_at_its_versions_only() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let mut shelf = bench.keep(&identity, "stripe", kv("secret/stripe"));
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    dev.wait_for_calls(&Matcher::path("secret/metadata/stripe"), 5, 10 * MINUTE).await.unwrap();
    assert_eq!(dev.calls_matching(&Matcher::path("secret/data/stripe")).len(), 1);
    assert_eq!(dev.calls_matching(&Matcher::path("sys/internal/ui/mounts/*")).len(), 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_version_is_served_and_the_old_one_keeps_its_grace() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let mut shelf = bench.keep(&identity, "stripe", kv("secret/stripe"));
    let first = shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    dev.put_kv("secret/stripe", &[("api_key", "two")]);
    let second = shelf_with(&mut shelf, |shelf| generation(shelf) == Some(2)).await;
    let tag = |shelf: &Shelf| shelf.current.as_ref().unwrap().value.tag().to_owned();
    assert_ne!(tag(&first), tag(&second));
    assert_eq!(second.previous.unwrap().value.generation(), 1);
    let over = shelf_with(&mut shelf, |shelf| shelf.previous.is_none()).await;
    assert_eq!(generation(&over), Some(2));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn metadata_that_may_not_be_read_is_asked_for_once() {
    let dev = vault();
    dev.policy("reports", &[("secret/data/*", &["read"])]);
    let (mut bench, identity) = started(&dev, role()).await;
    let mut shelf = bench.keep(&identity, "stripe", kv("secret/stripe"));
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    dev.wait_for_calls(&Matcher::path("secret/data/stripe"), 5, 10 * MINUTE).await.unwrap();
    assert_eq!(dev.calls_matching(&Matcher::path("secret/metadata/stripe")).len(), 1);
    assert_eq!(dev.calls_matching(&Matcher::path("auth/token/lookup-self")).len(), 0);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kv_1_secret_is_a_new_generation_only_when_its_value_changed() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let mut shelf = bench.keep(&identity, "stripe", kv("old/stripe"));
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    dev.wait_for_calls(&Matcher::path("old/stripe"), 4, 10 * MINUTE).await.unwrap();
    assert_eq!(generation(&shelf.borrow().clone()), Some(1));
    dev.put_kv("old/stripe", &[("api_key", "two")]);
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(2)).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn while_vault_is_away_a_kv_value_is_served_for_max_stale_and_no_longer() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let mut shelf = bench.keep(&identity, "stripe", kv("secret/stripe"));
    let confirmed =
        shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await.current.unwrap().confirmed;
    dev.script(Matcher::any(), Fault::Drop, Times::Always);
    tokio::time::sleep_until(confirmed + 9 * MINUTE).await;
    let served = shelf.borrow().served(Instant::now()).unwrap();
    assert!(served.stale, "and it says that it is stale");
    tokio::time::sleep_until(confirmed + 12 * MINUTE).await;
    assert!(!is_served(&shelf));
    dev.clear_scripts();
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kv_value_that_is_no_longer_permitted_is_not_served_from_memory() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let mut shelf = bench.keep(&identity, "stripe", kv("secret/stripe"));
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    dev.policy("reports", &[]);
    sleep(4 * MINUTE).await;
    assert!(!is_served(&shelf));
    assert!(shelf.borrow().problem.is_some());
    assert_eq!(dev.calls_matching(&Matcher::login()).len(), 1, "the token was good: no new login");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_and_near_its_maximum_replaced_with_an_overlap() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let mut shelf = bench.keep(&identity, "orders", lease());
    let first = shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    let renewal = dev.wait_for_call(&Matcher::path("sys/leases/renew"), HOUR).await.unwrap();
    assert!(renewal.at > first.current.unwrap().confirmed + 30 * MINUTE);
    let second = shelf_with(&mut shelf, |shelf| generation(shelf) == Some(2)).await;
    assert_eq!(dev.leases().len(), 2, "both work during the grace");
    assert_eq!(second.previous.unwrap().value.generation(), 1);
    shelf_with(&mut shelf, |shelf| shelf.previous.is_none()).await;
    dev.wait_for_call(&Matcher::path("sys/leases/revoke"), HOUR).await.unwrap();
    assert_eq!(dev.leases().len(), 1);
    let acts: Vec<_> = std::iter::from_fn(|| bench.leases.try_recv().ok()).map(|fact| fact.act).collect();
    assert!(acts.contains(&Act::Renew) && acts.contains(&Act::Revoke), "{acts:?}");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_move_to_a_new_login_never_cuts_a_lease_that_a_workload_holds() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role().max_ttl(2 * HOUR)).await;
    let mut shelf = bench.keep(&identity, "orders", lease());
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    let before = dev.leases()[0].id.clone();
    let moved = shelf_with(&mut shelf, |shelf| generation(shelf) == Some(2)).await;
    assert!(dev.leases().iter().any(|lease| lease.id == before), "the old one is still valid");
    assert!(moved.previous.is_some());
    assert_eq!(dev.calls_matching(&Matcher::path("auth/token/revoke-self")).len(), 0);
    drop(moved);
    dev.wait_for_call(&Matcher::path("auth/token/revoke-self"), HOUR).await.unwrap();
    assert!(dev.leases().iter().all(|lease| lease.id != before), "after its grace it fell with its token");
    assert!(is_served(&shelf));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_never_served_past_its_end() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let mut shelf = bench.keep(&identity, "orders", lease());
    let end = shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1))
        .await
        .current
        .unwrap()
        .serve_until
        .unwrap();
    dev.script(Matcher::any(), Fault::Drop, Times::Always);
    tokio::time::sleep_until(end - Duration::from_secs(1)).await;
    assert!(is_served(&shelf));
    tokio::time::sleep_until(end).await;
    assert!(!is_served(&shelf));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_fell_with_a_revoked_token_is_replaced_at_once() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let mut shelf = bench.keep(&identity, "orders", lease());
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    dev.revoke_role("reports");
    // The renewal of the lease or of the token finds it out; the new login brings a new lease.
    let second = shelf_with(&mut shelf, |shelf| generation(shelf) == Some(2)).await;
    assert!(second.served(Instant::now()).unwrap().previous.is_none(), "the dead one is not handed out");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_path_that_gives_no_lease_is_refused_with_the_remedy() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let kind = Kind::Lease { path: "old/stripe".into(), request: LeaseRequest::Get };
    let mut shelf = bench.keep(&identity, "orders", kind);
    let problem = shelf_with(&mut shelf, |shelf| shelf.problem.is_some()).await.problem.unwrap();
    assert!(problem.to_string().ends_with("it gives no lease; use kind kv"), "{problem}");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_token_is_renewed_and_falls_with_its_parent_at_exit() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let kind = Kind::Token {
        policies: vec!["ci-read".into()],
        ttl: 15 * MINUTE,
        uses: 0,
        role: None,
        per_process: false,
        no_default_policy: false,
    };
    let mut shelf = bench.keep(&identity, "ci", kind);
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    dev.wait_for_calls(&Matcher::renew_self(), 3, HOUR).await.unwrap();
    let child = dev.tokens().into_iter().find(|token| token.parent.is_some()).unwrap();
    assert!(child.policies.contains(&"ci-read".to_owned()), "{child:?}");
    let left = child.expires_at.unwrap() - Instant::now();
    assert!(left <= 15 * MINUTE, "a renewal gives it no more than the config says: {left:?}");
    bench.stop().await;
    assert!(dev.tokens().iter().all(|token| token.parent.is_none()), "{:?}", dev.tokens());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_issued_anew_after_its_share_of_life() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let params = serde_json::json!({"common_name": "web.internal"}).as_object().unwrap().clone();
    let kind = Kind::Certificate { path: "pki/issue/web".into(), params, renew_at: 0.5 };
    let start = Instant::now();
    let mut shelf = bench.keep(&identity, "web", kind);
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(2)).await;
    let hours = start.elapsed().as_secs_f64() / 3600.0;
    assert!((11.9..12.1).contains(&hours), "{hours}");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_secret_that_fails_does_not_hurt_another() {
    let dev = vault();
    let (mut bench, identity) = started(&dev, role()).await;
    let mut missing = bench.keep(&identity, "missing", kv("secret/nothing"));
    let mut good = bench.keep(&identity, "stripe", kv("secret/stripe"));
    shelf_with(&mut missing, |shelf| shelf.problem.is_some()).await;
    shelf_with(&mut good, |shelf| generation(shelf) == Some(1)).await;
    dev.put_kv("secret/nothing", &[("api_key", "late")]);
    shelf_with(&mut missing, |shelf| generation(shelf) == Some(1)).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_made_anew_after_a_new_login_is_renewed_meanwhile() {
    let dev = vault();
    dev.database_role("database", "orders", MINUTE, DAY);
    let (mut bench, identity) = started(&dev, role().max_ttl(90 * MINUTE)).await;
    let mut shelf = bench.keep(&identity, "orders", lease());
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(1)).await;
    dev.script(Matcher::path("database/creds/*"), Fault::error(503, "busy"), Times::Always);
    dev.wait_for_calls(&Matcher::login(), 2, 3 * HOUR).await.unwrap();
    let renewals = dev.calls_matching(&Matcher::path("sys/leases/renew")).len();
    dev.wait_for_calls(&Matcher::path("sys/leases/renew"), renewals + 1, HOUR).await.unwrap();
    assert_eq!(generation(&shelf.borrow().clone()), Some(1), "it is still served");
    dev.clear_scripts();
    shelf_with(&mut shelf, |shelf| generation(shelf) == Some(2)).await;
    bench.stop().await;
}
