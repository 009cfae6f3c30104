//! A claviger that sends Vault's API on with a token that may do anything, so that nothing but claviger stands between it and a
//! workload; and requests, byte by byte.

use crate::rig::{Agent, Plan, until};
use lab::Vault;
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// The only end of a wait for an answer that does not come.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) token: String,
    pub(crate) accessor: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) raw: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        let text = self.raw.split_once("\r\n\r\n").map_or("", |(_, text)| text);
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A token that may do anything.
pub(crate) fn make_token(vault: &Vault) -> (String, String) {
    let all =
        r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }"#;
    vault.root().put("sys/policies/acl/anything", &json!({"policy": all})).expect_success();
    let made = vault.root().post("auth/token/create", &json!({"policies": ["anything"], "ttl": "1h"}));
    let auth = made.expect_success()["auth"].clone();
    let text = |name: &str| auth[name].as_str().unwrap().to_owned();
    (text("client_token"), text("accessor"))
}

impl Scene {
    /// With these rules for Vault's API beside one of no consequence.
    pub(crate) fn of(vault: &Vault, rules: Value) -> Scene {
        let (token, accessor) = make_token(vault);
        let mut plan = Plan::new(vault);
        let file = plan.file("token", &token);
        plan.identity(json!({"method": "token_file", "token_file": file}));
        plan.config["workloads"]["job"]["rules"] = rules;
        let agent = plan.start();
        agent.ready();
        Scene { agent, token, accessor }
    }

    /// With the widest rules that a config can have.
    pub(crate) fn wide(vault: &Vault) -> Scene {
        Scene::of(vault, json!([{"name": "wide", "vault": wide()}]))
    }

    /// The same, where answers may be wrapped for five minutes.
    pub(crate) fn wrapping(vault: &Vault) -> Scene {
        let mut wide = wide();
        wide["wrap"] = "5m".into();
        Scene::of(vault, json!([{"name": "wide", "vault": wide}]))
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Said {
        ask(&self.agent.socket(), method, path, headers, body)
    }

    pub(crate) fn read(&self, path: &str) -> Said {
        self.ask("GET", path, &[], "")
    }

    /// The events about Vault's API, as soon as there are `count`.
    pub(crate) fn events(&self, count: usize) -> Vec<Value> {
        let mut found = Vec::new();
        until(&format!("{count} events"), || {
            let events = self.agent.events().into_iter();
            found = events.filter(|event| event["type"].as_str().unwrap().starts_with("vault.")).collect();
            (found.len() >= count).then_some(())
        });
        found
    }
}

fn wide() -> Value {
    let paths = ["secret/*", "auth/*", "sys/*", "identity/*", "database/*", "ns1/*", "sys/mounts/*"];
    json!({"paths": paths, "methods": ["GET", "LIST", "POST", "PATCH", "DELETE"]})
}

pub(crate) fn ask(socket: &Path, method: &str, path: &str, headers: &[&str], body: &str) -> Said {
    let target = if path.starts_with("http") { path.to_owned() } else { format!("/v1/{path}") };
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let text = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}Connection: close\r\n\r\n{body}"
    );
    say(socket, text.as_bytes())
}

/// Sends bytes as they are, and reads to the end.
pub(crate) fn say(socket: &Path, bytes: &[u8]) -> Said {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // A server that has already refused it may not read all.
    let _ = stream.write_all(bytes);
    let mut raw = Vec::new();
    let _ = stream.read_to_end(&mut raw);
    let raw = String::from_utf8_lossy(&raw).into_owned();
    let status = raw.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Said { status, raw }
}
