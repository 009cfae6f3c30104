//! The built agent rotates users of a real PostgreSQL, of Vault's own userpass and of an HTTP API, and serves what it made.

use crate::{
    database::Login,
    rig::{Agent, PROGRAM, Plan, output, printed, until},
};
use lab::{Postgres, Vault};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

/// What the identity of the tests may do beside reading.
const POLICY: &str = r#"
path "secret/data/orders" { capabilities = ["read", "create", "update"] }
path "secret/metadata/orders" { capabilities = ["read"] }
path "secret/delete/orders" { capabilities = ["update"] }
path "secret/data/rotation/*" { capabilities = ["read", "create", "update"] }
path "secret/metadata/rotation/*" { capabilities = ["read", "update"] }
path "auth/userpass/users/+/password" { capabilities = ["update"] }
path "auth/userpass/login/*" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
"#;

/// One line of JSON comes in; nothing of it is in an argument of a program.
const SET_PASSWORD: &str = r#"#!/bin/sh
read -r line
field() { printf '%s' "$line" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
act=$(field act) user=$(field user) value=$(field value)
sql() { PGPASSWORD=$2 PSQL -X -q -w -v ON_ERROR_STOP=1 -h 127.0.0.1 -p PORT -U "$1" -d postgres 2>&1; }
case $act in
set) echo "alter role \"$user\" login password '$value'" | sql postgres lab-superuser ;;
revoke) echo "alter role \"$user\" nologin" | sql postgres lab-superuser ;;
test)
    said=$(echo 'select 1' | sql "$user" "$value") && exit 0
    case $said in *"password authentication failed"* | *"not permitted to log in"*) exit 10 ;; esac
    echo "$said" >&2
    exit 1
    ;;
esac
"#;

/// A config with the secret `orders`, whose user and password the rotation changes.
pub(crate) fn plan(vault: &Vault, rotation: Value) -> Plan {
    let root = vault.root();
    let mut plan = Plan::new(vault);
    root.put("sys/policies/acl/ci-read", &json!({"policy": POLICY})).expect_success();
    if root.get("auth/approle/role/app").status == 200 {
        plan.approle_again(vault);
    } else {
        plan.approle(vault, json!({"token_ttl": "10m"}));
        let first = json!({"data": {"username": "orders_a", "password": "first", "host": "db"}});
        root.post("secret/data/orders", &first).expect_success();
    }
    plan.secret("orders", json!({"kind": "kv", "path": "secret/orders", "refresh": "1h"}));
    plan.config["vault"]["budget"] = json!({"calls_per_second": 100, "burst": 200});
    let mut whole = json!({
        "identity": "reports", "path": "secret/orders", "length": 24, "schedule": {"every": "4s"},
        "min_interval": "4s", "holder_ttl": "3s", "journal": {"mount": "secret", "path": "rotation"},
    });
    for (key, value) in rotation.as_object().unwrap() {
        whole[key] = value.clone();
    }
    plan.config["rotations"] = json!({"orders": whole});
    plan
}

pub(crate) fn two_slot(driver: Value) -> Value {
    json!({"kind": "two-slot", "users": ["orders_a", "orders_b"], "grace": "1s", "driver": driver})
}

pub(crate) fn exec(plan: &mut Plan, postgres: &Postgres) {
    let psql = postgres.programs().join("psql");
    let text = SET_PASSWORD.replace("PSQL", psql.to_str().unwrap());
    let program = plan.file("set-password", &text.replace("PORT", &postgres.port().to_string()));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    plan.config["rotations"]["orders"]["driver"] = json!({"exec": {"command": [program]}});
}

