//! Credentials of a real PostgreSQL: they work, are renewed, and outlive a move to a new token by their grace.

use crate::{
    calls,
    rig::{Agent, Plan, until},
};
use lab::{Postgres, Vault};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);

/// A user and a password.
pub(crate) struct Login(String, String);

impl Login {
    pub(crate) fn of(held: &Value) -> Login {
        let field = |name: &str| held["data"][name].as_str().unwrap().to_owned();
        Login(field("username"), field("password"))
    }

    /// Whether PostgreSQL opens a session for it.
    pub(crate) fn works(&self, postgres: &Postgres) -> bool {
        match postgres.query_as(&self.0, &self.1, "select 1") {
            Ok(one) => one == "1",
            Err(error) => {
                let text = error.to_string();
                // The last one is said to a session that begins while its user ends.
                let said = ["password authentication failed", "not permitted to log in", "does not exist"];
                assert!(
                    said.iter().any(|part| text.contains(part)),
                    "asking PostgreSQL about {}: {text}",
                    self.0
                );
                false
            }
        }
    }
}

/// The one before, while its grace lasts.
fn previous(agent: &Agent) -> Option<Login> {
    let both = agent.ask("/secrets/orders-db?versions=current,previous").json();
    both.get("previous").filter(|held| !held.is_null()).map(Login::of)
}

#[test]
fn a_database_login_works_and_is_renewed_past_its_first_end() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    let path = postgres.vault_database(&vault, "app", Duration::from_secs(4), HOUR);
    plan.secret("orders-db", json!({"kind": "lease", "path": path}));
    let agent = plan.start();
    let value = agent.value("orders-db");
    assert_eq!((&value["kind"], &value["lease"]["renewable"]), (&json!("lease"), &json!(true)));
    let login = Login::of(&value);
    assert!(login.works(&postgres));
    let renewal = "sys/leases/renew";
    until("three renewals", || (calls::count(&audit, renewal) >= 3).then_some(()));
    // Three renewals come after more than 4 s; without them the user would be gone.
    let (made, renewals) = (&calls::at(&audit, "database/creds/app"), calls::at(&audit, renewal));
    assert_eq!(made.len(), 1);
    assert!(renewals[2].at - made[0].at > 4.0, "{made:?} {renewals:?}");
    assert!(login.works(&postgres));
    assert_eq!(Login::of(&agent.value("orders-db")).0, login.0);
    let renewed = agent.event("lease.renewed.v1", |_| true);
    assert_eq!((&renewed["outcome"], &renewed["resource"]["secret"]), (&json!("allow"), &json!("orders-db")));
}

#[test]
fn moving_to_a_new_token_never_cuts_what_a_workload_holds() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let audit = vault.audit_file();
    let mut plan = Plan::new(&vault);
    // The first renewal, after six to seven seconds, is cut by the maximum: a new login is due at once.
    plan.approle(&vault, json!({"token_ttl": "10s", "token_max_ttl": "14s"}));
    let path = postgres.vault_database(&vault, "app", Duration::from_secs(60), HOUR);
    plan.secret("orders-db", json!({"kind": "lease", "path": path, "grace": "3s"}));
    let agent = plan.start();
    let old = Login::of(&agent.value("orders-db"));
    let new = until("a login made with the new token", || {
        let held = agent.read("orders-db");
        assert_eq!(held.status, 200, "{held:?}");
        let login = Login::of(&held.json());
        assert!(login.works(&postgres), "whatever is handed out works");
        (login.0 != old.0).then_some(login)
    });
    assert_eq!(calls::logged_in(&audit, "auth/approle/login").len(), 2);
    // Asked in this order: what is still in its grace after the question must have worked at the question.
    let mut within_grace = 0;
    until("the end of the grace", || {
        let worked = old.works(&postgres);
        let in_grace = previous(&agent).is_some_and(|login| login.0 == old.0);
        assert!(worked || !in_grace, "cut after {within_grace} good logins");
        within_grace += u32::from(in_grace);
        (!in_grace).then_some(())
    });
    assert!(within_grace > 0);
    until("the old login's end", || (!old.works(&postgres)).then_some(()));
    assert!(new.works(&postgres), "the new one does not fall with the old token");
    let revoked = calls::at(&audit, "auth/token/revoke-self");
    assert_eq!(revoked[0].accessor, calls::logged_in(&audit, "auth/approle/login")[0]);
}

#[test]
fn a_lease_shorter_than_its_grace_is_kept_alive_through_the_grace() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let grace = Duration::from_secs(6);
    let mut plan = Plan::new(&vault);
    // The first renewal, after eight to ten seconds, is cut by the maximum: a new login is due at once.
    plan.approle(&vault, json!({"token_ttl": "14s", "token_max_ttl": "20s"}));
    let path = postgres.vault_database(&vault, "app", Duration::from_secs(5), HOUR);
    plan.secret("orders-db", json!({"kind": "lease", "path": path, "grace": "6s"}));
    let agent = plan.start();
    let old = Login::of(&agent.value("orders-db"));
    // The grace began after the last time that the old one was handed out as the current one.
    let mut began = Instant::now();
    until("a login made with the new token", || {
        let asked = Instant::now();
        let moved = Login::of(&agent.value("orders-db")).0 != old.0;
        if !moved {
            began = asked;
        }
        moved.then_some(())
    });
    let mut good = 0;
    until("the old login's end", || {
        let worked = old.works(&postgres);
        assert!(
            worked || began.elapsed() >= grace,
            "ended {:?} into its grace, after {good} good logins",
            began.elapsed()
        );
        good += u32::from(worked);
        (!worked).then_some(())
    });
}
