//! Answers that are given again: to whom, how long, and what ends that.

use crate::{
    rig::{Plan, until},
    scene::{Said, Scene, ask, make_token, say},
};
use lab::{Postgres, Vault};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Whether its answer came out of the cache; `None` if the cache was not asked.
fn hit(said: &Said) -> Option<bool> {
    assert_eq!(said.status, 200, "{said:?}");
    let head = said.raw.split("\r\n\r\n").next().unwrap();
    assert_eq!(head.contains("x-cache: HIT"), head.contains("age: "), "{head}");
    if head.contains("x-cache: HIT") { Some(true) } else { head.contains("x-cache: MISS").then_some(false) }
}

fn lease(said: &Said) -> String {
    said.json()["lease_id"].as_str().unwrap().to_owned()
}

/// A process that asks for these paths, one answer a line, and then lives on.
fn asker(socket: &Path, paths: &[&str]) -> (Child, Vec<Value>) {
    const ASK: &str = "import http.client, socket, sys
for path in sys.argv[2:]:
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    c = http.client.HTTPConnection('x')
    c.sock = s
    c.request('GET', '/v1/' + path)
    print(c.getresponse().read().decode().strip(), flush=True)
sys.stdin.read()";
    let mut child = Command::new("python3")
        .args(["-c", ASK])
        .arg(socket)
        .args(paths)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.take(paths.len()).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    (child, said)
}

#[test]
fn a_lease_is_shared_by_the_processes_of_a_workload_until_the_last_of_them_ends() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let path = postgres.vault_database(&vault, "app", HOUR, HOUR);
    let scene = Scene::of(
        &vault,
        json!([{"name": "db", "vault": {"paths": ["database/creds/app"], "cache": "leases"}}]),
    );
    // One lease that only the other process has, and one that both have.
    let alone = format!("{path}?only=theirs");
    let (mut other, theirs) = asker(&scene.agent.socket(), &[&alone, &path]);
    let ours = scene.read(&path);
    assert_eq!((hit(&ours), lease(&ours)), (Some(true), theirs[1]["lease_id"].as_str().unwrap().to_owned()));
    assert_eq!(ours.json()["data"], theirs[1]["data"]);
    let left = ours.json()["lease_duration"].as_u64().unwrap();
    assert!((3500..=3600).contains(&left), "{left}");
    other.kill().unwrap();
    other.wait().unwrap();
    let revoked = scene.agent.event("lease.revoked.v1", |_| true);
    assert_eq!(revoked["outcome"], "allow", "{revoked}");
    let again = scene.read(&path);
    assert_eq!((hit(&again), lease(&again)), (Some(true), lease(&ours)));
    let works = |made: &Value| {
        let field = |name: &str| made["data"][name].as_str().unwrap();
        postgres.query_as(field("username"), field("password"), "select 1").is_ok()
    };
    assert!(works(&again.json()) && !works(&theirs[0]));
    // What the workload ends itself is not given again; a renewal is never held.
    let named = json!({"lease_id": lease(&ours)}).to_string();
    for _ in 0..2 {
        assert_eq!(hit(&scene.ask("PUT", "sys/leases/renew", &[], &named)), None);
    }
    assert_eq!(scene.ask("PUT", "sys/leases/revoke", &[], &named).status, 204);
    let fresh = scene.read(&path);
    assert_eq!(hit(&fresh), Some(false));
    assert_ne!(lease(&fresh), lease(&ours));
    let seen = scene.agent.event("vault.called.v1", |event| event["cache"]["hit"] == true);
    assert_eq!(seen["resource"]["lease_id_hash"].as_str().map(str::len), Some(64), "{seen}");
}