#[test]
fn two_users_of_a_database_take_turns_by_a_program_outside_the_sandbox() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    postgres.query("create role orders_a login password 'first'; create role orders_b").unwrap();
    let mut plan = plan(&vault, two_slot(json!({})));
    exec(&mut plan, &postgres);
    let agent = plan.start();
    let first = agent.generation("orders", 1);
    let second = agent.generation("orders", 2);
    assert_eq!((&second["data"]["username"], &second["data"]["host"]), (&json!("orders_b"), &json!("db")));
    assert!(Login::of(&second).works(&postgres));
    let revoked = agent.event("rotation.revoked.v1", |_| true);
    assert!(!Login::of(&first).works(&postgres), "its grace is over");
    assert_eq!(revoked["rotation"]["kind"], "two-slot");
    let words =
        ["started", "set", "promoted", "grace_ended", "revoked"].map(|word| format!("rotation.{word}.v1"));
    let events = agent.events();
    let of_run = events.iter().filter(|event| event["rotation"]["id"] == revoked["rotation"]["id"]);
    assert_eq!(of_run.map(|event| event["type"].as_str().unwrap()).collect::<Vec<_>>(), words);
    let third = agent.generation("orders", 3);
    assert_eq!(third["data"]["username"], "orders_a");
    assert!(Login::of(&third).works(&postgres));
    let config = agent.folder().join("claviger.yaml");
    let status =
        printed(Command::new(PROGRAM).args(["rotation", "status", "--json", "--config"]).arg(&config));
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["rotations"][0]["kind"], "two-slot");
    let stopped = agent.stop();
    assert!(stopped.events("rotation.failed.v1").is_empty(), "{:#?}", stopped.events("rotation.failed.v1"));
    for (place, bytes) in stopped.written() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for value in [&second, &third] {
            let password = value["data"]["password"].as_str().unwrap();
            assert!(!text.contains(password), "a value is in {}", place.display());
        }
    }
}

/// Keeps passwords in files, and a line of each change; the first change waits to be killed.
pub(crate) const SLOW: &str = r#"#!/bin/sh
cd FOLDER || exit 1
read -r line
field() { printf '%s' "$line" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
act=$(field act) user=$(field user) value=$(field value)
case $act in
set)
    echo "$value" >>sets
    mkdir first 2>/dev/null && sleep 600
    printf %s "$value" >"$user"
    ;;
revoke) rm -f "$user" ;;
test) [ "$(cat "$user" 2>/dev/null)" = "$value" ] || exit 10 ;;
esac
"#;

#[test]
fn a_holder_that_is_stopped_in_the_middle_changes_nothing_when_it_goes_on() {
    let Some(vault) = Vault::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("set-password");
    fs::write(&program, SLOW.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("orders_a"), "first").unwrap();
    let mut rotation = two_slot(json!({"exec": {"command": [program]}}));
    rotation["schedule"] = json!({"every": "1h"});
    let first = plan(&vault, rotation.clone()).start();
    let config = first.folder().join("claviger.yaml");
    let mut now = Command::new(PROGRAM);
    now.args(["rotation", "now", "orders", "--reason", "a test", "--config"]).arg(config);
    // There is no journal to write the wish into before the agent made it.
    until("a run that is asked for", || output(&mut now).status.success().then_some(()));
    let sets = || fs::read_to_string(folder.path().join("sets")).unwrap_or_default();
    until("the first change", || (!sets().is_empty()).then_some(()));
    first.signal(Signal::SIGSTOP);
    let second = plan(&vault, rotation).start();
    let taken = second.event("rotation.taken_over.v1", |_| true);
    let promoted = second.event("rotation.promoted.v1", |_| true);
    assert_eq!(taken["rotation"]["id"], promoted["rotation"]["id"], "one run, whoever works on it");
    let held = second.generation("orders", 2);
    let before = sets();
    first.signal(Signal::SIGCONT);
    // It finds out at its next step, and goes on as a reader.
    assert_eq!(first.generation("orders", 2)["data"], held["data"]);
    // Whoever of the two looks first when the grace is over ends the old password.
    let revoked = |agent: &Agent| agent.events().iter().any(|event| event["type"] == "rotation.revoked.v1");
    until("the end of the old password", || (revoked(&first) || revoked(&second)).then_some(()));
    assert_eq!(sets(), before, "it set nothing after it went on");
    let values: BTreeSet<&str> = before.lines().collect();
    assert_eq!(values.len(), 1, "a change that may have been made is made again with the same value");
    let password = held["data"]["password"].as_str().unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("orders_b")).unwrap(), password);
    let of =
        |agent: &Agent| agent.events().into_iter().filter(|it| it["type"] == "rotation.promoted.v1").count();
    assert_eq!((of(&first), of(&second)), (0, 1));
}

