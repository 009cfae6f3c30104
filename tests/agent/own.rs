//! A token for each process: made when it first asks, and gone as soon as the process is.

use crate::support::{
    Bench,
    bench::{grant, until},
    other::Other,
};
use claviger::{
    approval::Grant,
    crypto,
    keeper::{Error, Keeper, Kind, Served, fact::Act, own},
    peer::process::{self, Support},
    vault::{
        Budget,
        error::Class,
        limiter::WORKLOAD_BURST,
        session::{Identity, State},
    },
};
use devvault::{DevVault, Fault, Matcher, RoleSettings, Times};
use std::{future::Future, time::Duration};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const CREATE: &str = "auth/token/create";
const REVOKE: &str = "auth/token/revoke-self";

/// Whether other processes can be told apart here; says past the harness's capture why not.
fn can_tell_apart() -> bool {
    use std::io::Write as _;
    let given = *process::support() == Support::Given;
    if !given {
        let _ = std::io::stderr().write_all(b"skipped: needs a kernel that can prove level process\n");
    }
    given
}

fn kind(ttl: Duration) -> Kind {
    Kind::Token {
        policies: vec!["ci-read".into()],
        ttl,
        uses: 0,
        role: None,
        per_process: true,
        no_default_policy: false,
    }
}

fn vault() -> DevVault {
    let dev = DevVault::new();
    dev.policy("reports", &[(CREATE, &["create", "update"])]);
    dev.policy("ci-read", &[("secret/data/ci", &["read"])]);
    dev
}

async fn started(dev: &DevVault, role: RoleSettings, budget: Budget) -> (Bench, Identity) {
    let ids = dev.approle("approle", "reports", role);
    let mut bench = Bench::with(&[("http://127.0.0.1:8200", dev)], budget);
    let settings = bench.approle(&ids);
    let mut identity = bench.identity(settings);
    drop(until(&mut identity, |state| matches!(state, State::Live(_))).await);
    (bench, identity)
}

fn role() -> RoleSettings {
    RoleSettings::policies(&["reports", "ci-read"]).ttl(HOUR)
}

/// What a read gets, as the path of a request asks for it.
async fn read(keeper: &Keeper, grant: &Grant) -> Result<Served, Error> {
    match keeper.patience(grant) {
        Some(limit) => keeper.await_newer(grant, None, limit).await,
        None => keeper.fetch(grant),
    }
}

/// The hash by which events name the token.
fn id(served: &Served) -> String {
    served.held.value.lease().unwrap().id_hash.clone().unwrap()
}

/// The children that live in Vault, by that hash.
fn children(dev: &DevVault) -> Vec<String> {
    let hash = |accessor: String| crypto::hex(&crypto::sha256(accessor.as_bytes()));
    let tokens = dev.tokens().into_iter().filter(|token| token.parent.is_some());
    let mut found: Vec<_> = tokens.map(|token| hash(token.accessor)).collect();
    found.sort();
    found
}

fn sorted<const N: usize>(mut ids: [String; N]) -> [String; N] {
    ids.sort();
    ids
}

async fn calls(dev: &DevVault, path: &str, count: usize) {
    dev.wait_for_calls(&Matcher::path(path).status(204), count, HOUR).await.unwrap();
}

/// A test of one keeper of a token of an hour.
async fn with<F: Future<Output = Bench>>(dev: &DevVault, test: impl FnOnce(Bench, Identity, Keeper) -> F) {
    if !can_tell_apart() {
        return;
    }
    let (mut bench, identity) = started(dev, role(), Budget::default()).await;
    let (keeper, _) = bench.keep_own(&identity, "ci", kind(15 * MINUTE));
    test(bench, identity, keeper).await.stop().await;
    assert_eq!(dev.tokens().len(), 0, "{:?}", dev.tokens());
}

