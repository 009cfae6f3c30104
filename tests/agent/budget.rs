//! Whatever Vault answers, the calls stay within the budget.

use crate::support::{
    Bench,
    bench::{grant, until},
};
use claviger::{
    keeper::{Kind, LeaseRequest},
    vault::{Budget, session::State},
};
use devvault::{DevVault, Fault, Matcher, RoleSettings, Times};
use proptest::prelude::*;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const BUDGET: Budget = Budget { calls_per_second: 5, burst: 10 };

/// What a server may do to a part of the calls.
#[derive(Debug, Clone)]
enum Behaviour {
    Status(u16, Option<u64>),
    Drop,
    LoseAnswer,
    Hang,
    Garbage,
    Seal,
    RevokeEverything,
    CutRenewals(u64),
    Well,
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        (
            prop::sample::select(vec![400u16, 403, 404, 412, 429, 472, 500, 502, 503]),
            prop::option::of(0u64..5)
        )
            .prop_map(|(status, wait)| Behaviour::Status(status, wait)),
        Just(Behaviour::Drop),
        Just(Behaviour::LoseAnswer),
        Just(Behaviour::Hang),
        Just(Behaviour::Garbage),
        Just(Behaviour::Seal),
        Just(Behaviour::RevokeEverything),
        (0u64..20).prop_map(Behaviour::CutRenewals),
        Just(Behaviour::Well),
    ]
}

/// Which calls it is done to.
fn victims() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["*", "auth/+/login", "auth/token/*", "sys/leases/*", "secret/*", "database/*"])
}

fn apply(dev: &DevVault, behaviour: &Behaviour, victims: &str) {
    let matcher = if victims == "*" { Matcher::any() } else { Matcher::path(victims) };
    let fault = match behaviour {
        Behaviour::Status(status, wait) => Fault::Answer {
            status: *status,
            headers: wait.iter().map(|wait| ("Retry-After".to_owned(), wait.to_string())).collect(),
            body: r#"{"errors":["permission denied"]}"#.into(),
        },
        Behaviour::Drop => Fault::Drop,
        Behaviour::LoseAnswer => Fault::LoseAnswer,
        Behaviour::Hang => Fault::Hang,
        Behaviour::Garbage => Fault::Garbage,
        Behaviour::Seal => return dev.seal(),
        Behaviour::RevokeEverything => {
            dev.revoke_role("reports");
            return;
        }
        Behaviour::CutRenewals(seconds) => return dev.truncate_renewals(Some(Duration::from_secs(*seconds))),
        Behaviour::Well => return,
    };
    dev.script(matcher, fault, Times::Always);
}

/// Never more than the burst and the rate's share in any span between two calls.
fn check_budget(dev: &DevVault) {
    let at: Vec<Instant> = dev.calls().iter().map(|call| call.at).collect();
    for (i, first) in at.iter().enumerate() {
        for (j, last) in at.iter().enumerate().skip(i) {
            let calls = (j - i + 1) as f64;
            let allowed = f64::from(BUDGET.burst)
                + f64::from(BUDGET.calls_per_second) * last.duration_since(*first).as_secs_f64();
            assert!(calls <= allowed + 1e-6, "{calls} calls within {:?}", last.duration_since(*first));
        }
    }
}

async fn live_through(phases: &[(Behaviour, &'static str, u64)], ttl: Duration) {
    let dev = DevVault::new();
    dev.mount("secret", devvault::Kind::KvV2);
    dev.mount("database", devvault::Kind::Database);
    dev.database_role("database", "orders", Duration::from_secs(30), Duration::from_secs(90));
    let all: &[&str] = &["create", "read", "update"];
    dev.policy("reports", &[("secret/*", all), ("database/*", all), ("auth/token/create", all)]);
    let ids =
        dev.approle("approle", "reports", RoleSettings::policies(&["reports"]).ttl(ttl).max_ttl(ttl * 3));
    let mut bench = Bench::with(&[("http://127.0.0.1:8200", &dev)], BUDGET);
    let settings = bench.approle(&ids);
    let identity = bench.identity(settings);
    for secret in 0..8 {
        dev.put_kv(&format!("secret/{secret}"), &[("k", "v")]);
        let refresh = Duration::from_secs(5);
        let kind = Kind::Kv {
            path: format!("secret/{secret}"),
            field: None,
            refresh,
            max_stale: refresh * 2,
            version: None,
        };
        bench.keep(&identity, &format!("kv-{secret}"), kind);
    }
    for lease in 0..3 {
        let kind = Kind::Lease { path: "database/creds/orders".into(), request: LeaseRequest::Get };
        bench.keep(&identity, &format!("lease-{lease}"), kind);
    }
    for (behaviour, victims, seconds) in phases {
        apply(&dev, behaviour, victims);
        sleep(Duration::from_secs(*seconds)).await;
        dev.clear_scripts();
        dev.unseal();
        dev.truncate_renewals(None);
    }
    check_budget(&dev);
    // It recovers by itself once the server is well again.
    let recovered = Matcher::path("secret/*").status(200);
    let before = dev.calls_matching(&recovered).len();
    dev.wait_for_calls(&recovered, before + 8, Duration::from_secs(600)).await.unwrap();
    check_budget(&dev);
    bench.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn calls_stay_within_the_budget_whatever_the_server_does(
        phases in prop::collection::vec((behaviour(), victims(), 1u64..120), 1..6),
        ttl in 2u64..120,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(live_through(&phases, Duration::from_secs(ttl)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_asks_without_end_cannot_starve_renewals() {
    let dev = DevVault::new();
    dev.mount("secret", devvault::Kind::KvV2);
    dev.policy("reports", &[("secret/*", &["read"])]);
    let ttl = Duration::from_secs(60);
    let ids = dev.approle("approle", "reports", RoleSettings::policies(&["reports"]).ttl(ttl));
    let mut bench = Bench::with(&[("http://127.0.0.1:8200", &dev)], BUDGET);
    let settings = bench.approle(&ids);
    let mut identity = bench.identity(settings);
    drop(until(&mut identity, |state| matches!(state, State::Live(_))).await);
    let kind = Kind::Kv {
        path: "secret/nothing".into(),
        field: None,
        refresh: Duration::from_secs(60),
        max_stale: Duration::from_secs(600),
        version: None,
    };
    let (_, keeper) = bench.keep_for(&identity, "nothing", kind);
    let grant = grant("nothing");
    let end = Instant::now() + 10 * ttl;
    while Instant::now() < end {
        assert!(keeper.fetch(&grant).is_err());
        sleep(Duration::from_millis(10)).await;
    }
    let renewals = dev.calls_matching(&Matcher::renew_self()).len();
    assert!(renewals >= 14, "{renewals} renewals in ten lifetimes");
    let reads = dev.calls_matching(&Matcher::path("secret/*")).len();
    // It waits a second at least between two tries; of the half minute's pause after a refusal it is spared the rest.
    assert!((100..=1201).contains(&reads), "{reads} reads in ten minutes");
    check_budget(&dev);
    bench.stop().await;
}