#[test]
fn a_person_goes_back_to_the_user_before_while_it_is_valid() {
    let Some(vault) = Vault::start() else { return };
    let driver = json!({"vault": {
        "set": {"path": "auth/userpass/users/{user}/password", "data": {"password": "{value}"}},
        "test": {"path": "auth/userpass/login/{user}", "data": {"password": "{value}"}},
    }});
    let mut rotation = two_slot(driver);
    (rotation["grace"], rotation["schedule"]) = (json!("30m"), json!({"every": "1h"}));
    userpass(&vault);
    let agent = plan(&vault, rotation).start();
    let rotation = |args: &[&str]| {
        let config = agent.folder().join("claviger.yaml");
        output(Command::new(PROGRAM).arg("rotation").args(args).arg("--config").arg(config))
    };
    let first = agent.generation("orders", 1);
    let early = rotation(&["rollback", "orders"]);
    assert_eq!(early.status.code(), Some(1), "{}", String::from_utf8_lossy(&early.stderr));
    let now = ["now", "orders", "--reason", "a test"];
    until("a run that is asked for", || rotation(&now).status.success().then_some(()));
    agent.generation("orders", 2);
    let back = ["rollback", "orders", "--reason", "nobody can log in"];
    until("the grace", || rotation(&back).status.success().then_some(()));
    let newest = vault.root().get("secret/data/orders").expect_success();
    assert_eq!(
        (&newest["data"]["data"], &newest["data"]["metadata"]["version"]),
        (&first["data"], &json!(3))
    );
    let told = agent.event("rotation.rolled_back.v1", |_| true)["rotation"].clone();
    assert_eq!(
        (&told["from_v"], &told["to_v"], &told["asked"]),
        (&json!(2), &json!(3), &json!("nobody can log in"))
    );
    let promoted = agent.event("rotation.promoted.v1", |event| event["rotation"]["id"] == told["id"]);
    assert_eq!(promoted["rotation"]["to_v"], 2, "it is the run that was gone back from");
    assert_eq!(agent.generation("orders", 3)["data"], first["data"], "and whoever asks gets it at once");
    let again = rotation(&["rollback", "orders"]);
    assert_eq!(again.status.code(), Some(1), "there is nothing more to go back to");
    let login = vault.root().post("auth/userpass/login/orders_a", &json!({"password": "first"}));
    assert_eq!(login.status, 200);
}

pub(crate) fn userpass(vault: &Vault) {
    let root = vault.root();
    root.post("sys/auth/userpass", &json!({"type": "userpass"})).expect_success();
    for user in ["orders_a", "orders_b"] {
        let body = json!({"password": "first", "token_ttl": "60s"});
        root.post(&format!("auth/userpass/users/{user}"), &body).expect_success();
    }
}

/// Keeps passwords in files; a change that is made goes on until it may end, or is killed.
const GATED: &str = r#"#!/bin/sh
cd FOLDER || exit 1
read -r line
field() { printf '%s' "$line" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
act=$(field act) user=$(field user) value=$(field value)
case $act in
set)
    printf %s "$value" >"$user.new" && mv "$user.new" "$user"
    until [ -e go ]; do sleep 0.05; done
    ;;
test) [ "$(cat "$user" 2>/dev/null)" = "$value" ] || exit 10 ;;
esac
"#;