#[test]
fn the_same_request_is_one_whatever_its_headers_and_the_order_of_its_parameters() {
    let Some(vault) = Vault::start() else { return };
    let audit = vault.audit_file();
    let scene = Scene::of(
        &vault,
        json!([{"name": "children", "vault": {"tokens": {"policies": ["default"]}, "cache": "leases"}}]),
    );
    let make = |query: &str, headers: &[&str], body: &str| {
        scene.ask("POST", &format!("auth/token/create{query}"), headers, body)
    };
    let first =
        make("", &["Traceparent: 00-1", "User-Agent: a"], r#"{"ttl": "5m", "meta": {"a": "1", "b": "2"}}"#);
    let token = |said: &Said| said.json()["auth"]["client_token"].as_str().unwrap().to_owned();
    assert_eq!(hit(&first), Some(false));
    for (headers, body) in [
        (
            &["Traceparent: 00-2", "User-Agent: b", "X-Vault-Token: x"][..],
            r#"{"meta": {"b": "2", "a": "1"}, "ttl": 300}"#,
        ),
        (&[], r#"{"ttl": "300s", "policies": ["default"], "meta": {"a": "1", "b": "2"}}"#),
    ] {
        let said = make("", headers, body);
        assert_eq!((hit(&said), token(&said)), (Some(true), token(&first)));
        assert!(said.json()["auth"]["lease_duration"].as_u64().unwrap() <= 300, "{said:?}");
    }
    let other = make("", &[], r#"{"ttl": "4m"}"#);
    assert_eq!(hit(&other), Some(false));
    assert_ne!(token(&other), token(&first));
    // One more made the token of the scene.
    assert_eq!(audit.calls("auth/token/create"), 3);
    // No intent of what was not sent.
    let kinds: Vec<Value> = scene.events(6).iter().map(|event| event["type"].clone()).collect();
    let [intent, result, called] = ["vault.intent.v1", "vault.result.v1", "vault.called.v1"];
    assert_eq!(kinds, [intent, result, called, called, intent, result]);
}

#[test]
fn one_request_goes_to_vault_for_all_who_ask_at_once() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let path = postgres.vault_database(&vault, "app", HOUR, HOUR);
    let audit = vault.audit_file();
    let scene = Scene::of(
        &vault,
        json!([{"name": "db", "vault": {"paths": ["database/creds/app"], "cache": "leases"}}]),
    );
    vault.pause();
    let socket = scene.agent.socket();
    let leases: Vec<String> = thread::scope(|scope| {
        let askers: Vec<_> =
            (0..16).map(|_| scope.spawn(|| lease(&ask(&socket, "GET", &path, &[], "")))).collect();
        until("all of them", || {
            let text = scene.agent.health("/metrics").text;
            text.contains("claviger_connections{workload=\"job\"} 16").then_some(())
        });
        vault.resume();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    assert!(leases.iter().all(|lease| *lease == leases[0]), "{leases:?}");
    assert_eq!(audit.calls(&path), 1);
    let text = scene.agent.health("/metrics").text;
    for line in
        ["hits_total{workload=\"job\"} 15", "misses_total{workload=\"job\"} 1", "entries{workload=\"job\"} 1"]
    {
        assert!(text.contains(&format!("claviger_cache_{line}")), "{line}: {text}");
    }
}

#[test]
fn a_read_is_held_until_the_workload_writes_there_or_its_identity_logs_in_again() {
    let Some(vault) = Vault::start() else { return };
    let mut plan = Plan::new(&vault);
    plan.approle(&vault, json!({"token_ttl": "10m"}));
    make_token(&vault);
    vault.root().post("auth/approle/role/app", &json!({"token_policies": ["anything"]})).expect_success();
    let write =
        |text: &str| vault.root().post("secret/data/a", &json!({"data": {"k": text}})).expect_success();
    write("one");
    plan.config["workloads"]["job"]["rules"] = json!([
        {"name": "held", "vault": {"paths": ["secret/data/a"], "cache": "kv", "cache_for": "1h"}},
        {"name": "tree", "vault": {"paths": ["secret/data/+"], "methods": ["GET", "PUT"]}},
    ]);
    let agent = plan.start();
    let read = |path: &str| ask(&agent.socket(), "GET", path, &[], "");
    until("a token", || (read("secret/data/a").status == 200).then_some(()));
    let value = |said: &Said| said.json()["data"]["data"]["k"].as_str().unwrap().to_owned();
    write("two");
    let held = read("secret/data/a");
    assert_eq!((hit(&held), value(&held).as_str()), (Some(true), "one"));
    assert_eq!(hit(&read("secret/data/a?version=2")), Some(false));
    let wrote = ask(&agent.socket(), "PUT", "secret/data/b", &[], r#"{"data": {"k": "v"}}"#);
    assert_eq!(wrote.status, 200, "{wrote:?}");
    let fresh = read("secret/data/a");
    assert_eq!((hit(&fresh), value(&fresh).as_str()), (Some(false), "two"));
    assert_eq!(hit(&read("secret/data/a")), Some(true));
    assert_eq!(hit(&read("secret/data/b")), None);
    let accessors = vault.root().list("auth/token/accessors").expect_success();
    for accessor in accessors["data"]["keys"].as_array().unwrap() {
        let found = vault.root().post("auth/token/lookup-accessor", &json!({"accessor": accessor}));
        if found.expect_success()["data"]["path"] == "auth/approle/login" {
            vault.root().post("auth/token/revoke-accessor", &json!({"accessor": accessor})).expect_success();
        }
    }
    assert_eq!(read("secret/data/b").status, 200);
    assert_eq!(hit(&read("secret/data/a")), Some(false));
}

#[test]
fn scripts_that_clear_the_cache_of_vaults_proxy_clear_the_workloads_own_where_a_rule_says_so() {
    let Some(vault) = Vault::start() else { return };
    let children = json!({"tokens": {"policies": ["default"]}, "cache": "leases"});
    let rules = |control: &Value| json!([{"name": "children", "vault": children}, {"name": "scripts", "vault": control}]);
    let scene = Scene::of(&vault, rules(&json!({"control": ["cache-clear", "metrics"]})));
    let to = |method: &str, path: &str, body: &str| {
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        say(&scene.agent.socket(), text.as_bytes())
    };
    let make = || scene.ask("POST", "auth/token/create", &[], "{}");
    let clear = |body: &Value| to("PUT", "/agent/v1/cache-clear", &body.to_string()).status;
    let mut made = make();
    for (kind, at) in [("token", "client_token"), ("token_accessor", "accessor")] {
        assert_eq!(hit(&make()), Some(true));
        assert_eq!(clear(&json!({"type": kind, "value": made.json()["auth"][at]})), 200);
        made = make();
        assert_eq!(hit(&made), Some(false), "{kind}");
    }
    for (body, cleared) in [
        (json!({"type": "request_path", "value": "/v1/secret/"}), false),
        (json!({"type": "request_path", "value": "/v1/auth/", "namespace": "ns1"}), false),
        (json!({"type": "request_path", "value": "/v1/auth/token"}), true),
        (json!({"type": "lease", "value": "none"}), false),
        (json!({"type": "all"}), true),
    ] {
        assert_eq!(clear(&body), 200, "{body}");
        assert_eq!(hit(&make()), Some(!cleared), "{body}");
    }
    for body in ["{}", "no json", r#"{"type": "request_path"}"#, r#"{"type": "everything", "value": "x"}"#] {
        assert_eq!(to("POST", "/agent/v1/cache-clear", body).status, 400, "{body}");
    }
    let numbers = to("GET", "/proxy/v1/metrics", "");
    assert!(numbers.raw.contains("claviger_cache_entries{workload=\"job\"} 1"), "{numbers:?}");
    assert_eq!(to("POST", "/agent/v1/quit", "").status, 404);
    assert_eq!(to("GET", "/agent/v1/cache-clear", "").status, 405);
    let event =
        scene.agent.event("vault.called.v1", |event| event["resource"]["path"] == "agent/v1/cache-clear");
    assert_eq!(event["rule"]["name"], "scripts");
    // Through Vault's own API nothing of it is reached, and without the rule nothing at all.
    assert_eq!(scene.ask("PUT", "agent/v1/cache-clear", &[], r#"{"type": "all"}"#).status, 403);
    let scene = Scene::of(&vault, rules(&json!({"control": ["metrics"]})));
    let text =
        b"PUT /agent/v1/cache-clear HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(say(&scene.agent.socket(), text).status, 403);
}
