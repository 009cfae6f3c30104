//! An identity's life: login, renewal, the move to a new login, the end.

use crate::support::{Bench, bench::until};
use claviger::vault::{
    endpoint::Request,
    error::Class,
    limiter::Account,
    login::{self, Method, SecretId},
    session::{Act, Identity, State},
};
use devvault::{DevVault, Fault, Kind, Matcher, RoleSettings, Times};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_secs(3600);

fn vault() -> DevVault {
    let dev = DevVault::new();
    dev.mount("secret", Kind::KvV2);
    dev.put_kv("secret/a", &[("k", "v")]);
    dev.policy("reports", &[("secret/data/*", &["read"])]);
    dev
}

fn role() -> RoleSettings {
    RoleSettings::policies(&["reports"]).ttl(HOUR)
}

/// An identity of such a role that has begun to log in, and the bench that it stands on.
fn started(dev: &DevVault, role: RoleSettings) -> (Bench, Identity) {
    let ids = dev.approle("approle", "reports", role);
    let mut bench = Bench::new(dev);
    let settings = bench.approle(&ids);
    let identity = bench.identity(settings);
    (bench, identity)
}

#[tokio::test(start_paused = true)]
async fn a_login_is_one_call() {
    let dev = vault();
    let (bench, mut identity) = started(&dev, role());
    sleep(Duration::from_secs(60)).await;
    until(&mut identity, |state| matches!(state, State::Live(_))).await;
    assert_eq!(dev.calls().len(), 1, "{:?}", dev.calls());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_between_60_and_70_percent_of_its_life() {
    let dev = vault();
    let start = Instant::now();
    let (bench, _) = started(&dev, role());
    let renewal = dev.wait_for_calls(&Matcher::renew_self(), 1, HOUR).await.unwrap();
    let share = renewal.at.duration_since(start).as_secs_f64() / HOUR.as_secs_f64();
    assert!((0.6..=0.71).contains(&share), "{share}");
    dev.wait_for_calls(&Matcher::renew_self(), 20, 24 * HOUR).await.unwrap();
    assert_eq!(dev.calls_matching(&Matcher::login()).len(), 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn near_the_maximum_a_new_login_takes_over_and_the_old_token_is_revoked() {
    let dev = vault();
    let (bench, mut identity) = started(&dev, role().max_ttl(2 * HOUR));
    let first = until(&mut identity, |state| matches!(state, State::Live(_))).await;
    let State::Live(first) = first else { unreachable!() };
    dev.wait_for_calls(&Matcher::login(), 2, 3 * HOUR).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        dev.tokens().iter().filter(|token| token.role.is_some()).count(),
        2,
        "the old one is still claimed"
    );
    assert_eq!(dev.calls_matching(&Matcher::path("auth/token/revoke-self")).len(), 0);
    drop(first);
    dev.wait_for_call(&Matcher::path("auth/token/revoke-self"), HOUR).await.unwrap();
    assert_eq!(dev.tokens().iter().filter(|token| token.role.is_some()).count(), 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_token_is_replaced_before_it_ends_and_never_renewed_or_revoked() {
    let dev = vault();
    let (bench, _) = started(&dev, role().batch());
    dev.wait_for_calls(&Matcher::login(), 4, 4 * HOUR).await.unwrap();
    bench.stop().await;
    assert!(dev.calls().iter().all(|call| call.path.ends_with("/login")), "{:?}", dev.calls());
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_is_looked_up_once_and_the_token_replaced_in_time() {
    let dev = vault();
    dev.script(Matcher::renew_self(), Fault::denied(), Times::Always);
    let (bench, _) = started(&dev, role());
    dev.wait_for_calls(&Matcher::login(), 3, 3 * HOUR).await.unwrap();
    // Each life of the token: one login, one renewal that is refused, one look-up, one revocation.
    assert!(dev.calls().len() <= 12, "{:?}", dev.calls());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_revoked_behind_our_back_is_found_out_by_the_first_refusal() {
    let dev = vault();
    let (bench, mut identity) = started(&dev, role());
    let State::Live(session) = until(&mut identity, |state| matches!(state, State::Live(_))).await else {
        return;
    };
    dev.revoke_role("reports");
    for _ in 0..50 {
        let refused = bench.vault.call(&Account::Refresh, &session, &Request::read("secret/data/a")).await;
        assert_eq!(refused.err().unwrap().class(), Class::Denied);
        identity.doubt(&session);
    }
    until(&mut identity, |state| matches!(state, State::Live(new) if new.number() == 2)).await;
    assert_eq!(dev.calls_matching(&Matcher::path("auth/token/lookup-self")).len(), 1);
    assert_eq!(dev.calls_matching(&Matcher::login()).len(), 2);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_is_not_asked_for_again_before_half_a_minute() {
    let dev = vault();
    dev.script(Matcher::any(), Fault::denied(), Times::Always);
    let (bench, mut identity) = started(&dev, role());
    until(&mut identity, |state| matches!(state, State::Down(error) if error.class() == Class::Denied)).await;
    sleep(10 * Duration::from_secs(60)).await;
    assert!(dev.calls().len() <= 21, "{}", dev.calls().len());
    dev.clear_scripts();
    until(&mut identity, |state| matches!(state, State::Live(_))).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sealed_vault_is_waited_for() {
    let dev = vault();
    dev.seal();
    let (bench, mut identity) = started(&dev, role());
    until(&mut identity, |state| matches!(state, State::Down(error) if error.class() == Class::Sealed)).await;
    sleep(HOUR).await;
    dev.unseal();
    let unsealed = Instant::now();
    until(&mut identity, |state| matches!(state, State::Live(_))).await;
    assert!(unsealed.elapsed() <= Duration::from_secs(61), "{:?}", unsealed.elapsed());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_server_asks_us_to_wait_is_waited() {
    let dev = vault();
    dev.script(Matcher::login(), Fault::slow_down(429, Duration::from_secs(300)), Times::Next(1));
    let start = Instant::now();
    let (bench, mut identity) = started(&dev, role());
    until(&mut identity, |state| matches!(state, State::Live(_))).await;
    assert!(start.elapsed() >= Duration::from_secs(300), "{:?}", start.elapsed());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_given_up_after_the_timeout() {
    let dev = vault();
    dev.script(Matcher::login(), Fault::Hang, Times::Next(1));
    let (bench, mut identity) = started(&dev, role());
    let down = until(&mut identity, |state| matches!(state, State::Down(_))).await;
    assert!(format!("{down:?}").contains("timed out"), "{down:?}");
    until(&mut identity, |state| matches!(state, State::Live(_))).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_is_not_believed() {
    let faults: [fn() -> Fault; 3] = [
        || Fault::Garbage,
        || Fault::Huge(100 * 1024 * 1024),
        || Fault::Answer { status: 200, headers: vec![], body: r#"{"auth":{"client_token":""}}"#.into() },
    ];
    for fault in faults {
        let dev = vault();
        let ids = dev.approle("approle", "reports", role());
        dev.script(Matcher::login(), fault(), Times::Next(2));
        let mut bench = Bench::new(&dev);
        let settings = bench.approle(&ids);
        let mut identity = bench.identity(settings);
        until(&mut identity, |state| matches!(state, State::Down(error) if error.class() == Class::Nonsense))
            .await;
        until(&mut identity, |state| matches!(state, State::Live(_))).await;
        bench.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_to_a_stranger_is_not_followed_and_the_token_stays_here() {
    let (dev, stranger) = (vault(), vault());
    let (bench, mut identity) = started(&dev, role());
    let State::Live(session) = until(&mut identity, |state| matches!(state, State::Live(_))).await else {
        return;
    };
    dev.script(Matcher::any(), Fault::Redirect("http://203.0.113.9:8200".into()), Times::Always);
    let failed = bench.vault.call(&Account::Refresh, &session, &Request::read("secret/data/a")).await;
    let error = failed.err().unwrap();
    assert_eq!(error.class(), Class::Nonsense);
    assert!(error.to_string().contains("not in vault.addresses"), "{error}");
    assert_eq!(stranger.calls().len(), 0);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_redirect_to_another_address_of_the_config_is_followed_and_kept_to() {
    let (dev, active) = (vault(), vault());
    dev.standby(Some("http://127.0.0.2:8200"));
    let ids = active.approle("approle", "reports", role());
    let servers = [("http://127.0.0.1:8200", &dev), ("http://127.0.0.2:8200", &active)];
    let mut bench = Bench::with(&servers, claviger::vault::Budget::default());
    let settings = bench.approle(&ids);
    let mut identity = bench.identity(settings);
    until(&mut identity, |state| matches!(state, State::Live(_))).await;
    dev.forget_calls();
    active.wait_for_call(&Matcher::renew_self(), HOUR).await.unwrap();
    assert_eq!(dev.calls().len(), 0, "it stays with the address that answers");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_address_takes_over_from_a_sealed_one_and_gives_back_later() {
    let (first, second) = (vault(), vault());
    first.seal();
    let ids = second.approle("approle", "reports", role());
    let servers = [("http://127.0.0.1:8200", &first), ("http://127.0.0.2:8200", &second)];
    let mut bench = Bench::with(&servers, claviger::vault::Budget::default());
    let settings = bench.approle(&ids);
    let mut identity = bench.identity(settings);
    let State::Live(session) = until(&mut identity, |state| matches!(state, State::Live(_))).await else {
        return;
    };
    bench.vault.fail_back().await;
    assert!(bench.vault.call(&Account::Refresh, &session, &Request::read("secret/data/a")).await.is_ok());
    first.unseal();
    bench.vault.fail_back().await;
    first.forget_calls();
    let _ = bench.vault.call(&Account::Refresh, &session, &Request::read("secret/data/a")).await;
    assert_eq!(first.calls().len(), 1, "the first address is used again once it is active");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_exit_each_token_is_revoked_once() {
    let dev = vault();
    let (bench, mut identity) = started(&dev, role());
    drop(until(&mut identity, |state| matches!(state, State::Live(_))).await);
    bench.stop().await;
    assert_eq!(dev.calls_matching(&Matcher::path("auth/token/revoke-self")).len(), 1);
    assert_eq!(dev.tokens().iter().filter(|token| token.role.is_some()).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_somebody_else_made_is_used_and_left_alone() {
    let dev = vault();
    let mut bench = Bench::new(&dev);
    // With white space at its end, as an editor leaves it.
    let token_file = bench.file("token", &format!("{}\n", dev.root_token()));
    let settings = login::Settings {
        name: claviger::name::IdentityName::new("root").unwrap(),
        method: Method::TokenFile { token_file },
        revoke_on_exit: true,
    };
    let mut identity = bench.identity(settings);
    until(&mut identity, |state| matches!(state, State::Live(_))).await;
    sleep(24 * HOUR).await;
    bench.stop().await;
    let paths: Vec<_> = dev.calls().into_iter().map(|call| call.path).collect();
    assert_eq!(paths, ["auth/token/lookup-self"]);
}

#[tokio::test(start_paused = true)]
async fn a_wrapped_secret_id_is_unwrapped_once_and_used_for_every_login() {
    let dev = vault();
    let ids = dev.approle("approle", "reports", role().max_ttl(HOUR));
    let wrapping = dev.wrapped_secret_id("approle", "reports", HOUR).unwrap();
    let mut bench = Bench::new(&dev);
    let settings = wrapped(&bench, &ids.role_id, &wrapping);
    bench.identity(settings);
    dev.wait_for_calls(&Matcher::login(), 3, 4 * HOUR).await.unwrap();
    assert_eq!(dev.calls_matching(&Matcher::path("sys/wrapping/unwrap")).len(), 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_id_that_was_wrapped_elsewhere_is_refused_and_not_unwrapped() {
    let dev = vault();
    let ids = dev.approle("approle", "reports", role());
    let stolen = dev.wrapped(serde_json::json!({"secret_id": ids.secret_id}), "sys/wrapping/wrap", HOUR);
    let mut bench = Bench::new(&dev);
    let settings = wrapped(&bench, &ids.role_id, &stolen);
    let mut identity = bench.identity(settings);
    let down = until(&mut identity, |state| matches!(state, State::Down(_))).await;
    let State::Down(error) = down else { return };
    assert_eq!(error.class(), Class::Credential);
    assert!(error.to_string().contains("somebody may have unwrapped it before us"), "{error}");
    assert_eq!(dev.calls_matching(&Matcher::path("sys/wrapping/unwrap")).len(), 0);
    bench.stop().await;
}

fn wrapped(bench: &Bench, role_id: &str, wrapping: &str) -> login::Settings {
    let file = bench.file("wrapped", wrapping);
    login::Settings {
        name: claviger::name::IdentityName::new("reports").unwrap(),
        method: Method::AppRole {
            mount: "approle".into(),
            role_id_file: bench.file("role_id", role_id),
            secret_id: SecretId::Wrapped {
                file,
                creation_path: "auth/approle/role/reports/secret-id".into(),
            },
        },
        revoke_on_exit: true,
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_are_read_again_at_each_login() {
    let dev = vault();
    let ids = dev.approle("approle", "reports", role());
    let mut bench = Bench::new(&dev);
    let settings = bench.approle(&ids);
    bench.file("secret_id", "wrong");
    let mut identity = bench.identity(settings);
    until(&mut identity, |state| matches!(state, State::Down(_))).await;
    bench.file("secret_id", &ids.secret_id);
    until(&mut identity, |state| matches!(state, State::Live(_))).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_a_token_is_reported_for_the_audit() {
    let dev = vault();
    let (mut bench, _) = started(&dev, role());
    dev.wait_for_call(&Matcher::renew_self(), HOUR).await.unwrap();
    let login = bench.facts.recv().await.unwrap();
    assert_eq!((login.act, login.ttl, login.error.is_none()), (Act::Login, Some(HOUR), true));
    assert!(login.request_id.is_some());
    let renewal = bench.facts.recv().await.unwrap();
    assert_eq!((renewal.act, renewal.ttl), (Act::Renew, Some(HOUR)));
    let token = dev.tokens().into_iter().find(|token| token.role.is_some()).unwrap();
    assert!(!format!("{login:?}{renewal:?}").contains(&token.accessor));
    bench.stop().await;
}