#[test]
fn while_vault_is_sealed_between_the_change_and_the_promotion_reads_get_what_works() {
    let Some(vault) = Vault::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("set-password");
    fs::write(&program, GATED.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let password = folder.path().join("orders_a");
    fs::write(&password, "first").unwrap();
    let rotation = json!({
        "kind": "single", "user": "orders_a", "holder_ttl": "6s", "min_interval": "8s", "schedule": {"every": "8s"},
        "hold_max": "300ms",
        "driver": {"exec": {"command": [program]}},
    });
    let mut plan = plan(&vault, rotation);
    let forward =
        json!({"name": "own-api", "vault": {"identity": "reports", "paths": ["secret/data/orders"]}});
    plan.config["workloads"]["job"]["rules"].as_array_mut().unwrap().push(forward);
    let agent = plan.start();
    assert_eq!(agent.value("orders")["data"]["password"], "first");
    let own_api = || agent.ask("/v1/secret/data/orders");
    assert_eq!(own_api().json()["data"]["data"]["password"], "first");
    let now = || fs::read_to_string(&password).unwrap();
    until("the change", || (now() != "first").then_some(()));
    // Vault itself would hand it out.
    let dead = own_api();
    assert_eq!((dead.status, dead.header("retry-after").is_some()), (503, true), "{}", dead.text);
    vault.seal();
    fs::write(folder.path().join("go"), "").unwrap();
    let held = until("what works", || {
        let reply = agent.read("orders");
        (reply.status == 200).then(|| reply.json()).filter(|held| held["data"]["password"] == now())
    });
    assert_eq!((&held["generation"], &held["data"]["host"]), (&json!(2), &json!("db")));
    vault.unseal();
    agent.event("rotation.promoted.v1", |event| event["rotation"]["to_v"] == 2);
    let newest = vault.root().get("secret/data/orders?version=2").expect_success();
    assert_eq!(newest["data"]["data"], held["data"], "what was handed out before is what was promoted");
    until("the same by Vault's own API", || (own_api().status == 200).then_some(()));
    assert_eq!(own_api().json()["data"]["data"], held["data"]);
}

#[test]
fn nobody_is_handed_the_dead_password_of_a_single_user() {
    let Some(vault) = Vault::start() else { return };
    let Some(postgres) = Postgres::start() else { return };
    postgres.query("create role orders_a login password 'first'").unwrap();
    let mut plan = plan(&vault, json!({"kind": "single", "user": "orders_a"}));
    exec(&mut plan, &postgres);
    let agent = plan.start();
    let mut logins = 0;
    while agent.value("orders")["generation"].as_u64() < Some(4) {
        let held = agent.value("orders");
        if Login::of(&held).works(&postgres) {
            logins += 1;
            continue;
        }
        // The password was changed since it was read: whoever reads again has to wait, and gets another one.
        let again = agent.value("orders");
        assert_ne!(
            again["data"]["password"], held["data"]["password"],
            "a dead password was handed out again"
        );
    }
    assert!(logins > 3, "{logins} logins");
    let metrics = agent.health("/metrics").text;
    assert!(metrics.contains("rotation_gap_seconds_count{rotation=\"orders\"}"), "{metrics}");
    let stopped = agent.stop();
    assert!(stopped.events("rotation.failed.v1").is_empty(), "{:#?}", stopped.events("rotation.failed.v1"));
}

#[test]
fn users_of_vault_itself_take_turns() {
    let Some(vault) = Vault::start() else { return };
    userpass(&vault);
    let driver = json!({"vault": {
        "set": {"path": "auth/userpass/users/{user}/password", "data": {"password": "{value}"}},
        "test": {"path": "auth/userpass/login/{user}", "data": {"password": "{value}"}},
    }});
    let agent = plan(&vault, two_slot(driver)).start();
    let login = |held: &Value| {
        let path = format!("auth/userpass/login/{}", held["data"]["username"].as_str().unwrap());
        vault.root().post(&path, &json!({"password": held["data"]["password"]})).status == 200
    };
    let second = agent.generation("orders", 2);
    assert!(login(&second) && second["data"]["username"] == "orders_b");
    agent.event("rotation.revoked.v1", |_| true);
    assert!(!login(&json!({"data": {"username": "orders_a", "password": "first"}})));
    let third = agent.generation("orders", 3);
    assert!(login(&third));
    let stopped = agent.stop();
    assert!(stopped.events("rotation.failed.v1").is_empty(), "{:#?}", stopped.events("rotation.failed.v1"));
}

/// An API that has users and keys: all but GET /me and GET /whoami need the admin's key.
struct Api {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    users: BTreeMap<String, String>,
    /// By their numbers: names and values. There are two at most.
    keys: BTreeMap<usize, (String, String)>,
    made: usize,
}

const ADMIN: &str = "an-admin-key-of-32-characters-ok";

impl Api {
    fn start() -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let users = BTreeMap::from([("orders_a".to_owned(), "first".to_owned())]);
        let state = Arc::new(Mutex::new(State { users, ..State::default() }));
        let known = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let known = Arc::clone(&known);
                thread::spawn(move || serve(stream, &known));
            }
        });
        Api { port, state }
    }

    fn upstream(&self, plan: &mut Plan) {
        // No workload may read it, or call the API.
        plan.config["secrets"]["admin"] =
            json!({"identity": "reports", "kind": "kv", "path": "secret/admin", "field": "key"});
        plan.config["upstreams"] = json!({"users": {
            "url": format!("http://127.0.0.1:{}/v2", self.port), "insecure_http": true,
            "allow_cidrs": ["127.0.0.0/8"], "inject": {"secret": "admin", "header": "X-Admin"},
        }});
    }

    fn accepts(&self, held: &Value) -> bool {
        let (user, password) =
            (held["data"]["username"].as_str().unwrap(), held["data"]["password"].as_str());
        self.state.lock().unwrap().users.get(user).map(String::as_str) == password
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut head: Vec<String> = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
            head.push(std::mem::take(&mut line).trim_end().to_owned());
        }
        let Some(first) = head.first() else { return };
        let header = |name: &str| {
            head.iter().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let (status, body) = answer(&mut state.lock().unwrap(), first, &header, &body);
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", text.len());
        if stream.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(
    state: &mut State,
    line: &str,
    header: &dyn Fn(&str) -> Option<String>,
    body: &Value,
) -> (u16, Value) {
    let has_key = header("x-admin").as_deref() == Some(ADMIN);
    let parts: Vec<&str> = line.split(' ').collect();
    match (has_key, &parts[..2]) {
        (true, ["PUT", path]) => {
            let user = path.trim_start_matches("/v2/users/").to_owned();
            state.users.insert(user, body["password"].as_str().unwrap().to_owned());
            (200, Value::Null)
        }
        (false, ["GET", "/v2/me"]) => {
            let (user, password) = (header("x-user").unwrap(), header("x-password").unwrap());
            (if state.users.get(&user) == Some(&password) { 200 } else { 401 }, Value::Null)
        }
        (true, ["POST", "/v2/keys"]) if state.keys.len() < 2 => {
            state.made += 1;
            let (id, value) = (state.made, format!("value-{}", state.made));
            state.keys.insert(id, (body["name"].as_str().unwrap().to_owned(), value.clone()));
            (201, json!({"key": {"id": id, "secret": value}}))
        }
        (true, ["POST", "/v2/keys"]) => (422, json!({"error": "there are two"})),
        (true, ["GET", "/v2/keys"]) => {
            let key = |(id, (name, _)): (&usize, &(String, String))| json!({"id": id, "name": name});
            (200, json!({"keys": state.keys.iter().map(key).collect::<Vec<_>>()}))
        }
        (true, ["DELETE", path]) => {
            let id = path.trim_start_matches("/v2/keys/").parse().unwrap();
            (if state.keys.remove(&id).is_some() { 200 } else { 404 }, Value::Null)
        }
        (false, ["GET", "/v2/whoami"]) => {
            let bearer = header("authorization").unwrap_or_default();
            let known = state.keys.values().any(|(_, value)| bearer == format!("Bearer {value}"));
            (if known { 200 } else { 401 }, Value::Null)
        }
        _ => (500, Value::Null),
    }
}

#[test]
fn keys_that_an_api_mints_follow_one_another_and_there_are_never_more_than_two() {
    let Some(vault) = Vault::start() else { return };
    let api = Api::start();
    vault.root().post("secret/data/admin", &json!({"data": {"key": ADMIN}})).expect_success();
    let driver = json!({"http": {
        "upstream": "users",
        "mint": {"method": "POST", "path": "/keys", "body": {"name": "claviger-{rotation}-{id}"}},
        "minted": {"id": "/key/id", "value": "/key/secret"},
        "list": {"path": "/keys"}, "items": "/keys", "item": {"id": "/id", "label": "/name"},
        "delete": {"method": "DELETE", "path": "/keys/{key}"},
        "test": {"path": "/whoami", "headers": {"Authorization": "Bearer {value}"}},
    }});
    let rotation = json!({"kind": "issue", "field": "password", "id_field": "username", "grace": "1s", "driver": driver});
    let mut plan = plan(&vault, rotation);
    plan.config["rotations"]["orders"].as_object_mut().unwrap().remove("length");
    // The first one was made by hand, and its name is in the secret.
    vault
        .root()
        .post("secret/data/orders", &json!({"data": {"username": "", "password": "by hand"}}))
        .expect_success();
    api.upstream(&mut plan);
    let agent = plan.start();
    let works = |held: &Value| {
        let value = held["data"]["password"].as_str().unwrap();
        api.state.lock().unwrap().keys.values().any(|(_, known)| known == value)
    };
    let first = agent.generation("orders", 3);
    assert!(works(&first), "{first}");
    let second = agent.generation("orders", 4);
    assert!(works(&second), "{second}");
    agent.event("rotation.revoked.v1", |event| event["rotation"]["to_v"] == 4);
    assert!(!works(&first), "its grace is over");
    let stopped = agent.stop();
    assert!(stopped.events("rotation.failed.v1").is_empty(), "{:#?}", stopped.events("rotation.failed.v1"));
}

#[test]
fn users_of_an_api_take_turns_with_the_key_of_an_upstream() {
    let Some(vault) = Vault::start() else { return };
    let api = Api::start();
    vault.root().post("secret/data/admin", &json!({"data": {"key": ADMIN}})).expect_success();
    let driver = json!({"http": {
        "upstream": "users",
        "set": {"method": "PUT", "path": "/users/{user}", "body": {"password": "{value}"}},
        "test": {"path": "/me", "headers": {"X-User": "{user}", "X-Password": "{value}"}, "expect": [200], "refused": [401]},
    }});
    let mut plan = plan(&vault, two_slot(driver));
    api.upstream(&mut plan);
    let agent = plan.start();
    let second = agent.generation("orders", 2);
    assert!(api.accepts(&second) && second["data"]["username"] == "orders_b");
    agent.event("rotation.revoked.v1", |_| true);
    assert!(!api.accepts(&json!({"data": {"username": "orders_a", "password": "first"}})));
    let third = agent.generation("orders", 3);
    assert!(api.accepts(&third));
    let stopped = agent.stop();
    assert!(stopped.events("rotation.failed.v1").is_empty(), "{:#?}", stopped.events("rotation.failed.v1"));
}

#[test]
fn a_program_that_is_not_there_or_comes_while_the_agent_runs_is_refused() {
    let Some(vault) = Vault::start() else { return };
    let driver = json!({"exec": {"command": ["/no/such/program"]}});
    let plan = plan(&vault, two_slot(driver));
    let file = plan.file("claviger.yaml", &plan.config.to_string());
    let refused = output(Command::new(PROGRAM).arg("check").arg(&file));
    assert_eq!(refused.status.code(), Some(64));
    let said =
        String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("no program that can be executed is at /no/such/program"), "{said}");
    let mut plan = plan;
    plan.config["rotations"] = json!({});
    let mut agent = plan.start();
    agent.ready();
    agent.change(|config| {
        config["rotations"] = json!({"orders": {
            "kind": "single", "user": "orders_a", "identity": "reports", "path": "secret/orders",
            "schedule": {"every": "4s"}, "min_interval": "4s", "holder_ttl": "3s",
            "journal": {"mount": "secret", "path": "rotation"}, "driver": {"exec": {"command": ["/bin/true"]}},
        }});
    });
    let rejected = agent.event("config.rejected.v1", |_| true);
    assert!(rejected.to_string().contains("rotations.orders.driver"), "{rejected}");
}
