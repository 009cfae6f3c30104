//! A static role of a real PostgreSQL, rotated on our schedule while 200 queries a second run through what is handed out.
//!
//! It has one user with one password, so that who read it before a change and logs in after it is refused: that much is inherent,
//! and nothing more may fail. Sessions that are open stay open.

use crate::{
    rig::{Agent, Plan, until},
    rotation::{generate, plan},
};
use lab::{Postgres, Session, Vault};
use serde_json::{Value, json};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// So many clients, each with a session that is open and a query each so often: 200 a second in all.
const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(20);
/// After as many a client opens another session, as a pool does.
const QUERIES: usize = 20;

/// A session by what is handed out; `None`: it is refused.
fn open(postgres: &Postgres, held: &Value) -> Option<Session> {
    let field = |name: &str| held["data"][name].as_str().unwrap();
    Session::open(postgres, field("username"), field("password"))
}

/// How it went.
#[derive(Debug, Default)]
struct Count {
    queries: usize,
    sessions: usize,
    /// Of each login that was refused: how long until one was not.
    refused: Vec<Duration>,
    /// Of these: who asked again was given the same once more, and waited.
    waited: usize,
}

/// One client: it reads what is handed out, waits for the next, and has a session by the newest.
struct Client<'a> {
    agent: &'a Agent,
    postgres: &'a Postgres,
    newest: Mutex<Value>,
    stop: &'a AtomicBool,
}

impl Client<'_> {
    fn run(&self) -> Count {
        thread::scope(|scope| {
            scope.spawn(|| self.wait());
            self.work()
        })
    }

    fn newest(&self) -> Value {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Learns of each new value as soon as it is there.
    fn wait(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let tag = self.newest()["tag"].as_str().unwrap().to_owned();
            if let Some(held) = read(self.agent, &format!("?wait=2s&since={tag}")) {
                *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = held;
            }
        }
    }

    fn work(&self) -> Count {
        let (mut count, mut held) = (Count::default(), self.newest());
        while !self.stop.load(Ordering::Relaxed) {
            let mut session = self.open(&mut held, &mut count);
            for _ in 0..QUERIES {
                let begun = Instant::now();
                assert!(session.query(), "a session that is open stays open");
                count.queries += 1;
                if self.newest()["tag"] != held["tag"] {
                    break;
                }
                rest(PACE.saturating_sub(begun.elapsed()));
            }
            // The next login is with what is handed out now.
            held = until("a value", || read(self.agent, ""));
        }
        count
    }

    /// A session by `held`, or by the value that came after it.
    fn open(&self, held: &mut Value, count: &mut Count) -> Session {
        let mut since = None;
        loop {
            if let Some(session) = open(self.postgres, held) {
                count.sessions += 1;
                count.refused.extend(since.map(|since: Instant| since.elapsed()));
                return session;
            }
            since = since.or(Some(Instant::now()));
            let next = until("a value", || read(self.agent, ""));
            if next["tag"] == held["tag"] {
                // It was refused, so that there is, or will be, another one: it is waited for, without end.
                count.waited += 1;
                *held = next_after(self.agent, held);
            } else {
                *held = next;
            }
        }
    }
}

/// What is handed out, with its tag.
fn read(agent: &Agent, query: &str) -> Option<Value> {
    let reply = agent.read(&format!("app-db{query}"));
    let tag = (reply.status == 200).then(|| reply.header("etag").unwrap().trim_matches('"').to_owned())?;
    let mut held = reply.json();
    held["tag"] = json!(tag);
    Some(held)
}

/// What is handed out after `held`.
fn next_after(agent: &Agent, held: &Value) -> Value {
    let query = format!("?wait=10s&since={}", held["tag"].as_str().unwrap());
    until("the next value", || read(agent, &query).filter(|next| next["tag"] != held["tag"]))
}

#[expect(clippy::disallowed_methods, reason = "the pace of the load; nothing is asserted about it")]
fn rest(time: Duration) {
    thread::sleep(time);
}