#[tokio::test(start_paused = true)]
async fn two_processes_get_a_token_each_and_keep_it() {
    let dev = vault();
    with(&dev, async |bench, _, keeper| {
        sleep(HOUR).await;
        assert_eq!(children(&dev), [""; 0], "nothing is made before somebody asks");
        let (one, two) = (Other::start(), Other::start());
        let (one, two) = (one.grant("ci"), two.grant("ci"));
        assert!(keeper.fetch(&one).is_err(), "what does not wait makes nothing");
        let (first, second) = (read(&keeper, &one).await.unwrap(), read(&keeper, &two).await.unwrap());
        assert_ne!(first.held.value.content(), second.held.value.content());
        assert_ne!(first.held.value.tag(), second.held.value.tag(), "one is never taken for the other");
        assert_eq!(children(&dev), sorted([id(&first), id(&second)]));
        assert_eq!(keeper.processes()[0].1, 2);
        assert!(keeper.shelves().is_empty(), "readiness does not wait for it");
        // Renewed, and in hand at once.
        sleep(HOUR / 2).await;
        assert!(keeper.patience(&one).is_none());
        assert_eq!(id(&keeper.fetch(&one).unwrap()), id(&first));
        assert_eq!(children(&dev), sorted([id(&first), id(&second)]));
        bench
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_process_ends_its_token_and_no_other() {
    let dev = vault();
    with(&dev, async |mut bench, _, keeper| {
        let (mut one, two) = (Other::start(), Other::start());
        let first = read(&keeper, &one.grant("ci")).await.unwrap();
        let second = read(&keeper, &two.grant("ci")).await.unwrap();
        one.kill();
        calls(&dev, REVOKE, 1).await;
        assert_eq!(children(&dev), [id(&second)]);
        assert_eq!(keeper.processes()[0].1, 1);
        assert_eq!(id(&keeper.fetch(&two.grant("ci")).unwrap()), id(&second));
        let fact = bench.leases.recv().await.unwrap();
        assert_eq!((fact.act, fact.lease_id_hash, fact.kind), (Act::Revoke, Some(id(&first)), "token"));
        assert!(fact.error.is_none(), "{:?}", fact.error);
        bench
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_ends_no_token_as_long_as_its_process_lives() {
    let dev = vault();
    with(&dev, async |bench, _, keeper| {
        let mut other = Other::start();
        let first = read(&keeper, &other.grant("ci")).await.unwrap();
        other.close_a_connection();
        sleep(2 * HOUR).await;
        assert_eq!(children(&dev), [id(&first)]);
        assert_eq!(id(&keeper.fetch(&other.grant("ci")).unwrap()), id(&first));
        // Nobody is connected any more when it ends.
        other.close_a_connection();
        other.kill();
        calls(&dev, REVOKE, 1).await;
        assert_eq!(children(&dev), [""; 0]);
        bench
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_while_its_token_is_made_leaves_none_behind() {
    let dev = vault();
    with(&dev, async |bench, _, keeper| {
        dev.script(Matcher::path(CREATE), Fault::Delay(5 * SECOND), Times::Always);
        let mut other = Other::start();
        assert!(keeper.await_newer(&other.grant("ci"), None, SECOND).await.is_err(), "not there yet");
        other.kill();
        sleep(2 * SECOND).await;
        assert_eq!(dev.calls_matching(&Matcher::path(CREATE))[0].status, None, "Vault is at it");
        calls(&dev, REVOKE, 1).await;
        assert_eq!((children(&dev), keeper.processes()[0].1), (vec![], 0));
        bench
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_process_ends_while_vault_is_away_is_revoked_as_soon_as_vault_is_back() {
    let dev = vault();
    with(&dev, async |bench, _, keeper| {
        let mut other = Other::start();
        read(&keeper, &other.grant("ci")).await.unwrap();
        dev.script(Matcher::path(REVOKE), Fault::Drop, Times::Next(5));
        other.kill();
        calls(&dev, REVOKE, 1).await;
        assert_eq!(children(&dev), [""; 0]);
        assert_eq!(dev.calls_matching(&Matcher::path(REVOKE)).len(), 6);
        bench
    })
    .await;
}

/// Of the two ways to revoke it, either is enough; with none, the record and the log say so, and it ends by itself.
#[tokio::test(start_paused = true)]
async fn a_token_that_may_not_revoke_itself_is_revoked_by_its_identity_if_that_may() {
    const BY_ACCESSOR: &str = "auth/token/revoke-accessor";
    for (may, left, outcome) in [(true, 0, None), (false, 1, Some(Class::Denied))] {
        let dev = vault();
        let all: &[&str] = &["create", "update"];
        if may {
            dev.policy("reports", &[(CREATE, all), (BY_ACCESSOR, all)]);
        }
        with(&dev, async |mut bench, identity, _| {
            let Kind::Token { policies, ttl, uses, role, per_process, .. } = kind(15 * MINUTE) else {
                panic!()
            };
            let kind = Kind::Token { policies, ttl, uses, role, per_process, no_default_policy: true };
            let (keeper, _) = bench.keep_own(&identity, "bare", kind);
            let mut other = Other::start();
            read(&keeper, &other.grant("bare")).await.unwrap();
            other.kill();
            dev.wait_for_call(&Matcher::path(BY_ACCESSOR), HOUR).await.unwrap();
            let fact = bench.leases.recv().await.unwrap();
            assert_eq!((fact.act, fact.error.map(|error| error.class())), (Act::Revoke, outcome));
            assert_eq!((children(&dev).len(), dev.calls_matching(&Matcher::path(REVOKE)).len()), (left, 1));
            bench
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_connection_is_cut_loses_its_token_and_gets_a_new_one_if_it_asks_again() {
    let dev = vault();
    with(&dev, async |bench, _, keeper| {
        let other = Other::start();
        let grant = other.grant("ci");
        let first = read(&keeper, &grant).await.unwrap();
        keeper.disown(grant.permit().process().unwrap());
        assert!(keeper.fetch(&grant).is_err());
        calls(&dev, REVOKE, 1).await;
        let second = read(&keeper, &grant).await.unwrap();
        assert_ne!(id(&first), id(&second));
        assert_eq!(children(&dev), [id(&second)]);
        bench
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_known_by_its_user_only_gets_none() {
    let dev = vault();
    with(&dev, async |bench, _, keeper| {
        for refused in [read(&keeper, &grant("ci")).await, keeper.fetch(&grant("ci"))] {
            assert!(matches!(refused, Err(Error::NoProcess(_))), "{refused:?}");
        }
        assert_eq!(dev.calls_matching(&Matcher::path(CREATE)).len(), 0);
        bench
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_vault_refuses_is_said_at_once_and_nothing_is_made_that_nobody_asked_for_again() {
    let dev = vault();
    with(&dev, async |bench, _, keeper| {
        dev.script(Matcher::path(CREATE), Fault::error(503, "busy"), Times::Next(1));
        let other = Other::start();
        let grant = other.grant("ci");
        let begun = Instant::now();
        let refused = read(&keeper, &grant).await.unwrap_err();
        assert_eq!((refused.class(), begun.elapsed()), (Some(Class::Away), Duration::ZERO));
        sleep(HOUR / 2).await;
        assert_eq!(dev.calls_matching(&Matcher::path(CREATE)).len(), 1);
        assert!(read(&keeper, &grant).await.is_ok());
        bench
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_a_slow_vault_and_not_for_ever() {
    let dev = vault();
    with(&dev, async |bench, _, keeper| {
        dev.script(Matcher::path(CREATE), Fault::Delay(7 * SECOND), Times::Next(1));
        let (one, two) = (Other::start(), Other::start());
        assert!(read(&keeper, &one.grant("ci")).await.is_ok());
        dev.script(Matcher::path(CREATE), Fault::Hang, Times::Next(1));
        let begun = Instant::now();
        assert!(read(&keeper, &two.grant("ci")).await.is_err());
        assert_eq!(begun.elapsed(), own::PATIENCE);
        bench
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_login_brings_each_process_a_new_token_and_the_old_one_keeps_its_grace() {
    if !can_tell_apart() {
        return;
    }
    let dev = vault();
    let (mut bench, identity) = started(&dev, role().max_ttl(2 * HOUR), Budget::default()).await;
    let (keeper, _) = bench.keep_own(&identity, "ci", kind(15 * MINUTE));
    let mut other = Other::start();
    let first = read(&keeper, &other.grant("ci")).await.unwrap();
    let tag = first.held.value.tag();
    let second = keeper.await_newer(&other.grant("ci"), Some(tag), 3 * HOUR).await.unwrap();
    assert_eq!(second.previous.as_ref().unwrap().value.tag(), tag);
    assert_eq!(children(&dev), sorted([id(&first), id(&second)]));
    // Both are its own, and go with it; the old login, which others may need, does not have to end for that.
    other.kill();
    calls(&dev, REVOKE, 2).await;
    assert_eq!(children(&dev), [""; 0]);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_exit_the_tokens_of_all_processes_fall_with_one_revocation() {
    if !can_tell_apart() {
        return;
    }
    let dev = vault();
    let (mut bench, identity) = started(&dev, role(), Budget::default()).await;
    let (keeper, _) = bench.keep_own(&identity, "ci", kind(15 * MINUTE));
    let others = [Other::start(), Other::start(), Other::start()];
    for other in &others {
        read(&keeper, &other.grant("ci")).await.unwrap();
    }
    bench.stop().await;
    assert_eq!(dev.tokens().len(), 0);
    assert_eq!(dev.calls_matching(&Matcher::path(REVOKE)).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_leaves_the_config_takes_the_tokens_of_all_processes_with_it() {
    if !can_tell_apart() {
        return;
    }
    let dev = vault();
    let (mut bench, identity) = started(&dev, role(), Budget::default()).await;
    let (keeper, stop) = bench.keep_own(&identity, "ci", kind(15 * MINUTE));
    let others = [Other::start(), Other::start()];
    for other in &others {
        read(&keeper, &other.grant("ci")).await.unwrap();
    }
    stop.cancel();
    calls(&dev, REVOKE, 2).await;
    assert_eq!(children(&dev), [""; 0]);
    let late = Other::start();
    let refused = read(&keeper, &late.grant("ci")).await;
    assert!(matches!(refused, Err(Error::Unknown(_))), "nothing is made any more: {refused:?}");
    assert_eq!(dev.calls_matching(&Matcher::path(CREATE)).len(), 2);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_process_too_many_gets_none_until_another_one_ends() {
    if !can_tell_apart() {
        return;
    }
    let dev = vault();
    let (mut bench, identity) = started(&dev, role(), Budget::default()).await;
    // So short that there is room for two.
    let (keeper, _) = bench.keep_own(&identity, "ci", kind(2 * SECOND));
    let (mut one, two, three) = (Other::start(), Other::start(), Other::start());
    read(&keeper, &one.grant("ci")).await.unwrap();
    read(&keeper, &two.grant("ci")).await.unwrap();
    let refused = read(&keeper, &three.grant("ci")).await.unwrap_err();
    let text = "2 processes have a token of ci of their own, and there may be no more";
    assert_eq!(refused.to_string(), text);
    one.kill();
    calls(&dev, REVOKE, 1).await;
    assert!(read(&keeper, &three.grant("ci")).await.is_ok());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_workload_whose_processes_come_and_go_may_cause_so_many_calls_and_no_more() {
    if !can_tell_apart() {
        return;
    }
    let dev = vault();
    let plenty = Budget { calls_per_second: 1000, burst: 1000 };
    let (mut bench, identity) = started(&dev, role(), plenty).await;
    let (keeper, _) = bench.keep_own(&identity, "ci", kind(15 * MINUTE));
    let other = Other::start();
    let grant = other.grant("ci");
    let mut made = 0;
    let refused = loop {
        match read(&keeper, &grant).await {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
        keeper.disown(grant.permit().process().unwrap());
    };
    assert_eq!((made, refused.class()), (WORKLOAD_BURST, Some(Class::Budget)));
    sleep(refused.retry_after()).await;
    assert!(read(&keeper, &grant).await.is_ok());
    bench.stop().await;
    assert_eq!(dev.tokens().len(), 0, "{:?}", dev.tokens());
}
