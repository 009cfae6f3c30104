//! Persons with logins of their own in one Vault, and agents that must ask them.

use crate::rig::{Agent, PROGRAM, Plan, Reply, output, until};
use lab::Vault;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Command, Output},
};

/// What the agent's identity needs beside reading.
const AGENT: &str = r#"
path "secret/data/approvals/*" { capabilities = ["create", "read", "update"] }
path "secret/metadata/approvals/*" { capabilities = ["list", "read"] }
path "secret/data/*" { capabilities = ["create", "read", "update"] }
path "transit/keys/approver-*" { capabilities = ["read"] }
path "transit/sign/approver-*" { capabilities = ["update"] }
"#;
/// What `claviger approve --help` says that an approver needs.
const APPROVER: &str = r#"
path "secret/metadata/approvals/*" { capabilities = ["list"] }
path "secret/data/approvals/+/+" { capabilities = ["read"] }
path "secret/data/approvals/+/{{identity.entity.id}}" { capabilities = ["create", "update", "read"] }
path "secret/data/approvals/+/owner" { capabilities = ["create", "update", "read"] }
path "transit/sign/approver-{{identity.entity.id}}" { capabilities = ["update"] }
"#;

/// Somebody with a login of their own.
pub(crate) struct Person {
    pub(crate) token: String,
    pub(crate) entity: String,
}

/// A Vault with the persons `lead` and `on-call`.
pub(crate) struct Scene {
    pub(crate) vault: Vault,
    pub(crate) lead: Person,
    pub(crate) on_call: Person,
}

impl Scene {
    pub(crate) fn start() -> Option<Scene> {
        let vault = Vault::start()?;
        let root = vault.root();
        root.post("sys/mounts/transit", &json!({"type": "transit"})).expect_success();
        root.post("sys/auth/userpass", &json!({"type": "userpass"})).expect_success();
        for (name, policy) in [("ci-read", AGENT), ("approver", APPROVER)] {
            root.put(&format!("sys/policies/acl/{name}"), &json!({"policy": policy})).expect_success();
        }
        let (lead, on_call) = (person(&vault, "lead"), person(&vault, "on-call"));
        Some(Scene { vault, lead, on_call })
    }

    /// A config whose one secret needs the approval `two`, which `settings` are added to.
    pub(crate) fn plan(&self, settings: Value) -> Plan {
        let mut plan = Plan::new(&self.vault);
        // `Plan::new` writes the one policy, the role has both.
        if self.vault.root().get("auth/approle/role/app").status == 200 {
            plan.approle_again(&self.vault);
        } else {
            plan.approle(&self.vault, json!({"token_ttl": "10m"}));
        }
        plan.stripe(&self.vault);
        let mut approval = json!({
            "kind": "signed", "store": {"mount": "secret", "path": "approvals"},
            "approvers": {"lead": {"entity_id": self.lead.entity}, "on-call": {"entity_id": self.on_call.entity}},
        });
        for (key, value) in settings.as_object().unwrap() {
            approval[key] = value.clone();
        }
        plan.config["approvals"] = json!({"two": approval});
        plan.config["workloads"]["job"]["rules"][0]["approval"] = json!("two");
        plan.config["vault"]["budget"] = json!({"calls_per_second": 100, "burst": 200});
        plan
    }

    /// What a person's command does.
    pub(crate) fn run(&self, token: &str, args: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(args).args(["--store", "secret/approvals"]).env_clear().env("HOME", "/nonexistent");
        command.env("PATH", "/usr/bin:/bin");
        output(command.env("VAULT_ADDR", self.vault.url()).env("VAULT_TOKEN", token))
    }

    /// The same, which must succeed; gives its answer.
    pub(crate) fn done(&self, person: &Person, args: &[&str]) -> String {
        let ran = self.run(&person.token, args);
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{args:?}: {out}{err}");
        out.into_owned()
    }

    pub(crate) fn approve(&self, person: &Person, id: &str) {
        self.done(person, &["approve", id, "--reason", "release 7"]);
    }

    /// What stands in the store.
    pub(crate) fn stored(&self, name: &str) -> Value {
        let place = format!("secret/data/approvals/{name}");
        self.vault.root().get(&place).expect_success()["data"]["data"].clone()
    }

    /// Puts something there, as somebody who may write everything.
    pub(crate) fn store(&self, name: &str, value: &Value) {
        let place = format!("secret/data/approvals/{name}");
        self.vault.root().post(&place, &json!({"data": value})).expect_success();
    }
}

fn person(vault: &Vault, name: &str) -> Person {
    let root = vault.root();
    let user = format!("auth/userpass/users/{name}");
    root.post(&user, &json!({"password": "pw", "token_policies": ["approver"]})).expect_success();
    let login = format!("auth/userpass/login/{name}");
    let auth = vault.client("").post(&login, &json!({"password": "pw"})).expect_success()["auth"].clone();
    let word = |key: &str| auth[key].as_str().unwrap().to_owned();
    let person = Person { token: word("client_token"), entity: word("entity_id") };
    make_key(vault, &person.entity);
    person
}

/// Makes the transit key of an entity.
pub(crate) fn make_key(vault: &Vault, entity: &str) {
    let key = format!("transit/keys/approver-{entity}");
    vault.root().post(&key, &json!({"type": "ed25519"})).expect_success();
}

/// Its public half.
pub(crate) fn public_key(vault: &Vault, entity: &str) -> Value {
    let key = vault.root().get(&format!("transit/keys/approver-{entity}")).expect_success();
    key["data"]["keys"]["1"]["public_key"].clone()
}

/// Reads the secret, which must wait for a person; gives the request's id.
pub(crate) fn pending(agent: &Agent) -> String {
    let reply = until("a request that waits", || {
        let reply = agent.read("stripe");
        // Its identity logs in first.
        (reply.status != 503).then_some(reply)
    });
    assert_eq!((reply.status, &reply.json()["reason"]), (202, &json!("approval_pending")), "{reply:?}");
    reply.json()["approval_id"].as_str().unwrap().to_owned()
}

/// Reads the secret until it is no longer said to wait.
pub(crate) fn decided(agent: &Agent) -> Reply {
    until("an end of the waiting", || Some(agent.read("stripe")).filter(|reply| reply.status != 202))
}

/// How a request stands, as soon as it is so.
pub(crate) fn stands(agent: &Agent, id: &str, state: &str) -> Value {
    until(state, || {
        let reply = agent.ask(&format!("/approvals/{id}"));
        (reply.status == 200 && reply.json()["state"] == state).then(|| reply.json())
    })
}

/// Sends one request with a body.
pub(crate) fn send(agent: &Agent, method: &str, target: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: claviger\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut raw = String::new();
    stream.read_to_string(&mut raw).unwrap();
    let (head, text) = raw.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(text).unwrap_or_else(|_| json!(text)))
}
