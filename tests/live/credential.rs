//! The built agent rotates users of a real PostgreSQL, of Vault's own userpass and of an HTTP API, and serves what it made.

use crate::{
    database::Login,
    rig::{PROGRAM, Plan, output, printed},
};
use lab::{Postgres, Vault};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
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
fn plan(vault: &Vault, rotation: Value) -> Plan {
    let root = vault.root();
    let mut plan = Plan::new(vault);
    root.put("sys/policies/acl/ci-read", &json!({"policy": POLICY})).expect_success();
    plan.approle(vault, json!({"token_ttl": "10m"}));
    let first = json!({"data": {"username": "orders_a", "password": "first", "host": "db"}});
    root.post("secret/data/orders", &first).expect_success();
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

fn two_slot(driver: Value) -> Value {
    json!({"kind": "two-slot", "users": ["orders_a", "orders_b"], "grace": "1s", "driver": driver})
}

fn exec(plan: &mut Plan, postgres: &Postgres) {
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
    let root = vault.root();
    root.post("sys/auth/userpass", &json!({"type": "userpass"})).expect_success();
    for user in ["orders_a", "orders_b"] {
        let body = json!({"password": "first", "token_ttl": "60s"});
        root.post(&format!("auth/userpass/users/{user}"), &body).expect_success();
    }
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

/// An API that has users: PUT /users/NAME with the admin's key, GET /me as a user.
struct Api {
    port: u16,
    users: Arc<Mutex<BTreeMap<String, String>>>,
}

const ADMIN: &str = "an-admin-key-of-32-characters-ok";

impl Api {
    fn start() -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let users = Arc::new(Mutex::new(BTreeMap::from([("orders_a".to_owned(), "first".to_owned())])));
        let known = Arc::clone(&users);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let known = Arc::clone(&known);
                thread::spawn(move || serve(stream, &known));
            }
        });
        Api { port, users }
    }

    fn accepts(&self, held: &Value) -> bool {
        let (user, password) =
            (held["data"]["username"].as_str().unwrap(), held["data"]["password"].as_str());
        self.users.lock().unwrap().get(user).map(String::as_str) == password
    }
}

fn serve(stream: TcpStream, users: &Mutex<BTreeMap<String, String>>) {
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
        let status = match first.split(' ').collect::<Vec<_>>()[..] {
            ["PUT", path, _] if header("x-admin").as_deref() == Some(ADMIN) => {
                let body: Value = serde_json::from_slice(&body).unwrap();
                let user = path.trim_start_matches("/v2/users/").to_owned();
                users.lock().unwrap().insert(user, body["password"].as_str().unwrap().to_owned());
                204
            }
            ["GET", "/v2/me", _] if header("x-admin").is_none() => {
                let (user, password) = (header("x-user").unwrap(), header("x-password").unwrap());
                if users.lock().unwrap().get(&user) == Some(&password) { 200 } else { 401 }
            }
            _ => 500,
        };
        let reason = if status == 204 { "" } else { "Content-Length: 0\r\n" };
        if write!(stream, "HTTP/1.1 {status} X\r\n{reason}\r\n").is_err() {
            return;
        }
    }
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
    // No workload may read it, or call the API.
    plan.config["secrets"]["admin"] =
        json!({"identity": "reports", "kind": "kv", "path": "secret/admin", "field": "key"});
    plan.config["upstreams"] = json!({"users": {
        "url": format!("http://127.0.0.1:{}/v2", api.port), "insecure_http": true, "allow_cidrs": ["127.0.0.0/8"],
        "inject": {"secret": "admin", "header": "X-Admin"},
    }});
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