fn static_role(vault: &Vault, postgres: &Postgres) -> Plan {
    let root = vault.root();
    postgres.vault_database(vault, "unused", Duration::from_secs(60), Duration::from_secs(60));
    postgres.query("create role app login password 'first'").unwrap();
    let role = json!({"db_name": "postgres", "username": "app", "rotation_period": "24h"});
    root.post("database/static-roles/app", &role).expect_success();
    let mut rotation = generate();
    for key in ["field", "length", "grace"] {
        rotation.as_object_mut().unwrap().remove(key);
    }
    rotation["kind"] = json!("trigger");
    rotation["path"] = json!("database/rotate-role/app");
    let mut plan = plan(vault, rotation);
    plan.secret("app-db", json!({"kind": "lease", "path": "database/static-creds/app"}));
    plan
}

/// Rotates `rounds` times under load.
fn rotate(rounds: usize) -> Option<(Count, usize)> {
    let (vault, postgres) = (Vault::start()?, Postgres::start()?);
    let agent = static_role(&vault, &postgres).start();
    let first = until("a first value", || read(&agent, ""));
    assert_eq!(
        (&first["kind"], &first["lease"], &first["expires_at"]),
        (&json!("lease"), &Value::Null, &Value::Null)
    );
    let stop = AtomicBool::new(false);
    let all = thread::scope(|scope| {
        // Also where something below panics: nobody works on without end.
        let _ended = Ended(&stop);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (agent, postgres, stop, newest) = (&agent, &postgres, &stop, Mutex::new(first.clone()));
                scope.spawn(move || Client { agent, postgres, newest, stop }.run())
            })
            .collect();
        let mut newest = first.clone();
        for _ in 0..rounds {
            newest = next_after(&agent, &newest);
            let ended = clients.iter().any(thread::ScopedJoinHandle::is_finished);
            assert!(!ended, "a client has ended");
        }
        stop.store(true, Ordering::Relaxed);
        let counts: Vec<Count> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        counts.into_iter().fold(Count::default(), |mut all, one| {
            all.queries += one.queries;
            all.sessions += one.sessions;
            all.waited += one.waited;
            all.refused.extend(one.refused);
            all
        })
    });
    let last = until("the last value", || read(&agent, ""));
    assert!(open(&postgres, &last).is_some(), "what is handed out now works");
    assert!(open(&postgres, &first).is_none(), "its password is another one now");
    let both = agent.ask("/secrets/app-db?versions=current,previous").json();
    assert!(both["previous"].is_null(), "a password that was changed is not handed out: {both}");
    let rotations = agent.events().iter().filter(|event| event["type"] == "rotation.promoted.v1").count();
    // Each client can be refused once for each change: then it has the next one.
    assert!(all.refused.len() <= CLIENTS * (rotations + 1), "{all:?}");
    let stopped = agent.stop();
    assert!(stopped.events("rotation.failed.v1").is_empty(), "{:?}", stopped.events("rotation.failed.v1"));
    Some((all, rotations))
}

/// Ends the clients with the test.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_static_role_is_rotated_on_our_schedule_while_logins_go_on() {
    let Some((all, rotations)) = rotate(2) else { return };
    assert!(rotations >= 2 && all.sessions > CLIENTS && all.queries > all.sessions, "{all:?}");
}

/// Prints what was refused, and for how long.
#[test]
#[ignore = "long: sixty rotations, four seconds apart, under 200 queries a second"]
#[expect(clippy::print_stdout, reason = "it measures")]
fn a_static_role_is_rotated_sixty_times_under_two_hundred_queries_a_second() {
    let begun = Instant::now();
    let Some((mut all, rotations)) = rotate(60) else { return };
    let rate = all.queries as f64 / begun.elapsed().as_secs_f64();
    all.refused.sort_unstable();
    let (refused, sessions) = (all.refused.len(), all.sessions);
    println!("{rotations} rotations, {} queries ({rate:.0}/s), none failed", all.queries);
    println!(
        "{sessions} logins, {refused} refused at the moment of a change, {} of them given the same once more",
        all.waited
    );
    if let Some(most) = all.refused.last() {
        println!("from a refusal to the login: p50 {:.1?}, most {most:.1?}", all.refused[refused / 2]);
    }
}
